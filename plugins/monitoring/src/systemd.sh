units() { systemctl "$@" list-units --all --full --plain --no-legend --no-pager; }
units; end=$?
echo '==> user'; units --user 2>&1; echo "==> $?"
exit $end
