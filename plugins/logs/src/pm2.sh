of() { tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n "s/^$1=//p"; }
pid=$(cat "${PM2_HOME:-$HOME/.pm2}/pm2.pid" 2>/dev/null); kill -0 "$pid" 2>/dev/null || pid=
# As get_services_status finds them: a daemon with a folder of its own, a pm2 from nvm. Not so by root, whom anybody could show another PATH.
if [ "$(id -u)" != 0 ]; then
  [ -n "$pid" ] || for f in $(grep -l '^PM2 v[^:]*: God' /proc/[0-9]*/cmdline 2>/dev/null); do
    f=${f%/cmdline}; [ -O "$f" ] && pid=${f#/proc/} && break
  done
  if [ -n "$pid" ]; then
    path=$(of PATH); PATH=$PATH${path:+:$path}
    folder=$(of PM2_HOME); [ -z "$folder" ] || export PM2_HOME="$folder"
  fi
fi
command -v pm2 >/dev/null 2>&1 || exit 90
[ -n "$pid" ] || exit 91
exec pm2 logs "$1" --lines "$2" "$3" --nostream
