# A small host as routers and appliances are: busybox, dropbear, and nothing else. $1 is where it is built.
set -eu
root=$1
mmdebstrap --quiet --variant=extract --include=busybox-static,dropbear-bin,libc6,libcrypt1 bookworm "$root"
for applet in $(chroot "$root" /bin/busybox --list); do
  [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
mkdir -p "$root/etc/dropbear" "$root/root/.ssh" "$root/tmp" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/var/log"
chmod 700 "$root/root" "$root/root/.ssh"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:*:19000:0:99999:7:::' >"$root/etc/shadow"
echo 'root:x:0:' >"$root/etc/group"
echo /bin/sh >"$root/etc/shells"
printf 'ID=busybox\nNAME=busybox\nPRETTY_NAME=busybox\n' >"$root/etc/os-release"
echo lab-busybox >"$root/etc/hostname"
chroot "$root" /usr/bin/dropbearkey -t ed25519 -f /etc/dropbear/key | grep ^ssh- >"$root/etc/dropbear/key.pub"
cat >"$root/start" <<'X'
#!/bin/sh
touch /lab-ready
exec /usr/sbin/dropbear -F -E -s -r /etc/dropbear/key -p 127.0.0.13:2222
X
chmod 755 "$root/start"
