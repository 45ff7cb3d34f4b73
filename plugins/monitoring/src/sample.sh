exec 2>/dev/null; LC_ALL=C; export LC_ALL
cpu() { echo "==> cpu$1"; grep ^cpu /proc/stat; }
processes() { echo "==> processes$1"; cat /proc/[0-9]*/stat | sed -n 's/^\([0-9]* (.*)\) . \([-0-9]* \)\{10\}\([0-9]* [0-9]*\) \([-0-9]* \)\{6\}\([0-9]*\) [0-9]* \([-0-9]*\) .*/\1 \3 \5 \6/p'; }
echo "==> page"; grep -m1 KernelPageSize /proc/self/smaps
echo "==> users"; grep -H ^Uid: /proc/[0-9]*/status | sed 's|^/proc/\([0-9]*\)[^0-9]*\([0-9]*\).\([0-9]*\).*|\1 \3|'
processes 1; cpu 1; sleep 0.5 || sleep 1; cpu 2; processes 2
