f=$1
if [ ! -e "$f" ]; then
  d=$f; while [ ! -e "$d" ]; do d=${d%/*}; d=${d:-/}; done
  [ -d "$d" ] && [ ! -x "$d" ] && exit 93
  exit 91
fi
[ -d "$f" ] && exit 92; [ -f "$f" ] || exit 94; [ -r "$f" ] || exit 93
u=cat; case $f in *.gz) u=gzip;; *.bz2) u=bzip2;; *.xz) u=xz;; *.zst) u=zstd;; esac
command -v $u >/dev/null 2>&1 || { echo $u >&2; exit 95; }
[ $u = cat ] || u="$u -dc"
r=; for s in .1 .1.gz .1.zst .0; do [ -e "$f$s" ] && r=$s && break; done
echo "$(stat -L -c '%s %Y' "$f" 2>/dev/null || echo '- -') ${r:--}"
if [ "$4" != 0 ]; then
  command -v timeout >/dev/null 2>&1 || exit 96
  exec timeout "$4" tail -n "$2" -F "$f"
elif [ -n "$3" ]; then $u <"$f" | grep -aiF -e "$3" | tail -n "$2" | tail -c 1000000
elif [ "$u" = cat ]; then tail -n "$2" <"$f" | tail -c 1000000
else $u <"$f" | tail -n "$2" | tail -c 1000000; fi
