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

/// Returns when there is a daemon to connect to, or one was there and has left again already.
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
        let _ = said_all.send(stderr.is_some_and(repeat));
    });
    let Ok(said) = all_said.recv_timeout(PATIENCE) else {
        return Err(DaemonError::NotReady { limit: PATIENCE, log: directory.join("logs") });
    };
    // The child only hands over to the daemon, which is no child of ours.
    child.wait().map_err(DaemonError::io("wait for", directory))?;
    match Link::open(directory)? {
        // A daemon that cannot start says why. One that said nothing was stopped as soon as it was there.
        None if said => Err(DaemonError::NotStarted),
        _ => Ok(()),
    }
}

/// Says what the daemon says. Returns whether that was anything.
fn repeat(mut from: ChildStderr) -> bool {
    let mut buffer = [0; 4096];
    let mut said = false;
    while let Ok(read) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        said = true;
        // A client that does not listen loses nothing: the log has it too.
        let _ = io::stderr().write_all(bytes);
    }
    said
}
