base=${XDG_STATE_HOME:-${HOME:-/nonexistent}/.cache}/mcp-orchestrator/jobs
d=$base/$name
say() { printf '\036%s %s\n' "$nonce" "$*"; }
born() {
  if [ -r "/proc/$1/stat" ]; then
    { read -r s <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${s##*) }
    [ "$1" != Z ] && echo "${20}"
  else
    s=$(ps -o lstart= -p "$1" 2>/dev/null) && [ -n "$s" ] && echo "$s" | tr -s ' :' _
  fi
}
boot() {
  { { read -r s </proc/sys/kernel/random/boot_id; } 2>/dev/null || s=$(sysctl -n kern.boottime 2>/dev/null | tr -cd 0-9); } || s=
  echo "${s:-unknown}.$(born 1)"
}
known() { pid=; { read -r pid since booted how begun group <"$d/pid"; } 2>/dev/null; [ -n "$pid" ]; }
alive() { [ "$(born "$pid")" = "$since" ] && [ "$(boot)" = "$booted" ]; }
size() { stat -c %s "$1" 2>/dev/null || wc -c <"$1" 2>/dev/null | tr -cd 0-9 || echo 0; }
nap() { sleep 0.2 2>/dev/null || sleep 1; }
up() {
  i=0
  until known; do
    [ -e "$d/void" ] && { say void; return 1; }
    i=$((i + 1)); [ $i -gt 25 ] && { say waiting; return 1; }
    nap
  done
}
