command -v podman >/dev/null 2>&1 || exit 90
# Without root podman would make a storage, and a process that stays, for a user who has none.
[ "$(id -u)" = 0 ] || [ -d "${XDG_DATA_HOME:-$HOME/.local/share}/containers/storage" ] || exit 91
podman ps --all --format '{{.Names}}\t{{.Image}}\t{{.Status}}\t{{.Ports}}'
