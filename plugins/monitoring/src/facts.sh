cg=/sys/fs/cgroup
for f in /etc/os-release /usr/lib/os-release /etc/passwd /proc/loadavg /proc/uptime /proc/meminfo /proc/mounts \
  /proc/pressure/cpu /proc/pressure/io /proc/pressure/memory \
  $cg/memory.max $cg/memory.current $cg/memory.stat $cg/cpu.max \
  $cg/memory/memory.limit_in_bytes $cg/memory/memory.usage_in_bytes $cg/memory/memory.stat \
  $cg/cpu/cpu.cfs_quota_us $cg/cpu/cpu.cfs_period_us
do [ -r $f ] && echo "==> $f" && cat $f && echo; done 2>/dev/null
echo "==> uname"; uname -srm
