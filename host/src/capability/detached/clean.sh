rm -rf -- "$d"
[ -e "$d" ] && return 1
rmdir "$base" 2>/dev/null
say clean
