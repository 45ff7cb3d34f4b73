umask 077
[ -d "$d" ] || { say absent; return; }
if mkdir "$d/taken" 2>/dev/null; then : >"$d/void"; fi
up || return
lives() {
  alive && return 0
  [ -r /proc/self/stat ] || { kill -0 -- "-$group" 2>/dev/null; return; }
  for q in /proc/[0-9]*; do
    { read -r s <"$q/stat"; } 2>/dev/null || continue
    set -- ${s##*) }
    [ "$3" = "$group" ] && [ "$1" != Z ] && return 0
  done
  return 1
}
send() {
  kill -s "$1" -- "-$group" 2>/dev/null
  case $how in systemd--user) systemctl --user kill -s "$1" "mcp-orchestrator-$name" 2>/dev/null ;;
  systemd--system) systemctl kill -s "$1" "mcp-orchestrator-$name" 2>/dev/null ;; esac
}
[ "$(boot)" = "$booted" ] || { say stopped -; return; }
alive || { say stopped -; return; }
sent=
for signal in INT TERM KILL; do
  send $signal; sent=$sent${sent:+,}$signal
  for i in 1 2 3 4 5 6 7 8; do
    lives || { say stopped "$sent"; return; }
    nap
  done
done
say alive "$sent"
