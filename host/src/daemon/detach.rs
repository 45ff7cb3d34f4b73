//! Leaving the client that started us: no terminal, no parent, none of its files.
//!
//! Done by the daemon itself, as the first thing in its life and in this order, while the process has one thread.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::DaemonError;

/// Goes on in a process that is no child of the caller's; the calling process ends here.
///
/// Clients end the servers that they started together with all their descendants, and work must outlive that.
///
/// Must be called before any thread is started.
pub fn detach() -> Result<(), DaemonError> {
    close_inherited();
    // A new session has no terminal and gets none of its signals.
    let _ = rustix::process::setsid();
    // SAFETY: there is one thread, so that no lock is held by another one that the child would not have.
    match unsafe { libc::fork() } {
        -1 => Err(DaemonError::io("start", "a process for the daemon")(io::Error::last_os_error())),
        0 => Ok(()),
        // Without the usual end: what is buffered or to be dropped belongs to the child now.
        // SAFETY: it only ends the process.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Closes what came from the client besides the standard streams: somebody may wait for the end of one of its pipes.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else { return };
    let open: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in open {
        // SAFETY: nothing in this process has opened a file yet; the one that listed the folder is closed already, and
        // closing it again is an error without effect.
        unsafe { libc::close(fd) };
    }
}

/// Lets go of the client's standard error: what is still written there, such as a panic, goes to `logs/daemon.stderr`,
/// which begins anew with each daemon.
pub fn leave_terminal(directory: &Path) -> Result<(), DaemonError> {
    let logs = directory.join("logs");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&logs).map_err(DaemonError::io("create", &logs))?;
    let path = logs.join("daemon.stderr");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(DaemonError::io("open", &path))?;
    // SAFETY: both descriptors are open. Standard error stays open throughout: it becomes another file in one step.
    match unsafe { libc::dup2(file.as_raw_fd(), 2) } {
        -1 => Err(DaemonError::io("write standard error to", path)(io::Error::last_os_error())),
        _ => Ok(()),
    }
}
