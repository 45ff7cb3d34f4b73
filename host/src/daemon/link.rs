//! A connection to the daemon, from the greeting to the one request that is made over it. Blocking: a bridge has no runtime.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{self, Greeting, MAX_LINE, Reply, Request, Status};
use super::{DaemonError, lock, socket};

/// How long the daemon may take for a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the daemon may take to end: its farewell to jobs and servers is bounded, with some room for a slow disk.
pub(super) const FAREWELL: Duration = Duration::from_secs(20);

/// The daemon on the other end, which has greeted.
#[derive(Debug)]
pub struct Link {
    stream: BufReader<UnixStream>,
    directory: PathBuf,
    pub(super) greeting: Greeting,
}

impl Link {
    /// Connects to the daemon of a data directory. `None` when there is none, or one that is leaving.
    pub fn open(directory: &Path) -> Result<Option<Link>, DaemonError> {
        let Some(stream) = socket::connect(directory)? else { return Ok(None) };
        stream.set_read_timeout(Some(PATIENCE)).map_err(DaemonError::Talk)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(DaemonError::Talk)?;
        let mut link =
            Link { stream: BufReader::new(stream), directory: directory.to_owned(), greeting: Greeting::default() };
        let Some(greeting) = link.read()? else { return Ok(None) };
        link.greeting = greeting;
        Ok(Some(link))
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.greeting.pid
    }

    /// The daemon's version.
    pub fn version(&self) -> &str {
        &self.greeting.version
    }

    /// Asks how the daemon is doing. `None` when it is leaving.
    pub fn status(mut self) -> Result<Option<Status>, DaemonError> {
        Ok(match self.ask(Request::Status)? {
            Some(Reply::Status(status)) => Some(status),
            _ => None,
        })
    }

    /// Asks to be served. `None` when the daemon is leaving. Otherwise the connection carries MCP from now on.
    pub(super) fn session(mut self) -> Result<Option<BufReader<UnixStream>>, DaemonError> {
        match self.ask(Request::Session)? {
            Some(Reply::Session) => {}
            _ => return Ok(None),
        }
        let stream = self.stream.get_ref();
        stream.set_read_timeout(None).map_err(DaemonError::Talk)?;
        stream.set_write_timeout(None).map_err(DaemonError::Talk)?;
        Ok(Some(self.stream))
    }

    /// Asks the daemon to end and waits until it has. Returns what it left; `None` when it was leaving anyway.
    pub fn stop(self) -> Result<Option<Status>, DaemonError> {
        match self.farewell(Request::Stop)? {
            Some(Reply::Stopping(status)) => Ok(Some(status)),
            _ => Ok(None),
        }
    }

    /// Asks the daemon to end if nobody needs it, and waits until it has. `Some` is what keeps it.
    pub(super) fn replace(self) -> Result<Option<Status>, DaemonError> {
        match self.farewell(Request::Replace)? {
            Some(Reply::Busy(status)) => Ok(Some(status)),
            _ => Ok(None),
        }
    }

    fn farewell(mut self, request: Request) -> Result<Option<Reply>, DaemonError> {
        let reply = self.ask(request)?;
        if matches!(reply, Some(Reply::Stopping(_)) | None) {
            self.stream.get_ref().set_read_timeout(Some(FAREWELL)).map_err(DaemonError::Talk)?;
            // The daemon holds this connection until everything else has ended: the end of the stream is its farewell.
            match self.stream.read_to_end(&mut Vec::new()) {
                Err(error) if is_timeout(error.kind()) => {
                    return Err(DaemonError::StillThere { pid: self.greeting.pid, limit: FAREWELL });
                }
                _ => {}
            }
            // It closes its connections a moment before it lets go of its lock.
            lock::released(&self.directory, self.greeting.pid);
        }
        Ok(reply)
    }

    fn ask(&mut self, request: Request) -> Result<Option<Reply>, DaemonError> {
        match self.stream.get_mut().write_all(&protocol::line(&request)) {
            Err(error) if is_end(error.kind()) => return Ok(None),
            other => other.map_err(DaemonError::Talk)?,
        }
        self.read()
    }

    /// The next line. `None` when the other side has closed instead.
    fn read<T: for<'a> serde::Deserialize<'a>>(&mut self) -> Result<Option<T>, DaemonError> {
        let mut line = Vec::new();
        match (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            Err(error) if is_end(error.kind()) => return Ok(None),
            Err(error) if is_timeout(error.kind()) => {
                let pid = lock::holder(&self.directory);
                return Err(DaemonError::Silent { directory: self.directory.clone(), pid, limit: PATIENCE });
            }
            other => other.map_err(DaemonError::Talk)?,
        };
        let foreign = |reason| DaemonError::Foreign { path: socket::path(&self.directory), reason };
        protocol::parse(&line).map(Some).map_err(foreign)
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
