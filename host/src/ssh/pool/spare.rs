//! A session channel that is opened before anybody needs it.
//!
//! A command on it starts without waiting a round trip for its channel. Not when one is wanted (`places`).

use std::sync::Arc;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::channel::CHANNEL_LIMIT;
use super::places::Ahead;
use crate::ssh::session::Session;

/// How long it may take to hand the goodbye to the connection's task.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The channel, perhaps on its way still. Dropping it closes it, at any moment.
pub struct Spare {
    opened: oneshot::Receiver<Channel<Msg>>,
    session: Arc<Session>,
    tracker: TaskTracker,
    runtime: Handle,
}

/// The next channel of a connection, for whoever has the present one to open ahead.
pub struct Next {
    ahead: Ahead<Session>,
    tracker: TaskTracker,
    far: Option<Duration>,
}

impl Next {
    pub fn new(ahead: Ahead<Session>, tracker: TaskTracker, far: Option<Duration>) -> Self {
        Next { ahead, tracker, far }
    }

    /// Begins to open it beside a command, where it takes so long that it would not be there for the next one otherwise.
    pub fn open_beside(&self) {
        if self.far.is_some_and(|far| self.ahead.connection().opening_took() >= far) {
            self.open();
        }
    }

    /// Begins to open it behind a command, from which it takes no time there.
    pub fn open_behind(&self) {
        if self.far.is_some() {
            self.open();
        }
    }

    /// Where it is wanted and not there yet.
    fn open(&self) {
        self.ahead.keep(|| {
            let (sender, opened) = oneshot::channel();
            let session = Arc::clone(self.ahead.connection());
            self.tracker.spawn(open(self.ahead.clone(), sender));
            Spare { opened, session, tracker: self.tracker.clone(), runtime: Handle::current() }
        });
    }
}

async fn open(ahead: Ahead<Session>, sender: oneshot::Sender<Channel<Msg>>) {
    let session = ahead.connection();
    match timeout(CHANNEL_LIMIT, session.open_channel()).await {
        Ok(Ok(channel)) => {
            if let Err(unwanted) = sender.send(channel) {
                close(session, unwanted).await;
            }
        }
        Ok(Err(russh::Error::ChannelOpenFailure(_))) => ahead.refused(),
        // Whoever needs the connection next finds out by himself, and says so to his caller.
        Ok(Err(_)) | Err(_) => {}
    }
}

impl Spare {
    /// The channel, when it was opened and is as good as a new one. `None` gives it back.
    ///
    /// Opening a channel proves that the connection lives. Without that proof, a command that goes out on a dead one would
    /// be lost and could not be repeated, since nobody knows whether it was run. So a connection that was silent for longer
    /// than `silence` has to answer first, which takes as long as opening a channel would.
    pub async fn ready(mut self, session: &Session, silence: Duration) -> Option<Channel<Msg>> {
        if !session.was_heard_within(silence) {
            session.ping().await.ok()?;
        }
        let mut channel = (&mut self.opened).await.ok()?;
        is_open(&mut channel).await.then_some(channel)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Nothing can arrive after this: whoever opens it is told that it is not wanted.
        self.opened.close();
        let Ok(channel) = self.opened.try_recv() else { return };
        if self.session.is_closed() {
            return;
        }
        let session = self.session.clone();
        self.tracker.spawn_on(async move { close(&session, channel).await }, &self.runtime);
    }
}

async fn close(session: &Session, channel: Channel<Msg>) {
    if let Ok(Ok(())) = timeout(CLOSE_LIMIT, channel.close()).await {
        session.count_close();
    }
}

/// Whether the server has not closed the channel meanwhile: some do so with channels on which nothing happens.
async fn is_open(channel: &mut Channel<Msg>) -> bool {
    loop {
        tokio::select! {
            biased;
            message = channel.wait() => {
                if matches!(message, None | Some(ChannelMsg::Close | ChannelMsg::Eof)) {
                    return false;
                }
            }
            () = std::future::ready(()) => return true,
        }
    }
}
