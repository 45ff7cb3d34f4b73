//! Opens the channel of a place, or takes the one that was opened ahead.
//!
//! Not who gets a place (`places`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use russh::Channel;
use russh::client::Msg;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Inner;
use super::places::Place;
use crate::ssh::bounds::Bounds;
use crate::ssh::error::{Endpoint, SshError, Step};
use crate::ssh::lease::Lease;
use crate::ssh::session::Session;

/// A connection that does not answer a channel open within this time gets no more of them.
pub const CHANNEL_LIMIT: Duration = Duration::from_secs(15);

/// Which channel.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A command (RFC 4254, 6.1).
    Session,
    /// A connection of the server's to another place (RFC 4254, 7.2).
    Tcp { host: String, port: u16 },
}

/// Why no channel came of a place.
pub enum Trouble {
    /// The call has ended.
    Out(SshError),
    Refused {
        place: Place<Session>,
        cause: russh::Error,
    },
    Dead {
        place: Place<Session>,
        cause: russh::Error,
    },
    /// The server does not connect to where it was asked to: no fault of the place.
    Unreachable(russh::Error),
}

/// A channel and its place.
pub struct Opened {
    pub at: Arc<Endpoint>,
    pub channel: Channel<Msg>,
    pub place: Place<Session>,
}

/// Opens the channel. When the caller goes away in between, the channel that may still come is closed.
pub async fn open(
    at: &Arc<Endpoint>,
    mut place: Place<Session>,
    wanted: &Wanted,
    bounds: &Bounds,
    pool: &Inner,
) -> Result<Opened, Trouble> {
    let session = place.connection().clone();
    if matches!(wanted, Wanted::Tcp { .. }) && !session.was_heard_within(pool.settings.trusted_silence) {
        place = answers(at, place, bounds).await?;
    }
    // One that was opened ahead is for a command; it stays with the place.
    let spare = if matches!(wanted, Wanted::Session) { place.spare.take() } else { None };
    let (silence, far) = (pool.settings.trusted_silence, pool.settings.far);
    let asked = wanted.clone();
    let open = Box::pin(async move {
        if let Wanted::Tcp { host, port } = asked {
            return session.open_tcp(&host, port).await;
        }
        if let Some(spare) = spare
            && let Some(channel) = spare.ready(&session, silence).await
        {
            return Ok(channel);
        }
        session.open_channel().await
    });
    let mut pending = Pending { at: at.clone(), parts: Some((open, place)), tracker: pool.tracker.clone(), far };
    // How long a server takes to connect further says nothing of the connection to itself.
    let (limit, step) = match wanted {
        Wanted::Session => (bounds.within(CHANNEL_LIMIT), Step::Channel),
        Wanted::Tcp { .. } => (bounds.clone(), Step::Forward),
    };
    let opened = match limit.step(at, step, pending.wait()).await {
        Ok(opened) => opened,
        // The call's own end.
        Err(error @ SshError::Cancelled { .. }) => return Err(Trouble::Out(error)),
        Err(error) if limit.deadline == bounds.deadline => return Err(Trouble::Out(error)),
        // Silence. What runs on the connection may go on, but nothing new is tried on it.
        Err(_) => {
            return match pending.take_place() {
                Some(place) => Err(Trouble::Dead { place, cause: russh::Error::ConnectionTimeout }),
                None => Err(Trouble::Out(SshError::PoolClosed { at: at.clone() })),
            };
        }
    };
    let Some((_, place)) = pending.parts.take() else {
        return Err(Trouble::Out(SshError::PoolClosed { at: at.clone() }));
    };
    match opened {
        // Only sessions tell how many of them the server allows.
        Ok(channel) => {
            if matches!(wanted, Wanted::Session) {
                place.succeeded();
            }
            Ok(Opened { at: at.clone(), channel, place })
        }
        Err(cause @ russh::Error::ChannelOpenFailure(_)) if matches!(wanted, Wanted::Tcp { .. }) => {
            Err(Trouble::Unreachable(cause))
        }
        Err(cause @ russh::Error::ChannelOpenFailure(_)) => Err(Trouble::Refused { place, cause }),
        Err(cause) => Err(Trouble::Dead { place, cause }),
    }
}

/// Has a connection that was silent for long answer first: a dead one must not look like a place behind it that is down.
async fn answers(at: &Arc<Endpoint>, place: Place<Session>, bounds: &Bounds) -> Result<Place<Session>, Trouble> {
    let limit = bounds.within(CHANNEL_LIMIT);
    let ping = limit.step(at, Step::Channel, place.connection().ping()).await;
    match ping {
        Ok(Ok(())) => Ok(place),
        Ok(Err(cause)) => Err(Trouble::Dead { place, cause }),
        Err(error @ SshError::Cancelled { .. }) => Err(Trouble::Out(error)),
        Err(error) if limit.deadline == bounds.deadline => Err(Trouble::Out(error)),
        Err(_) => Err(Trouble::Dead { place, cause: russh::Error::ConnectionTimeout }),
    }
}

type OpenFuture = Pin<Box<dyn Future<Output = Result<Channel<Msg>, russh::Error>> + Send>>;

/// A channel that was asked for. The server may open it after the caller has gone, and it would stay open for ever: so the
/// drop goes on waiting for it in a task, and closes it.
struct Pending {
    at: Arc<Endpoint>,
    parts: Option<(OpenFuture, Place<Session>)>,
    tracker: TaskTracker,
    far: Option<Duration>,
}

impl Pending {
    async fn wait(&mut self) -> Result<Channel<Msg>, russh::Error> {
        match &mut self.parts {
            Some((open, _)) => open.await,
            None => Err(russh::Error::Inconsistent),
        }
    }

    fn take_place(&mut self) -> Option<Place<Session>> {
        self.parts.take().map(|(_, place)| place)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some((open, place)) = self.parts.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let (at, tracker, far) = (self.at.clone(), self.tracker.clone(), self.far);
        self.tracker.spawn_on(
            async move {
                if let Ok(Ok(channel)) = timeout(CHANNEL_LIMIT, open).await {
                    drop(Lease::new(at, channel, place, tracker, far));
                }
            },
            &runtime,
        );
    }
}
