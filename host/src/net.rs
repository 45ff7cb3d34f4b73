//! TCP on this machine, for every wire: a name becomes addresses, and one of them a connection.
//!
//! Not the deadline of the whole, nor which addresses may be connected to: those are the caller's.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
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
