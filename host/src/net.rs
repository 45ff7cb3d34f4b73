//! TCP on this machine, for every wire: a name becomes addresses, and one of them a connection.
//!
//! Not the deadline of the whole, nor which addresses may be connected to: those are the caller's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long an address may be silent before the next is tried beside it; RFC 8305 recommends this.
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);
/// More addresses than any name of a server has; what is said beyond them is not tried.
const MAX_ADDRESSES: usize = 16;

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

/// Connects to the address that answers first. The next one is tried as soon as one has failed or has been silent for
/// [`NEXT_ATTEMPT`], without giving up those before it (RFC 8305).
pub async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let stream = race(&interleave(addresses), deadline, TcpStream::connect).await?;
    prepare(&stream)?;
    Ok(stream)
}

/// The families in turns, beginning with that of the first address, each in its own order (RFC 8305, 4).
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first);
    let longest = one.len().max(other.len());
    let turns = (0..longest).flat_map(|turn| [one.get(turn), other.get(turn)]);
    turns.flatten().copied().take(MAX_ADDRESSES).collect()
}

async fn race<T, F>(addresses: &[SocketAddr], deadline: Instant, dial: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = waiting.next();
        dialling.extend(next.map(|address| dial(*address)));
        if dialling.is_empty() {
            return Err(last);
        }
        let pause = match waiting.len() {
            0 => deadline,
            _ => deadline.min(Instant::now() + NEXT_ATTEMPT),
        };
        match timeout_at(pause, dialling.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => last = error,
            Ok(None) => {}
            Err(_) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // A command is a few small packets in each direction: waiting to fill one costs 40 ms each.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 22)).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let check = |given: &[&str], expected: &[&str]| assert_eq!(interleave(&addresses(given)), addresses(expected));
        check(&["::1", "::2", "::3", "10.0.0.1"], &["::1", "10.0.0.1", "::2", "::3"]);
        check(&["10.0.0.1", "10.0.0.2", "::1"], &["10.0.0.1", "::1", "10.0.0.2"]);
        check(&[], &[]);
        let many: Vec<SocketAddr> = (0..99).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        assert_eq!(interleave(&many).len(), MAX_ADDRESSES);
    }

    /// What becomes of connecting to `::N`: silent for as many seconds, then refused, or answered if N is even. 0 never ends.
    async fn dial(address: SocketAddr) -> io::Result<u16> {
        let SocketAddr::V6(address) = address else { panic!() };
        let number = address.ip().segments()[7];
        match number {
            0 => std::future::pending().await,
            number => tokio::time::sleep(Duration::from_secs(number.into())).await,
        }
        if number % 2 == 0 { Ok(number) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    async fn raced(given: &[&str], limit: u64) -> (io::Result<u16>, Duration) {
        let started = Instant::now();
        let result = race(&addresses(given), started + Duration::from_secs(limit), dial).await;
        (result, started.elapsed())
    }

    #[tokio::test]
    async fn a_connection_is_probed_and_holds_nothing_back() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let stream = connect(&[listener.local_addr().unwrap()], deadline).await.unwrap();
        assert!(stream.nodelay().unwrap() && SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_quarter_of_a_second() {
        let (answered, time) = raced(&["::", "::2"], 20).await;
        assert_eq!((answered.unwrap(), time), (2, Duration::from_millis(2250)));
        // One that answers late is not given up for the next.
        let (answered, time) = raced(&["::4", "::8"], 20).await;
        assert_eq!((answered.unwrap(), time), (4, Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_the_last_refusal_or_the_deadline() {
        let (refused, time) = raced(&["::1", "::3"], 20).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(time, Duration::from_millis(3250));
        let (silent, time) = raced(&["::", "::"], 20).await;
        assert_eq!((silent.unwrap_err().kind(), time), (io::ErrorKind::TimedOut, Duration::from_secs(20)));
        assert_eq!(raced(&[], 20).await.0.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
