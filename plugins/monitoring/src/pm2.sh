# As the PM2 daemon $pid was: so one of nvm is found. Not so by root, whom anybody could show another PATH.
of() { tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n "s/^$1=//p"; }
if [ "$(id -u)" != 0 ]; then
  path=$(of PATH); PATH=$PATH${path:+:$path}
  folder=$(of PM2_HOME); [ -z "$folder" ] || export PM2_HOME="$folder"
fi
command -v pm2 >/dev/null 2>&1 || exit 90
pm2 jlist | node -e '
let text = ""; process.stdin.on("data", (part) => text += part).on("end", () => {
  const list = text.split("\n").find((line) => line.startsWith("["));
  for (const { name, pid, pm2_env, monit } of JSON.parse(list)) {
    const { status, restart_time, pm_uptime, namespace } = pm2_env, { memory, cpu } = monit || {};
    const uptime = status === "online" ? Math.round((Date.now() - pm_uptime) / 1000) : null;
    const app = { name, namespace, status, pid, restarts: restart_time, uptime_seconds: uptime, memory_bytes: memory, cpu_percent: cpu / require("os").cpus().length };
    console.log(JSON.stringify(app));
  }
})'
