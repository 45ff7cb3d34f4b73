//! Brings a client to a daemon of its own kind: the one that is there, one that it starts, or one that takes the place of
//! another.

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use super::identity::Verdict;
use super::protocol::{PROTOCOL, Status};
use super::{DaemonError, Identity, Link, start};
use crate::config::Settings;

/// How often a daemon may end under our hands before we give up.
const ATTEMPTS: usize = 8;
/// How many daemons we take the place of. More would mean that what is compared never becomes the same.
const REPLACED: usize = 2;

/// A session with the daemon that carries MCP from now on.
#[derive(Debug)]
pub struct Session {
    pub(super) stream: BufReader<UnixStream>,
    /// The daemon's process.
    pub(super) pid: u32,
}

impl Session {
    /// The connection itself, for who speaks MCP over it without a client behind.
    pub fn into_stream(self) -> BufReader<UnixStream> {
        self.stream
    }
}

/// Finds or starts the daemon of the settings' data directory. `tell` hears what the operator should know, in a sentence.
pub fn attach(settings: &Settings, tell: impl Fn(&str)) -> Result<Session, DaemonError> {
    let directory = &settings.data_dir;
    let ours = Identity::of(settings);
    let mut replaced = 0;
    let mut told = false;
    for _ in 0..ATTEMPTS {
        let Some(link) = Link::open(directory)? else {
            start::start(directory)?;
            continue;
        };
        let pid = link.pid();
        if let Verdict::GiveWay { reason } = ours.judge(&link.greeting)
            && !told
        {
            let (theirs, protocol) = (link.version().to_owned(), link.greeting.protocol);
            let reason = match replaced < REPLACED {
                true => match link.replace()? {
                    Some(status) => format!("{reason}, and it is in use ({})", in_use(status)),
                    None => {
                        replaced += 1;
                        continue;
                    }
                },
                false => reason,
            };
            if protocol != PROTOCOL {
                return Err(DaemonError::OtherProtocol { theirs, pid, reason });
            }
            tell(&format!(
                "the daemon {theirs} (pid {pid}) goes on serving: {reason}; run `mcp-orchestrator daemon stop` and start \
                 again to change that"
            ));
            told = true;
            // The request that was made used up the connection.
            continue;
        }
        if let Some(stream) = link.session()? {
            return Ok(Session { stream, pid });
        }
    }
    Err(DaemonError::Unsettled { log: directory.join("logs") })
}

fn in_use(status: Status) -> String {
    format!("clients: {}, jobs pending or running: {}", status.clients, status.jobs)
}
