//! A connection that a server makes for us to another place, over a pooled SSH connection (direct-tcpip, RFC 4254, 7.2).
//! Not what is said on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use russh::client::Msg;
use russh::{Channel, ChannelStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::Place;
use super::session::Session;

/// The stream and its place in the pool. Dropping it closes the stream, at any moment, and gives the place back.
pub struct Forwarded {
    stream: ChannelStream<Msg>,
    /// Taken out on drop only.
    place: Option<Place<Session>>,
}

impl Forwarded {
    pub(super) fn new(channel: Channel<Msg>, place: Place<Session>) -> Self {
        Forwarded { stream: channel.into_stream(), place: Some(place) }
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // The library closes the channel by itself when the stream is dropped.
        if let Some(place) = self.place.take() {
            place.connection().count_close();
            let worn = place.connection().is_worn();
            place.give_back(worn);
        }
    }
}
