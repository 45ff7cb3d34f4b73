//! Brings a client to a daemon of its own kind: the one that is there, one that it starts, or one that takes the place of
//! another.

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use super::identity::Verdict;
use super::protocol::{PROTOCOL, Status};
use super::{DaemonError, Identity, Link, start};
use crate::config::Settings;

/// How often a daemon may end under our hands before we give up.
const ATTEMPTS: usize = 5;

/// A session with the daemon that carries MCP from now on.
#[derive(Debug)]
pub struct Session {
    pub(super) stream: BufReader<UnixStream>,
    /// The daemon's process.
    pub(super) pid: u32,
}

/// Finds or starts the daemon of the settings' data directory. `tell` hears what the operator should know, in a sentence.
pub fn attach(settings: &Settings, tell: impl Fn(&str)) -> Result<Session, DaemonError> {
    let directory = &settings.data_dir;
    let ours = Identity::of(settings);
    let mut content = false;
    for _ in 0..ATTEMPTS {
        let Some(link) = Link::open(directory)? else {
            start::start(directory)?;
            continue;
        };
        let pid = link.pid();
        match ours.judge(&link.greeting) {
            Verdict::GiveWay { reason } if !content => {
                let theirs = link.version().to_owned();
                let protocol = link.greeting.protocol;
                if let Some(status) = link.replace()? {
                    let reason = format!("{reason}, and it is in use ({})", in_use(status));
                    if protocol != PROTOCOL {
                        return Err(DaemonError::OtherProtocol { theirs, pid, reason });
                    }
                    tell(&format!(
                        "the daemon {theirs} (pid {pid}) goes on serving: {reason}; run `mcp-orchestrator daemon stop` \
                         and start again to change that"
                    ));
                    content = true;
                }
            }
            _ => {
                if let Some(stream) = link.session()? {
                    return Ok(Session { stream, pid });
                }
            }
        }
    }
    Err(DaemonError::Unsettled { log: directory.join("logs") })
}

fn in_use(status: Status) -> String {
    format!("clients: {}, jobs pending or running: {}", status.clients, status.jobs)
}
