//! A session channel on a pooled connection, for as long as somebody needs it.

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::error::Endpoint;
use super::pool::{Next, Place};
use super::session::{ServerKey, Session};

/// How long it may take to hand the goodbye to the connection's task, which stands still while somebody does not read.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A channel and its place in the pool. Dropping it closes the channel, at any moment, and gives the place back.
pub struct Lease {
    at: Arc<Endpoint>,
    /// Taken out on drop only.
    parts: Option<Parts>,
    /// The server has closed the channel: nothing is left to do.
    closed: bool,
    /// Something runs on the channel that nobody will wait for when this is dropped.
    running: bool,
    /// Owns what is left to do after a drop.
    tracker: TaskTracker,
    far: Option<Duration>,
    runtime: Handle,
}

struct Parts {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    place: Place<Session>,
}

impl Lease {
    pub(super) fn new(
        at: Arc<Endpoint>,
        channel: Channel<Msg>,
        place: Place<Session>,
        tracker: TaskTracker,
        far: Option<Duration>,
    ) -> Self {
        let (read, write) = channel.split();
        let parts = Some(Parts { read, write, place });
        Lease { at, parts, closed: false, running: false, tracker, far, runtime: Handle::current() }
    }

    /// The server, as errors name it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.at
    }

    /// The host key that the server showed when the connection was made.
    pub fn server_key(&self) -> Option<&ServerKey> {
        self.parts.as_ref()?.place.connection().server_key()
    }

    /// The connection that the channel is on.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.parts.as_ref().map(|parts| Arc::clone(parts.place.connection()))
    }

    /// The channel's two halves. `None` never happens while the lease lives.
    pub fn halves(&mut self) -> Option<(&mut ChannelReadHalf, &ChannelWriteHalf<Msg>)> {
        self.parts.as_mut().map(|parts| (&mut parts.read, &parts.write))
    }

    /// The server has closed the channel, so dropping the lease has nothing to close.
    pub fn mark_closed(&mut self) {
        self.closed = true;
    }

    /// For opening the next channel on the same connection. `None` never happens while the lease
    /// lives.
    pub(super) fn next(&self) -> Option<Next> {
        self.parts.as_ref().map(|parts| Next::new(parts.place.ahead(), self.tracker.clone(), self.far))
    }

    /// Something runs on the channel from now on: a drop asks it to end (TERM) before it closes the channel.
    pub fn mark_running(&mut self, running: bool) {
        self.running = running;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(Parts { read, write, place }) = self.parts.take() else { return };
        // What still arrives is thrown away by the library from now on, instead of waiting for a reader.
        drop(read);
        if self.closed || place.connection().is_closed() {
            return;
        }
        let running = self.running;
        // Closing takes a message to the connection's task, which a drop cannot wait for. The task ends by itself soon and is
        // counted by the pool, which waits for it when it shuts down.
        self.tracker.spawn_on(
            async move {
                let close = async {
                    if running {
                        // Nobody wants the result: asked for politely, since there is nobody to answer to.
                        let _ = write.signal(Sig::TERM).await;
                    }
                    // Not waited for: the library does not tell when the server confirms a close of ours. A server that is
                    // late in freeing the channel refuses the next one, and a refusal is tried again.
                    let _ = write.close().await;
                };
                let _ = tokio::time::timeout(CLOSE_LIMIT, close).await;
                place.connection().count_close();
                let worn = place.connection().is_worn();
                place.give_back(worn);
            },
            &self.runtime,
        );
    }
}
