//! How far ahead of the queue a client is read: what it sends faster than jobs can be put on disk stays in its pipe.
//!
//! Only calls that are on their way to the disk count. One that waits for its job's end holds up nothing, so a client can
//! always cancel and ask, however much it has under way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// As many as share one commit at most.
const AHEAD: usize = 256;

/// Counts the calls that are not on disk yet. Clones share it. A semaphore, since a reader must sleep on it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(Semaphore::new(AHEAD)))
    }

    /// Counts a call until what is returned is dropped. A few calls are read beyond the limit and not counted, because whole
    /// buffers are read.
    pub fn enter(&self) -> Option<Arc<OwnedSemaphorePermit>> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Arc::new)
    }

    /// Reads from `read` while there is room.
    pub fn guard<R>(&self, read: R) -> Gated<R> {
        Gated { read, room: PollSemaphore::new(Arc::clone(&self.0)) }
    }
}

/// A stream that is read only while there is room behind the gate.
pub struct Gated<R> {
    read: R,
    room: PollSemaphore,
}

impl<R: AsyncRead + Unpin> AsyncRead for Gated<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Given back at once: it was only to be seen that there is one.
        drop(ready!(self.room.poll_acquire(cx)));
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_while_too_much_is_on_its_way_and_all_of_it_later() {
        let gate = Gate::new();
        let mut read = gate.guard(&b"calls"[..]);
        let mut on_their_way: Vec<_> = std::iter::from_fn(|| gate.enter()).collect();
        assert_eq!(on_their_way.len(), AHEAD);
        let mut text = String::new();
        assert!(read.read_to_string(&mut text).now_or_never().is_none());
        on_their_way.pop();
        let mut rest = String::new();
        read.read_to_string(&mut rest).await.unwrap();
        assert_eq!(text + &rest, "calls");
    }
}
