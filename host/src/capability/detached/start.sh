mask=$(umask); umask 077; here=$(pwd)
mkdir -p "$d" || return 1
put() { cat >"$d/$1.$$" && mv "$d/$1.$$" "$d/$1"; }
if [ ! -e "$d/taken" ]; then
  printf '%s' "$command" | put cmd && printf '%s' "$input" | put stdin && printf '%s\n' "$setup" | put setup &&
    printf '%s\n' "$supervisor" | put run && export -p | put env || return 1
  i=$(id -u)
  if [ "$i" = 0 ]; then scope=--system; else scope=--user; : "${XDG_RUNTIME_DIR:=/run/user/$i}"; export XDG_RUNTIME_DIR; fi
  begun=
  if [ -d /run/systemd/system ] && { [ "$i" = 0 ] || [ -e "/var/lib/systemd/linger/$(id -un)" ]; } &&
    systemd-run $scope --quiet --collect --property=KillMode=process --unit="mcp-orchestrator-$name" -- \
      /bin/sh "$d/run" "$d" "systemd$scope" "$mask" "$here" </dev/null >/dev/null 2>&1
  then begun=1
  elif setsid --help 2>&1 | grep -q -e --fork; then
    setsid --fork sh "$d/run" "$d" setsid "$mask" "$here" </dev/null >/dev/null 2>&1 && begun=1
  elif command -v setsid >/dev/null 2>&1; then
    setsid sh "$d/run" "$d" setsid "$mask" "$here" </dev/null >/dev/null 2>&1 & begun=1
  fi
  [ -n "$begun" ] || (trap '' HUP; exec sh "$d/run" "$d" nohup "$mask" "$here") </dev/null >/dev/null 2>&1 &
fi
up && say up "$how"
