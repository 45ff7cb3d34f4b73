//! The TCP connection below SSH: a stream that is counted, acknowledges fast and can be cut.
//!
//! Not how it comes to be: that is `net`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::ChannelStream;
use russh::client::Msg;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Reads for which acknowledgements are sent at once. Set-up and the first command are ping-pong, where a delayed
/// acknowledgement costs up to 40 ms; afterwards it makes no difference and the system call is saved.
const QUICK_READS: u64 = 64;

/// What went over a connection, in bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    /// When something was received last, in milliseconds since 1970.
    heard: AtomicU64,
}

impl Traffic {
    /// Whether something was received within `time`, by the wall clock: the monotonic one stands still while a laptop
    /// sleeps, and connections die just then.
    pub fn was_heard_within(&self, time: Duration) -> bool {
        let silence = now_ms().checked_sub(self.heard.load(Ordering::Relaxed));
        silence.is_some_and(|silence| u128::from(silence) <= time.as_millis())
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// A stream that is counted and can be cut from outside.
///
/// The library's task for a connection ends when its stream ends, and during a handshake only then: a server that stalls
/// there would keep the task and the socket for ever after everybody has given up. Cutting the stream ends both.
pub struct Wire<S> {
    stream: S,
    traffic: Arc<Traffic>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    reads: u64,
}

/// What may lie below a [`Wire`].
pub trait Below: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Has what was received acknowledged at once, if that can be said here.
    fn acknowledge(&self) {}
}

impl Below for TcpStream {
    #[cfg(target_os = "linux")]
    fn acknowledge(&self) {
        // The kernel falls back to delaying by itself, so it is told again. It is only about speed: errors don't matter.
        let _ = SockRef::from(self).set_tcp_quickack(true);
    }
}

impl Below for ChannelStream<Msg> {}

impl<S: Below> Wire<S> {
    pub fn new(stream: S, traffic: Arc<Traffic>, cut: CancellationToken) -> Self {
        Wire { stream, traffic, cut: Box::pin(cut.cancelled_owned()), is_cut: false, reads: 0 }
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        self.is_cut
    }
}

impl<S: Below> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            self.traffic.received.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
            self.traffic.heard.store(now_ms(), Ordering::Relaxed);
            if self.reads < QUICK_READS {
                self.reads += 1;
                self.stream.acknowledge();
            }
        }
        result
    }
}

impl<S: Below> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        match result {
            // What fits is still written after the cut: a goodbye that was on its way arrives.
            Poll::Pending if self.is_cut(cx) => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Ready(Ok(written)) => {
                self.traffic.sent.fetch_add(written as u64, Ordering::Relaxed);
            }
            _ => {}
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
