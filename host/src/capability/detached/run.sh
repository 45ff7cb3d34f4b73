d=$1; how=$2
umask 077
mkdir "$d/taken" || exit 0
trap : INT TERM HUP
nonce=; name=${d##*/}
COMMON
d=$1
group=$$
[ "$how" = nohup ] && group=$(ps -o pgid= -p $$ | tr -cd 0-9)
: >>"$d/out" && : >>"$d/err" || exit 1
echo "$$ $(born $$) $(boot) $how $(date +%s) $group" >"$d/pid.new" && mv "$d/pid.new" "$d/pid" || exit 1
(
  . "$d/env"
  cd -- "$4"
  umask "$3"
  . "$d/setup" || exit 1
  exec "${SHELL:-/bin/sh}" "$d/cmd"
) <"$d/stdin" >>"$d/out" 2>>"$d/err"
code=$?
echo "$code $(date +%s)" >"$d/exit.new" && mv "$d/exit.new" "$d/exit"
