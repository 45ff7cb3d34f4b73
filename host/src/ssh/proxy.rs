//! Through a proxy to a server: SOCKS5 (RFC 1928) or CONNECT of HTTP/1.1 (RFC 9110, 9.3.6), with a login by user and password
//! where one is known (RFC 1929, RFC 7617).
//!
//! The proxy gets the server's name as it is, and resolves it where it stands. It sees nothing but the encrypted stream, and
//! user and password if it has them: those go to it in the clear, as both protocols have it.

use std::io;
use std::net::IpAddr;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::target::Via;
use crate::config::{Proxy, ProxyKind};
use crate::net;

/// The longest answer of an HTTP proxy that is read, in bytes.
const MAX_ANSWER: usize = 8 << 10;

/// Why a proxy did not connect. Never holds the password.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it does not speak {0}")]
    Foreign(&'static str),
    #[error("it wants a login")]
    LoginWanted,
    /// It knows logins, but none with user and password.
    #[error("it wants a login by {0}, and only user and password are known here")]
    OtherLogin(String),
    #[error("it refused the login of {user:?}")]
    LoginRefused { user: String },
    #[error("{0} is too long for it")]
    TooLong(&'static str),
    #[error("its answer does not end")]
    Endless,
    #[error("it says: {0}")]
    Says(String),
}

impl ProxyError {
    /// The same may work later without any change. A login that was refused is not among that: it may be counted.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ProxyError::Io(_) | ProxyError::Closed | ProxyError::Says(_))
    }

    /// A short word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            ProxyError::LoginWanted | ProxyError::OtherLogin(_) => "PROXY_LOGIN_WANTED",
            ProxyError::LoginRefused { .. } => "PROXY_LOGIN_REFUSED",
            _ => "PROXY",
        }
    }
}

/// Who we are to the proxy.
#[derive(Clone, Copy)]
struct Login<'a> {
    user: &'a str,
    password: &'a str,
}

/// Connects to `host` on `port` through the proxy. The caller bounds the time that the proxy may take.
pub(super) async fn connect(via: &Via, (host, port): (&str, u16), deadline: Instant) -> Result<TcpStream, ProxyError> {
    let Proxy::Through { kind, host: proxy, port: proxy_port, user } = &via.proxy else {
        return Err(ProxyError::Foreign("anything, since it is none"));
    };
    let password = via.password.as_ref().map_or("", |password| password.as_str());
    let login = user.as_deref().map(|user| Login { user, password });
    let addresses = net::resolve(proxy, *proxy_port).await?;
    let mut stream = net::connect(&addresses, deadline).await?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match kind {
        ProxyKind::Socks5 => socks(&mut stream, host, port, login).await?,
        ProxyKind::Http => {
            let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            let request = Zeroizing::new(format!(
                "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{}\r\n",
                login.map(basic).unwrap_or_default().as_str()
            ));
            stream.write_all(request.as_bytes()).await?;
            established(&mut stream, login).await?;
        }
    }
    Ok(stream)
}

/// The login as a line of the request (RFC 7617, 2). It is sent at once, since a proxy that has a user wants it anyway.
fn basic(login: Login<'_>) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{}:{}", login.user, login.password));
    Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(pair.as_bytes())))
}

const VERSION: u8 = 5;

/// Short questions and answers, all of fixed shape (RFC 1928, 3 to 6).
async fn socks(stream: &mut TcpStream, host: &str, port: u16, login: Option<Login<'_>>) -> Result<(), ProxyError> {
    const NO_LOGIN: u8 = 0;
    const PASSWORD: u8 = 2;
    const CONNECT: u8 = 1;
    const IPV4: u8 = 1;
    const NAME: u8 = 3;
    const IPV6: u8 = 4;

    let methods: &[u8] = if login.is_some() { &[VERSION, 2, NO_LOGIN, PASSWORD] } else { &[VERSION, 1, NO_LOGIN] };
    stream.write_all(methods).await?;
    let mut chosen = [0; 2];
    answer(stream, &mut chosen).await?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some(login)) => socks_login(stream, login).await?,
        ([VERSION, _], None) => return Err(ProxyError::LoginWanted),
        ([VERSION, _], Some(_)) => return Err(ProxyError::OtherLogin("other means".to_owned())),
        _ => return Err(ProxyError::Foreign("SOCKS5")),
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
            request.push(NAME);
            put(&mut request, host, "the server's name")?;
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    answer(stream, &mut reply).await?;
    let [VERSION, status, _, kind] = reply else { return Err(ProxyError::Foreign("SOCKS5")) };
    if status != 0 {
        return Err(ProxyError::Says(reason(status).to_owned()));
    }
    // The address that it is bound to is of no use here, but it must be read.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => usize::from(stream.read_u8().await?),
        _ => return Err(ProxyError::Foreign("SOCKS5")),
    };
    answer(stream, &mut vec![0; length + 2]).await
}

/// User and password (RFC 1929, 2).
async fn socks_login(stream: &mut TcpStream, login: Login<'_>) -> Result<(), ProxyError> {
    const LOGIN_VERSION: u8 = 1;
    let mut request = Zeroizing::new(Vec::with_capacity(3 + 2 * usize::from(u8::MAX)));
    request.push(LOGIN_VERSION);
    put(&mut request, login.user, "the user")?;
    put(&mut request, login.password, "the password")?;
    stream.write_all(&request).await?;
    let mut reply = [0; 2];
    let answered = answer(stream, &mut reply).await;
    let [_, status] = reply;
    match answered {
        Ok(()) if status == 0 => Ok(()),
        // Some close the connection instead of refusing, which they must do afterwards anyway.
        Ok(()) | Err(ProxyError::Closed) => Err(ProxyError::LoginRefused { user: login.user.to_owned() }),
        Err(error) => Err(error),
    }
}

/// A text with its length in one byte.
fn put(request: &mut Vec<u8>, text: &str, what: &'static str) -> Result<(), ProxyError> {
    request.push(u8::try_from(text.len()).map_err(|_| ProxyError::TooLong(what))?);
    request.extend(text.as_bytes());
    Ok(())
}

async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), ProxyError> {
    match stream.read_exact(buffer).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ProxyError::Closed),
        other => Ok(other.map(drop)?),
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
async fn established(stream: &mut TcpStream, login: Option<Login<'_>>) -> Result<(), ProxyError> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(ProxyError::Endless);
        }
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ProxyError::Closed),
            Err(error) => return Err(error.into()),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    let mut words = status.split(' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !version.starts_with("HTTP/1.") {
        return Err(ProxyError::Foreign("HTTP"));
    }
    match code.as_bytes() {
        [b'2', _, _] => Ok(()),
        b"407" => Err(unauthenticated(&answer, login)),
        _ => Err(ProxyError::Says(plain(status))),
    }
}

/// What a status of 407 means, by the logins that it offers (RFC 9110, 11.7.1).
fn unauthenticated(answer: &str, login: Option<Login<'_>>) -> ProxyError {
    let challenge = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let scheme = value.split([' ', ',']).find(|word| !word.is_empty())?;
        name.eq_ignore_ascii_case("proxy-authenticate").then(|| plain(scheme))
    };
    let schemes: Vec<String> = answer.lines().filter_map(challenge).collect();
    if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
        return ProxyError::OtherLogin(schemes.join(" or "));
    }
    match login {
        None => ProxyError::LoginWanted,
        Some(login) => ProxyError::LoginRefused { user: login.user.to_owned() },
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A proxy that answers with `replies` whenever it has heard something, and what it has heard by then. With a user it is
    /// told the password `open:sesame`.
    async fn told(
        kind: ProxyKind,
        user: Option<&str>,
        replies: &'static [&'static [u8]],
        host: &str,
    ) -> (Result<Vec<u8>, ProxyError>, Vec<u8>) {
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
            let proxy = Proxy::Through { kind, host: "127.0.0.1".to_owned(), port, user: user.map(str::to_owned) };
            let password = user.map(|_| Zeroizing::new("open:sesame".to_owned()));
            let mut stream = connect(&Via { proxy, password }, (host, 2222), deadline).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            Ok(rest)
        };
        let answered = answered.await;
        (answered, heard.await.unwrap())
    }

    async fn conversation(
        kind: ProxyKind,
        replies: &'static [&'static [u8]],
        host: &str,
    ) -> (Result<Vec<u8>, ProxyError>, Vec<u8>) {
        told(kind, None, replies, host).await
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

    #[tokio::test]
    async fn user_and_password_are_told_to_a_socks_proxy_that_asks_for_them() {
        const REPLIES: &[&[u8]] = &[&[5, 2], &[1, 0], b"\x05\0\0\x01\x7f\0\0\x01\0\x16SSH-2.0-x\r\n"];
        let (rest, heard) = told(ProxyKind::Socks5, Some("ada"), REPLIES, "web.invalid").await;
        assert_eq!(rest.unwrap(), b"SSH-2.0-x\r\n");
        assert_eq!(heard[..4], [5, 2, 0, 2]);
        assert_eq!(heard[4..21], *b"\x01\x03ada\x0bopen:sesame");
        // One that asks for nothing is told nothing.
        const OPEN: &[&[u8]] = &[&[5, 0], b"\x05\0\0\x01\x7f\0\0\x01\0\x16"];
        let (rest, heard) = told(ProxyKind::Socks5, Some("ada"), OPEN, "web.invalid").await;
        assert!(rest.is_ok() && !heard.windows(3).any(|part| part == b"ada"));
    }

    #[tokio::test]
    async fn user_and_password_are_told_to_an_http_proxy_at_once() {
        const REPLIES: &[&[u8]] = &[b"HTTP/1.1 200 ok\r\n\r\n"];
        let (rest, heard) = told(ProxyKind::Http, Some("ada"), REPLIES, "web").await;
        rest.unwrap();
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.ends_with("\r\nProxy-Authorization: Basic YWRhOm9wZW46c2VzYW1l\r\n\r\n"), "{heard:?}");
    }

    #[tokio::test]
    async fn a_login_that_is_wanted_refused_or_of_another_kind_are_three_things() {
        let check = async |kind, user, replies, reason: &str, words: &str| {
            let error = told(kind, user, replies, "web.invalid").await.0.unwrap_err();
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.to_string().contains(words) && !error.is_retryable(), "{error}");
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        };
        const BASIC: &[&[u8]] =
            &[b"HTTP/1.1 407 no\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: basic realm=x\r\n\r\n"];
        const OTHER: &[&[u8]] =
            &[b"HTTP/1.1 407 no\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n"];
        let (http, socks, ada) = (ProxyKind::Http, ProxyKind::Socks5, Some("ada"));
        check(socks, None, &[&[5, 0xff]], "PROXY_LOGIN_WANTED", "wants a login").await;
        check(http, None, BASIC, "PROXY_LOGIN_WANTED", "wants a login").await;
        check(http, ada, OTHER, "PROXY_LOGIN_WANTED", "by Negotiate or NTLM").await;
        check(socks, ada, &[&[5, 0xff]], "PROXY_LOGIN_WANTED", "only user and password").await;
        check(socks, ada, &[&[5, 2], &[1, 1]], "PROXY_LOGIN_REFUSED", "refused the login of \"ada\"").await;
        check(socks, ada, &[&[5, 2], &[]], "PROXY_LOGIN_REFUSED", "refused the login").await;
        check(http, ada, BASIC, "PROXY_LOGIN_REFUSED", "refused the login").await;
        check(http, ada, &[b"HTTP/1.1 407 no\r\n\r\n"], "PROXY_LOGIN_REFUSED", "refused the login").await;
    }
}
