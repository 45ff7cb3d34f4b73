//! TCP on this machine, for every wire: a name becomes addresses, and one of them a connection.
//!
//! Not the deadline of the whole, nor which addresses may be connected to: those are the caller's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// One address gets at least this long before the next is tried.
const MIN_PER_ADDRESS: Duration = Duration::from_millis(2500);

/// The host's addresses, without duplicates, in the resolver's order (RFC 6724).
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // People write IPv6 addresses with brackets, too.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut addresses = Vec::new();
    for address in tokio::net::lookup_host((host, port)).await? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// Connects to the first address that answers. Each but the last gets its share of the time that is left, so that one dead
/// address of several does not use it all.
pub async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = (left / (addresses.len() - index).max(1) as u32).max(MIN_PER_ADDRESS.min(left));
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // A command or a request is a few small packets in each direction: waiting to fill one costs 40 ms each.
    stream.set_nodelay(true)?;
    // Below SSH's own keep-alive, for connections that have none.
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))
}

/// A connection that acknowledges at once what it receives.
///
/// A server that writes twice (TLS tickets, then its answer) holds the second back until the first is acknowledged (RFC 896), and
/// acknowledgements are delayed by up to 40 ms: an exchange of few packets would measure our delay and not the server.
pub struct Prompt(TcpStream);

impl Prompt {
    pub fn new(stream: TcpStream) -> Self {
        let prompt = Prompt(stream);
        prompt.acknowledge();
        prompt
    }

    fn acknowledge(&self) {
        // The kernel falls back to delaying by itself, so it is told again. It is only about speed: errors don't matter.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&self.0).set_tcp_quickack(true);
    }
}

impl AsyncRead for Prompt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.0).poll_read(cx, buf);
        // Also while nothing has come: what was sent since has set the kernel back.
        self.acknowledge();
        result
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The name of an I/O error as programs know it; the kind where the system gave no number.
pub fn errno(error: &io::Error) -> String {
    let by_kind = |kind| match kind {
        io::ErrorKind::ConnectionRefused => Some("ECONNREFUSED"),
        io::ErrorKind::ConnectionReset => Some("ECONNRESET"),
        io::ErrorKind::ConnectionAborted => Some("ECONNABORTED"),
        io::ErrorKind::TimedOut => Some("ETIMEDOUT"),
        io::ErrorKind::HostUnreachable => Some("EHOSTUNREACH"),
        io::ErrorKind::NetworkUnreachable => Some("ENETUNREACH"),
        io::ErrorKind::BrokenPipe => Some("EPIPE"),
        io::ErrorKind::PermissionDenied => Some("EACCES"),
        io::ErrorKind::NotFound => Some("ENOENT"),
        io::ErrorKind::AddrNotAvailable => Some("EADDRNOTAVAIL"),
        io::ErrorKind::UnexpectedEof => Some("EOF"),
        _ => None,
    };
    match (by_kind(error.kind()), error.raw_os_error()) {
        (Some(name), _) => name.to_owned(),
        (None, Some(number)) => format!("errno {number}"),
        (None, None) => error.kind().to_string(),
    }
}
