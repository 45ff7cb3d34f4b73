command -v pm2 >/dev/null 2>&1 || exit 90
p=$(cat "${PM2_HOME:-$HOME/.pm2}/pm2.pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null || exit 91
exec pm2 logs "$1" --lines "$2" "$3" --nostream
