//! Through a proxy to a server: SOCKS5 without a login (RFC 1928), or CONNECT of HTTP/1.1 (RFC 9110, 9.3.6).
//!
//! The proxy gets the server's name as it is, and resolves it where it stands. It sees nothing but the encrypted stream.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::ProxyKind;
use crate::net;

/// The longest answer of an HTTP proxy that is read, in bytes.
const MAX_ANSWER: usize = 8 << 10;

/// Connects to `host` on `port` through the proxy. The caller bounds the time that the proxy may take.
pub(super) async fn connect(
    kind: ProxyKind,
    (proxy, proxy_port): (&str, u16),
    (host, port): (&str, u16),
    deadline: Instant,
) -> io::Result<TcpStream> {
    let addresses = net::resolve(proxy, proxy_port).await?;
    let mut stream = net::connect(&addresses, deadline).await?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match kind {
        ProxyKind::Socks5 => socks(&mut stream, host, port).await?,
        ProxyKind::Http => {
            let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            established(&mut stream).await?;
        }
    }
    Ok(stream)
}

/// Two short questions and answers, all of fixed shape (RFC 1928, 3 to 6).
async fn socks(stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    const VERSION: u8 = 5;
    const NO_LOGIN: u8 = 0;
    const CONNECT: u8 = 1;
    const IPV4: u8 = 1;
    const NAME: u8 = 3;
    const IPV6: u8 = 4;

    stream.write_all(&[VERSION, 1, NO_LOGIN]).await?;
    let mut chosen = [0; 2];
    answer(stream, &mut chosen).await?;
    match chosen {
        [VERSION, NO_LOGIN] => {}
        [VERSION, _] => return Err(refused("it wants a login, which is not supported".to_owned())),
        _ => return Err(refused("it does not speak SOCKS5".to_owned())),
    }
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            let length =
                u8::try_from(host.len()).map_err(|_| refused("the server's name is too long for it".to_owned()))?;
            request.extend([NAME, length]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    answer(stream, &mut reply).await?;
    let [VERSION, status, _, kind] = reply else { return Err(refused("it does not speak SOCKS5".to_owned())) };
    if status != 0 {
        return Err(refused(format!("it says: {}", reason(status))));
    }
    // The address that it is bound to is of no use here, but it must be read.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(refused("it does not speak SOCKS5".to_owned())),
    };
    answer(stream, &mut vec![0; length + 2]).await
}

async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    match stream.read_exact(buffer).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(refused("it closed the connection".to_owned()))
        }
        other => other.map(drop),
    }
}

/// What the replies of RFC 1928, 6 mean.
fn reason(status: u8) -> &'static str {
    match status {
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "it took too long",
        7 | 8 => "not supported",
        _ => "general failure",
    }
}

/// Reads the proxy's answer up to its empty line and not a byte further: the server's greeting may follow at once.
async fn established(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(refused("its answer does not end".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(refused("it closed the connection".to_owned()));
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    let mut words = status.split(' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err(refused("it does not speak HTTP".to_owned()));
    }
    match code.as_bytes() {
        [b'2', _, _] => Ok(()),
        b"407" => Err(refused("it wants a login, which is not supported".to_owned())),
        _ => Err(refused(format!(
            "it says: {}",
            status.chars().filter(|char| !char.is_control()).take(120).collect::<String>()
        ))),
    }
}

fn refused(why: String) -> io::Error {
    io::Error::other(why)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that answers with `replies` whenever it has heard something, and what it has heard by then.
    async fn conversation(
        kind: ProxyKind,
        replies: &'static [&'static [u8]],
        host: &str,
    ) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for reply in replies {
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..read]);
                stream.write_all(reply).await.unwrap();
            }
            heard
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let answered = async {
            let mut stream = connect(kind, ("127.0.0.1", port), (host, 2222), deadline).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            Ok(rest)
        };
        let answered = answered.await;
        (answered, heard.await.unwrap())
    }

    #[tokio::test]
    async fn socks_gets_names_as_they_are_and_addresses_as_bytes() {
        const REPLIES: &[&[u8]] = &[&[5, 0], b"\x05\0\0\x03\x04here\x08\xaeSSH-2.0-x\r\n"];
        let (rest, heard) = conversation(ProxyKind::Socks5, REPLIES, "web.invalid").await;
        assert_eq!(rest.unwrap(), b"SSH-2.0-x\r\n");
        assert_eq!(heard, b"\x05\x01\0\x05\x01\0\x03\x0bweb.invalid\x08\xae");
        let (_, heard) = conversation(ProxyKind::Socks5, REPLIES, "[::1]").await;
        assert_eq!(heard[3..], *b"\x05\x01\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x08\xae");
        let (_, heard) = conversation(ProxyKind::Socks5, REPLIES, "10.1.2.3").await;
        assert_eq!(heard[3..], *b"\x05\x01\0\x01\x0a\x01\x02\x03\x08\xae");
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let check = async |kind, replies, expected: &str| {
            let (answered, _) = conversation(kind, replies, "web.invalid").await;
            let why = answered.unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        };
        check(ProxyKind::Socks5, &[&[5, 0xff]], "wants a login").await;
        check(ProxyKind::Socks5, &[b"HTTP/1.1 400 no\r\n"], "does not speak SOCKS5").await;
        check(ProxyKind::Socks5, &[&[5, 0], &[5, 5, 0, 1]], "connection refused").await;
        check(ProxyKind::Socks5, &[&[5]], "closed the connection").await;
        check(ProxyKind::Http, &[b"HTTP/1.1 502 Bad\x1b[2J\r\n\r\n"], "502 Bad[2J").await;
        check(ProxyKind::Http, &[b"HTTP/1.1 200 ok\r\n"], "closed the connection").await;
    }

    #[tokio::test]
    async fn what_follows_the_answer_of_an_http_proxy_is_the_servers() {
        const REPLIES: &[&[u8]] = &[b"HTTP/1.0 200 ok\r\nVia: x\r\n\r\nSSH-2.0-x\r\n"];
        let (rest, heard) = conversation(ProxyKind::Http, REPLIES, "::1").await;
        assert_eq!(rest.unwrap(), b"SSH-2.0-x\r\n");
        assert_eq!(heard, b"CONNECT [::1]:2222 HTTP/1.1\r\nHost: [::1]:2222\r\n\r\n");
    }
}
