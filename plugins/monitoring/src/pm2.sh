command -v pm2 >/dev/null 2>&1 || exit 90
p=$(cat "${PM2_HOME:-$HOME/.pm2}/pm2.pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null || exit 91
pm2 jlist | node -e '
let text = ""; process.stdin.on("data", (part) => text += part).on("end", () => {
  const list = text.split("\n").find((line) => line.startsWith("["));
  for (const { name, pid, pm2_env, monit } of JSON.parse(list)) {
    const { status, restart_time, pm_uptime, namespace } = pm2_env, { memory, cpu } = monit || {};
    const uptime = status === "online" ? Math.round((Date.now() - pm_uptime) / 1000) : null;
    console.log(JSON.stringify({ name, namespace, status, pid, restarts: restart_time, uptime_seconds: uptime, memory_bytes: memory, cpu_percent: cpu }));
  }
})'
