//! The daemon's side: accepts connections, greets, and serves each client until it goes.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lobby::Lobby;
use super::protocol::{self, MAX_LINE, Reply, Request};
use super::{DaemonError, Identity, socket};
use crate::jobs::Jobs;
use crate::mcp;
use crate::tools::Registry;

/// How long the other side may take for its one line.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long clients get to read their last answers when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(6);
/// How long to wait when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// The socket, bound and not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: std::os::unix::net::UnixListener,
    directory: PathBuf,
}

impl Listener {
    /// Binds the socket of a data directory, whose lock the caller holds. From now on clients can connect.
    pub fn bind(directory: &Path) -> Result<Listener, DaemonError> {
        let listener = socket::bind(directory)?;
        listener.set_nonblocking(true).map_err(DaemonError::Talk)?;
        Ok(Listener { listener, directory: directory.to_owned() })
    }
}

/// Serves until `stop` fires, by a signal, on request, or after `idle` without clients and work.
pub async fn serve(
    listener: Listener,
    identity: Identity,
    registry: Arc<Registry>,
    jobs: Jobs,
    idle: Option<Duration>,
    stop: CancellationToken,
) -> Result<(), DaemonError> {
    let Listener { listener, directory } = listener;
    let listener = UnixListener::from_std(listener).map_err(DaemonError::Talk)?;
    let lobby = Lobby::new(jobs, idle, stop.clone());
    let sessions = TaskTracker::new();
    let accepting = accept(&listener, &identity, &registry, &lobby, &sessions, &stop);
    tokio::select! {
        () = stop.cancelled() => {}
        () = lobby.rest() => {}
        () = accepting => {}
    }
    // First of all, so that who comes now starts a daemon of its own instead of waiting for us.
    socket::remove(&directory)?;
    drop(listener);
    sessions.close();
    if timeout(FAREWELL, sessions.wait()).await.is_err() {
        tracing::warn!("clients were cut off: they did not read their last answers in time");
    }
    Ok(())
}

async fn accept(
    listener: &UnixListener,
    identity: &Identity,
    registry: &Arc<Registry>,
    lobby: &Arc<Lobby>,
    sessions: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "a client could not be accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let visit =
            Visit { identity: identity.clone(), registry: registry.clone(), lobby: lobby.clone(), stop: stop.clone() };
        let sessions = sessions.clone();
        // The visit itself is short or waits for the end of the process; the session in it is what is waited for.
        tokio::spawn(async move {
            if let Err(error) = visit.attend(stream, &sessions).await {
                tracing::warn!(%error, "a client was turned away or lost");
            }
        });
    }
}

/// One connection.
struct Visit {
    identity: Identity,
    registry: Arc<Registry>,
    lobby: Arc<Lobby>,
    stop: CancellationToken,
}

impl Visit {
    async fn attend(self, stream: UnixStream, sessions: &TaskTracker) -> Result<(), DaemonError> {
        let uid = socket::peer(stream.as_fd()).map_err(DaemonError::Talk)?;
        if !socket::is_us(uid) {
            return Err(DaemonError::Stranger { path: "the other end of the socket".into(), uid });
        }
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        write.write_all(&protocol::line(&self.identity.greeting())).await.map_err(DaemonError::Talk)?;
        let mut line = Vec::new();
        let mut bounded = (&mut read).take(MAX_LINE);
        match timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await {
            // Whoever only looks whether somebody is here asks for nothing.
            Err(_) | Ok(Ok(0)) => return Ok(()),
            Ok(read) => read.map_err(DaemonError::Talk)?,
        };
        let foreign = |reason| DaemonError::Foreign { path: "the other end of the socket".into(), reason };
        let request = protocol::parse(&line).map_err(foreign)?;
        let (reply, guest) = match request {
            Request::Session => match self.lobby.enter() {
                Some(guest) => (Reply::Session, Some(guest)),
                // The end of the stream says that we are leaving.
                None => return Ok(()),
            },
            Request::Status => (Reply::Status(self.lobby.status()), None),
            Request::Stop => (Reply::Stopping(self.lobby.stop()), None),
            Request::Replace => match self.lobby.stop_if_unused() {
                Ok(status) => (Reply::Stopping(status), None),
                Err(status) => (Reply::Busy(status), None),
            },
        };
        write.write_all(&protocol::line(&reply)).await.map_err(DaemonError::Talk)?;
        if let Reply::Stopping(_) = reply {
            tracing::info!("asked to end by another process of ours");
            // The connection stays until the process ends: that is how the other side learns of it.
            return std::future::pending().await;
        }
        let Some(guest) = guest else { return Ok(()) };
        let number = guest.number;
        tracing::info!(client = number, "a client has come");
        let session = mcp::serve(self.registry, read, write, Some(number), self.stop);
        let served = sessions.track_future(session).await;
        drop(guest);
        tracing::info!(client = number, "a client has gone");
        if let Err(error) = served {
            tracing::warn!(client = number, %error, "the session ended badly");
        }
        Ok(())
    }
}
