//! Starts a daemon, as one of perhaps many clients that want to.
//!
//! What the daemon says while it starts is said by the client, word by word: until it is ready its standard error is ours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{DaemonError, Link};

/// How long a daemon may take to become ready. Waiting for an earlier one to leave counts, so does repairing a database.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns when there is a daemon to connect to.
pub(super) fn start(directory: &Path) -> Result<(), DaemonError> {
    // One client starts a daemon and the others wait here, then find it. The lock is on the directory itself, so that there
    // is no file to leave behind. Each holder is bounded by `PATIENCE`.
    let turn = File::open(directory).map_err(DaemonError::io("open", directory))?;
    turn.lock().map_err(DaemonError::io("lock", directory))?;
    if Link::open(directory)?.is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(DaemonError::io("find", "the program's own file"))?;
    let mut child = Command::new(&program)
        .arg("--data-dir")
        .arg(directory)
        .args(["daemon", "run", "--detach"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(DaemonError::io("start", program))?;
    let (said_all, all_said) = mpsc::channel();
    let stderr = child.stderr.take();
    // Ends with the pipe, which the daemon lets go when it is ready or dead.
    std::thread::spawn(move || {
        if let Some(stderr) = stderr {
            repeat(stderr);
        }
        let _ = said_all.send(());
    });
    if all_said.recv_timeout(PATIENCE).is_err() {
        return Err(DaemonError::NotReady { limit: PATIENCE, log: directory.join("logs") });
    }
    // The child only hands over to the daemon, which is no child of ours.
    child.wait().map_err(DaemonError::io("wait for", directory))?;
    match Link::open(directory)? {
        Some(_) => Ok(()),
        None => Err(DaemonError::NotStarted),
    }
}

/// Says what the daemon says.
fn repeat(mut from: ChildStderr) {
    let mut buffer = [0; 4096];
    while let Ok(read) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        // A client that does not listen loses nothing: the log has it too.
        let _ = io::stderr().write_all(bytes);
    }
}
