//! The socket in the data directory: where it is, who may use it, and who is on its other end.
//!
//! An address of a Unix socket holds about a hundred bytes, and a data directory may have a longer path. So a process goes
//! into the directory and uses the bare name; that works everywhere and leaves nothing behind in another place.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::DaemonError;

/// The socket's name in the data directory.
const NAME: &str = "orchestrator.sock";

pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Makes the data directory this process's own, for as long as it binds or connects.
fn inside<T>(directory: &Path, act: impl FnOnce() -> io::Result<T>) -> Result<io::Result<T>, DaemonError> {
    std::env::set_current_dir(directory).map_err(DaemonError::io("go into", directory))?;
    let done = act();
    // No process of ours keeps a directory busy, and no path of ours is relative.
    std::env::set_current_dir("/").map_err(DaemonError::io("go into", "/"))?;
    Ok(done)
}

/// Listens on the socket, with mode 0600. The caller holds the daemon's lock: what is there is left over from a process that
/// was killed.
pub(super) fn bind(directory: &Path) -> Result<UnixListener, DaemonError> {
    remove(directory)?;
    // Between `bind` and a `chmod` anybody could connect, so it is born with its mode. The mask is the process's own for a
    // moment; a file that another thread makes meanwhile gets fewer rights, not more.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = inside(directory, || UnixListener::bind(NAME));
    rustix::process::umask(mask);
    bound?.map_err(|source| DaemonError::Listen { path: path(directory), source })
}

pub(super) fn remove(directory: &Path) -> Result<(), DaemonError> {
    match std::fs::remove_file(path(directory)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DaemonError::io("remove", path(directory))(error)),
        _ => Ok(()),
    }
}

/// A connection to whoever listens; `None` when nobody does.
pub(super) fn connect(directory: &Path) -> Result<Option<UnixStream>, DaemonError> {
    let stream = match inside(directory, || UnixStream::connect(NAME))? {
        Ok(stream) => stream,
        // A socket that nobody listens on is left over from a process that was killed.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(DaemonError::io("connect to", path(directory))(error)),
    };
    let uid = peer(rustix::fd::AsFd::as_fd(&stream)).map_err(DaemonError::Talk)?;
    match is_us(uid) {
        true => Ok(Some(stream)),
        false => Err(DaemonError::Stranger { path: path(directory), uid }),
    }
}

pub(super) fn is_us(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw()
}

/// The user on the other end, as the kernel noted it when the connection was made.
#[cfg(target_os = "linux")]
pub(super) fn peer(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `size` bytes into `found`, which is that large.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut size,
        )
    };
    if done == 0 { Ok(found.uid) } else { Err(io::Error::last_os_error()) }
}

/// The user on the other end, as the kernel noted it when the connection was made.
#[cfg(not(target_os = "linux"))]
pub(super) fn peer(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is open, and both places are valid for the call.
    let done = unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if done == 0 { Ok(uid) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_of_a_pair_is_us() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(is_us(peer(rustix::fd::AsFd::as_fd(&one)).unwrap()));
        assert!(!is_us(rustix::process::geteuid().as_raw() + 1));
    }
}
