# A Debian host as many are: systemd, journald, sshd, sudo, cron, nginx, fail2ban, PM2, a Docker engine and Podman. $1 is where it is built.
set -eu
root=$1
mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,dbus-user-session,openssh-server,fail2ban,procps,iproute2,nftables,iptables,python3-systemd,curl,sudo,cron,nginx-light,docker.io,podman,uidmap,nodejs,ca-certificates,busybox-static,zsh,fish,tcsh,ksh bookworm "$root"
echo lab-debian >"$root/etc/hostname"
printf '127.0.0.1 localhost lab-debian\n' >"$root/etc/hosts"

# npm is a large package of Debian's; the one of this machine puts PM2 in its place.
npm install --silent --no-audit --no-fund --prefix "$root/opt/pm2" pm2@7
ln -s /opt/pm2/node_modules/.bin/pm2 "$root/usr/local/bin/pm2"

cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'X'
ListenAddress 127.0.0.11
Port 2222
PermitRootLogin prohibit-password
MaxStartups 100:30:200
X
rm "$root/etc/nginx/sites-enabled/default"
echo 'server { listen 127.0.0.11:8080; root /var/www/html; }' >"$root/etc/nginx/conf.d/lab.conf"
cat >"$root/etc/fail2ban/jail.local" <<'X'
[DEFAULT]
banaction = dummy
banaction_allports = dummy
bantime = 1d
[sshd]
enabled = true
backend = systemd
[nginx-http-auth]
enabled = true
backend = polling
logpath = /var/log/nginx/error.log
X
mkdir -p "$root/etc/docker" "$root/etc/systemd/system/docker.service.d"
# Where the machine forwards no packets, a container may not make it do so.
echo '{"storage-driver":"vfs","iptables":false,"ip6tables":false,"ip-forward":false,"bridge":"none"}' >"$root/etc/docker/daemon.json"
# Where the machine has the first version of cgroups, a container sees them read-only.
cat >"$root/etc/systemd/system/docker.service.d/lab.conf" <<'X'
[Service]
ExecStartPre=-/bin/sh -c 'for d in /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$d"; done'
X

# ops looks after the host: sudo without a password, docker, PM2. ada has sudo with a password, and nothing else.
chroot "$root" sh -euc '
useradd -m -s /bin/bash -G docker,adm,systemd-journal ops
useradd -m -s /bin/bash -G sudo ada
printf "ops:engine\nada:engine\n" | chpasswd
echo "ops ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/ops
mkdir -p /var/lib/systemd/linger
touch /var/lib/systemd/linger/ops
systemctl --quiet enable docker fail2ban nginx cron ssh
'
# One user for each login shell, with its name. busybox is the shell that it is called as.
ln -s busybox "$root/bin/ash"
printf '%s\n' /bin/ash >>"$root/etc/shells"
for shell in sh bash zsh fish tcsh ksh ash; do chroot "$root" useradd -m -s "/bin/$shell" "$shell"; done
mkdir -p "$root/opt/image/bin" "$root/home/ops/.config/systemd/user/default.target.wants"
cp "$root/bin/busybox" "$root/opt/image/bin/busybox"
for applet in sh sleep echo true false; do ln -s busybox "$root/opt/image/bin/$applet"; done
echo 'setInterval(() => console.log("tick"), 1000)' >"$root/home/ops/web.js"
echo 'console.error("boom"); process.exit(1)' >"$root/home/ops/crasher.js"
# On a busy machine it takes longer than the second in which PM2 expects an app to fail that it gives up.
cat >"$root/home/ops/apps.json" <<'X'
{"apps": [
  {"name": "web", "script": "/home/ops/web.js"},
  {"name": "crasher", "script": "/home/ops/crasher.js", "max_restarts": 2, "min_uptime": 600000}
]}
X
printf '[Service]\nExecStart=/bin/false\n' >"$root/etc/systemd/system/broken.service"
printf '[Service]\nExecStart=/bin/false\n' >"$root/home/ops/.config/systemd/user/offline.service"
ln -s ../offline.service "$root/home/ops/.config/systemd/user/default.target.wants/offline.service"

cat >"$root/usr/local/sbin/lab-setup" <<'X'
#!/bin/sh
# What runs on the host is made anew at each boot.
set -eu
# Whoever waits for this host is told why it does not come.
trap '[ $? = 0 ] || { journalctl -q --no-pager -o cat -n 40 -u docker -u lab-setup >/lab-failed.new; mv /lab-failed.new /lab-failed; }' EXIT
docker rm -f healthy sick job >/dev/null 2>&1 || true
docker image inspect lab:1 >/dev/null 2>&1 || tar -C /opt/image -c . | docker import - lab:1
docker run -d --network none --name healthy --health-cmd true --health-interval 1s lab:1 sleep 1000000
docker run -d --network none --name sick --health-cmd false --health-interval 1s --health-retries 1 lab:1 sleep 1000000
docker run --network none --name job lab:1 sh -c 'echo done; echo oops >&2; exit 3' || [ $? = 3 ]
sudo -iu ops sh -c 'pm2 kill; pm2 start apps.json' </dev/null
systemctl start broken || true
# Each new process of this host ends at the limits of its machine, which Podman would raise.
podman rm -af >/dev/null
podman image exists lab:1 || tar -C /opt/image -c . | podman import - lab:1
podman run --runtime runc --network none --ulimit host --name batch lab:1 sh -c 'exit 4' || [ $? = 4 ]
until fail2ban-client ping; do sleep 0.2; done
for address in 192.0.2.1 192.0.2.77 2001:db8::1; do fail2ban-client set sshd banip $address; done
until docker inspect -f '{{.State.Health.Status}}' healthy | grep -q ^healthy; do sleep 0.2; done
until docker inspect -f '{{.State.Health.Status}}' sick | grep -q unhealthy; do sleep 0.2; done
until sudo -iu ops pm2 jlist | grep -q errored; do sleep 0.2; done
touch /lab-ready
X
chmod 755 "$root/usr/local/sbin/lab-setup"
cat >"$root/etc/systemd/system/lab-setup.service" <<'X'
[Unit]
After=docker.service fail2ban.service ssh.service
[Service]
Type=exec
ExecStart=/usr/local/sbin/lab-setup
[Install]
WantedBy=multi-user.target
X
chroot "$root" sh -euc 'systemctl --quiet enable lab-setup; chown -R ops: /home/ops'
