# A Debian host on which nothing is installed but an OpenSSH server, and which has no systemd running. $1 is where it is built.
set -eu
root=$1
mmdebstrap --quiet --variant=minbase --include=openssh-server bookworm "$root"
echo lab-bare >"$root/etc/hostname"
printf '127.0.0.1 localhost lab-bare\n' >"$root/etc/hosts"
cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'X'
ListenAddress 127.0.0.12
Port 2222
PermitRootLogin prohibit-password
MaxStartups 100:30:200
X
printf '#!/bin/sh\nmkdir -p /run/sshd\ntouch /lab-ready\nexec /usr/sbin/sshd -D -e\n' >"$root/start"
chmod 755 "$root/start"
