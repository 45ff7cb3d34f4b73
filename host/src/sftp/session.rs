//! One SFTP session on one channel: requests go out as they come, and each answer finds the request that it belongs to.
//!
//! One task owns the channel. It reads on whatever else happens, because a channel that nobody reads holds up the whole
//! connection; writing waits for the server's window meanwhile. Not what is asked (`client`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::error::Cause;
use super::packet::{Body, Frame, Frames, VERSION, kind};
use crate::ssh::Lease;

/// Requests that wait to be sent. Bounded, so that who is too fast waits; a request is at most 256 KiB.
const OUTGOING: usize = 32;
/// Small requests that are ready at the same time go out in one packet of SSH, up to this size.
const BATCH: usize = 32 << 10;
/// A server that says nothing for so long while something is asked is given up. Slow disks are slower than networks.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An open session. Dropping it closes the channel.
pub struct Session {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Bytes>,
    task: JoinHandle<()>,
}

/// An answer as it came: its type, and what follows the request's id.
pub struct Answer {
    pub kind: u8,
    pub body: Body,
}

#[derive(Default)]
struct Shared {
    /// A plain lock: held for a look-up, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u32,
    /// By request id.
    waiting: HashMap<u32, oneshot::Sender<Answer>>,
    heard: Option<Instant>,
    /// Why nothing more will come.
    ended: Option<Cause>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, cause: Cause) {
        let mut state = self.lock();
        state.ended.get_or_insert(cause);
        // Whoever waits learns it by losing the other end.
        state.waiting.clear();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The lease goes with the task, and closes the channel.
        self.task.abort();
    }
}

impl Session {
    /// Starts SFTP on a channel. Returns what the server's first packet says: its extensions, by name.
    pub async fn open(lease: Lease) -> Result<(Session, Vec<(Bytes, Bytes)>), Cause> {
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let shared = Arc::new(Shared::default());
        let (version, greeted) = oneshot::channel();
        let task = tokio::spawn(drive(lease, requests, shared.clone(), version));
        let session = Session { shared, outgoing, task };
        let ended = || session.ended().unwrap_or_else(|| Cause::Lost(String::new()));
        let mut body = match timeout(PATIENCE, greeted).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(ended()),
            Err(_) => return Err(Cause::Stalled(PATIENCE)),
        };
        let malformed = |_| Cause::Protocol("its greeting is incomplete".to_owned());
        let version = body.u32().map_err(malformed)?;
        if version < VERSION {
            return Err(Cause::Protocol(format!("it speaks only version {version}")));
        }
        let mut extensions = Vec::new();
        while !body.is_empty() {
            extensions.push((body.string().map_err(malformed)?, body.string().map_err(malformed)?));
        }
        Ok((session, extensions))
    }

    /// Why the session is over, if it is.
    pub fn ended(&self) -> Option<Cause> {
        self.shared.lock().ended.clone()
    }

    /// Sends a request and waits for its answer. `make` gets the request's id.
    ///
    /// Dropping the future after the request was sent does not take it back.
    pub async fn ask(&self, make: impl FnOnce(u32) -> Frame) -> Result<Answer, Cause> {
        let [answer] = self.ask_in_order(|[id]| [make(id)]).await?;
        Ok(answer)
    }

    /// Sends a request whose answer tells nothing that anybody would want to know.
    pub async fn tell(&self, make: impl FnOnce(u32) -> Frame) -> Result<(), Cause> {
        let id = {
            let mut state = self.shared.lock();
            state.next = state.next.wrapping_add(1);
            state.next
        };
        let sent = self.watched(Instant::now(), self.outgoing.send(make(id).finish())).await?;
        sent.map_err(|_| self.ended().unwrap_or_else(|| Cause::Lost(String::new())))
    }

    /// Sends requests in one piece and waits for their answers. Requests that are sent by themselves, even from futures that
    /// are polled one after the other, may overtake each other while the server keeps us waiting.
    pub async fn ask_in_order<const N: usize>(
        &self,
        make: impl FnOnce([u32; N]) -> [Frame; N],
    ) -> Result<[Answer; N], Cause> {
        let gone = || self.ended().unwrap_or_else(|| Cause::Lost(String::new()));
        let mut answers = Vec::with_capacity(N);
        let ids = {
            let mut state = self.shared.lock();
            if let Some(cause) = &state.ended {
                return Err(cause.clone());
            }
            std::array::from_fn(|_| {
                let (reply, answer) = oneshot::channel();
                state.next = state.next.wrapping_add(1);
                let id = state.next;
                state.waiting.insert(id, reply);
                answers.push(answer);
                id
            })
        };
        let asked = Instant::now();
        let mut frames = make(ids).into_iter().map(Frame::finish);
        let mut piece = frames.next().unwrap_or_default();
        for frame in frames {
            let mut longer = BytesMut::from(piece);
            longer.extend_from_slice(&frame);
            piece = longer.freeze();
        }
        let sent = self.watched(asked, self.outgoing.send(piece)).await?;
        sent.map_err(|_| gone())?;
        let mut all = Vec::with_capacity(N);
        for answer in answers {
            all.push(self.watched(asked, answer).await?.map_err(|_| gone())?);
        }
        all.try_into().map_err(|_| gone())
    }

    /// Waits, unless the server has been silent for too long.
    async fn watched<T>(&self, asked: Instant, work: impl Future<Output = T>) -> Result<T, Cause> {
        tokio::pin!(work);
        loop {
            let heard = self.shared.lock().heard.map_or(asked, |heard| heard.max(asked));
            match tokio::time::timeout_at(heard + PATIENCE, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.shared.lock().heard.is_some_and(|latest| latest > heard) => {}
                Err(_) => {
                    self.shared.end(Cause::Stalled(PATIENCE));
                    return Err(Cause::Stalled(PATIENCE));
                }
            }
        }
    }
}

/// Owns the channel until one of its directions ends.
async fn drive(mut lease: Lease, requests: mpsc::Receiver<Bytes>, shared: Arc<Shared>, version: oneshot::Sender<Body>) {
    let Some((read, write)) = lease.halves() else {
        return shared.end(Cause::Lost(String::new()));
    };
    let cause = tokio::select! {
        cause = receive(read, &shared, version) => cause,
        cause = send(write, requests) => cause,
    };
    shared.end(cause);
}

async fn send(write: &ChannelWriteHalf<Msg>, mut requests: mpsc::Receiver<Bytes>) -> Cause {
    let lost = |error: russh::Error| Cause::Lost(format!(": {error}"));
    // The greeting does not wait until the server has said that it has the subsystem.
    if let Err(error) = write.request_subsystem(true, "sftp").await {
        return lost(error);
    }
    let mut next = Some(Frame::bare(kind::INIT).u32(VERSION).finish());
    while let Some(mut packet) = next {
        if packet.len() < BATCH && !requests.is_empty() {
            let mut batch = BytesMut::from(packet);
            while batch.len() < BATCH
                && let Ok(more) = requests.try_recv()
            {
                batch.extend_from_slice(&more);
            }
            packet = batch.freeze();
        }
        if let Err(error) = write.data_bytes(packet).await {
            return lost(error);
        }
        next = requests.recv().await;
    }
    // The session was dropped.
    Cause::Lost(String::new())
}

async fn receive(read: &mut ChannelReadHalf, shared: &Shared, version: oneshot::Sender<Body>) -> Cause {
    let mut frames = Frames::default();
    let mut version = Some(version);
    let mut said = Vec::new();
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                shared.lock().heard = Some(Instant::now());
                if version.is_some() && said.len() < 200 {
                    said.extend_from_slice(data.get(..data.len().min(200)).unwrap_or_default());
                }
                frames.push(data);
            }
            Some(ChannelMsg::Failure) => return Cause::NoSubsystem,
            Some(ChannelMsg::Close | ChannelMsg::Eof) if version.is_some() => {
                // It ended before it greeted: a login shell or a forced command took the place of SFTP.
                return if said.is_empty() { Cause::NoSubsystem } else { chatter(&said) };
            }
            Some(ChannelMsg::Close | ChannelMsg::Eof) | None => return Cause::Lost(String::new()),
            Some(_) => continue,
        }
        loop {
            let packet = match frames.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(_) if version.is_some() => return chatter(&said),
                Err(error) => return Cause::Protocol(error.to_string()),
            };
            let mut body = Body(packet);
            let Ok(kind) = body.u8() else { return Cause::Protocol("an empty packet".to_owned()) };
            if kind == kind::VERSION {
                if let Some(version) = version.take() {
                    let _ = version.send(body);
                }
                continue;
            }
            let Ok(id) = body.u32() else { return Cause::Protocol("a packet without an id".to_owned()) };
            // Somebody who went away needs no answer.
            if let Some(waiting) = shared.lock().waiting.remove(&id) {
                let _ = waiting.send(Answer { kind, body });
            }
        }
    }
}

/// What came in place of SFTP.
fn chatter(said: &[u8]) -> Cause {
    let said: String = String::from_utf8_lossy(said).chars().take(80).flat_map(char::escape_default).collect();
    Cause::Protocol(format!("it begins with {said:?}"))
}
