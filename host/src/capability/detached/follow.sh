[ -d "$d" ] || { say absent; return; }
up || return
now=$(date +%s); last=$((now + life)); idle=0
piece() {
  all=$(size "$d/$2"); n=$((all - $3))
  [ "$3" -ge "$limit" ] && n=0
  [ $n -gt 262144 ] && n=262144
  [ $n -gt 0 ] || { n=0; return; }
  moved=1
  say "$1" $n
  tail -c "+$(($3 + 1))" "$d/$2" | head -c $n
}
while :; do
  over=; [ -e "$d/exit" ] && over=1
  [ -n "$over" ] || alive || { [ -e "$d/exit" ] || over=2; }
  moved=
  piece out out "$out"; out=$((out + n)); outs=$all
  piece err err "$err"; err=$((err + n)); errs=$all
  [ -n "$moved" ] && idle=0
  if [ -z "$moved" ] && [ -n "$over" ]; then
    if [ $over = 1 ]; then read -r code ended <"$d/exit"; say ended "$code" "$begun" "$ended" "$outs" "$errs"
    elif [ "$(boot)" = "$booted" ]; then say gone killed "$begun" "$outs" "$errs"
    else say gone rebooted "$begun" "$outs" "$errs"
    fi
    return
  fi
  [ "$(date +%s)" -ge $last ] && { say more; return; }
  [ -n "$moved" ] && continue
  idle=$((idle + 1))
  if [ $idle -lt 15 ]; then nap; else sleep 1; fi
done
