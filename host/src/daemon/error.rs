//! What can go wrong between a client's process and the daemon, by step and subject.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the daemon could not be reached, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("could not {step} {path}: {source}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "could not listen on {path}: {source}; where the file system has no sockets, start with --standalone or set MCP_DATA_DIR to a directory on another one"
    )]
    Listen { path: PathBuf, source: io::Error },
    #[error("{path} belongs to another user (uid {uid}), so nothing is said to whoever listens there")]
    Stranger { path: PathBuf, uid: u32 },
    #[error(
        "the daemon of {directory}{} does not answer within {limit:?}; end that process and try again",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Silent { directory: PathBuf, pid: Option<u32>, limit: Duration },
    #[error("could not talk to the daemon: {0}")]
    Talk(#[source] io::Error),
    #[error("what listens on {path} is no daemon of ours: {reason}")]
    Foreign { path: PathBuf, reason: String },
    #[error("the daemon did not start: the reason stands above")]
    NotStarted,
    #[error("the daemon was started and did not become ready within {limit:?}; see {log}")]
    NotReady { limit: Duration, log: PathBuf },
    #[error("no daemon stays for long enough to be talked to; see {log}")]
    Unsettled { log: PathBuf },
    #[error(
        "a daemon of version {theirs} (pid {pid}) is running, {reason}; close its other clients or run `mcp-orchestrator daemon stop`, then start again"
    )]
    OtherProtocol { theirs: String, pid: u32, reason: String },
    #[error("a daemon (pid {pid}) owns {directory} already: see `mcp-orchestrator daemon status`")]
    Running { directory: PathBuf, pid: u32 },
    #[error("the daemon (pid {pid}) was asked to stop and has not ended after {limit:?}; end that process")]
    StillThere { pid: u32, limit: Duration },
    #[error("the daemon (pid {pid}) has ended or was stopped; start this server again to go on with its jobs")]
    Lost { pid: u32 },
}

impl DaemonError {
    pub(super) fn io(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DaemonError {
        let path = path.into();
        move |source| DaemonError::Io { step, path, source }
    }
}
