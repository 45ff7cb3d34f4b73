command -v podman >/dev/null 2>&1 || exit 127
# Without root podman would make a storage, and a process that stays, for a user who has none and so no container.
[ "$(id -u)" = 0 ] || [ -d "${XDG_DATA_HOME:-$HOME/.local/share}/containers/storage" ] || { echo 'no such container' >&2; exit 125; }
exec podman "$@"
