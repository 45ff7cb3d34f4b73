//! The daemon's lock, `daemon.lock` in the data directory: held from before the socket is bound until the process has ended.
//! It holds the daemon's pid, for people and for messages.
//!
//! The database has a lock of its own, which a standalone process takes too. This one tells daemons apart from those, and
//! lets a new daemon wait for one that is leaving.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{DaemonError, Link};

/// How long a new daemon waits for one that is leaving: longer than that one's farewell takes.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it looks. A file lock cannot be waited for with a limit.
const PACE: Duration = Duration::from_millis(20);

/// Held for as long as the process lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock. Waits for a daemon that is leaving; fails with [`DaemonError::Running`] when there is one that stays.
    pub fn take(directory: &Path) -> Result<Lock, DaemonError> {
        let path = path(directory);
        let mut file = open(&path)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(DaemonError::io("lock", path)(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(link) = Link::open(directory)? {
                return Err(DaemonError::Running { directory: directory.to_owned(), pid: link.greeting.pid });
            }
            if started.elapsed() > PATIENCE {
                let pid = holder(directory);
                return Err(DaemonError::Silent { directory: directory.to_owned(), pid, limit: PATIENCE });
            }
            std::thread::sleep(PACE);
        }
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(DaemonError::io("write", path))?;
        Ok(Lock { _file: file })
    }

    /// The pid of the process that holds the lock, if one does.
    pub fn held_by(directory: &Path) -> Option<u32> {
        let file = File::open(path(directory)).ok()?;
        matches!(file.try_lock(), Err(TryLockError::WouldBlock)).then(|| holder(directory)).flatten()
    }
}

/// Waits, not for long, until a daemon that has said farewell has let go of the lock.
pub(super) fn released(directory: &Path, pid: u32) {
    let started = Instant::now();
    while Lock::held_by(directory) == Some(pid) && started.elapsed() < PATIENCE {
        std::thread::sleep(PACE);
    }
}

/// The pid that the file tells.
pub(super) fn holder(directory: &Path) -> Option<u32> {
    std::fs::read_to_string(path(directory)).ok()?.trim().parse().ok()
}

fn path(directory: &Path) -> PathBuf {
    directory.join("daemon.lock")
}

fn open(path: &Path) -> Result<File, DaemonError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(DaemonError::io("open", path))
}
