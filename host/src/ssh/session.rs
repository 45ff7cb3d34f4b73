//! One SSH connection: resolve, connect (through jump servers where there are any), verify the host key, log in.
//!
//! Not how connections are shared: that is the pool.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, Config, Handle, Msg};
use russh::keys::{Algorithm, PublicKeyOrCertificate};
use russh::{Channel, Disconnect, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::auth;
use super::bounds::Bounds;
use super::error::{Endpoint, SshError, Step};
use super::host_key::{self, Decision, HostKeys, Known};
use super::known_hosts;
use super::proxy;
use super::running::Running;
use super::target::Target;
use super::tcp::{Traffic, Wire};
use crate::config::Proxy;
use crate::net;

/// From the first packet to being logged in, all jump servers together.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// More hops than anybody needs; a chain that is longer goes round in a circle.
const MAX_JUMPS: usize = 8;
/// Messages that wait in a channel until they are read: with packets of 32 KiB at most 1 MiB each.
const CHANNEL_BUFFER: usize = 32;
/// Channels closed from our side before a connection is replaced.
const MAX_CLOSES: u32 = 1000;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// What is read of a connection in one go: the library asks for the length of a packet and for its rest, and most are small.
/// Of a large one the rest goes past it.
const READ_AHEAD: usize = 4 << 10;

/// How many bytes a server may send before we have taken them in, on a connection for transfers: enough for 100 MB/s at
/// 300 ms. What is really on its way is bounded by what was asked for.
const BULK_WINDOW: u32 = 32 << 20;

/// What a connection is made for.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    pub keep_alive: Option<Duration>,
    /// Large amounts of data over long lines.
    pub bulk: bool,
}

/// A connection that is logged in. Dropping it ends it.
pub struct Session {
    pub traffic: Arc<Traffic>,
    pub opened: Instant,
    /// Channels that were closed from our side.
    closes: AtomicU32,
    /// The login is root's.
    root: bool,
    pub(super) running: Arc<Running>,
    /// The target itself.
    link: Link,
    /// The connections to the jump servers, kept because this one runs inside the last of them.
    hops: Vec<Link>,
}

/// The host key with which a server proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKey {
    /// As OpenSSH writes it: `SHA256:…`.
    pub fingerprint: String,
    pub key_type: String,
    /// A certificate authority vouched for it.
    pub certified: bool,
}

/// One SSH connection of the way.
struct Link {
    handle: Handle<Client>,
    key: Arc<OnceLock<ServerKey>>,
    /// Of this connection alone: what runs through a jump server is its own, too.
    traffic: Arc<Traffic>,
    /// Fires when the connection has ended, for whatever reason.
    ended: CancellationToken,
    /// Cuts the stream when the link is dropped, so that nothing of it stays.
    _cut: DropGuard,
}

/// Connects and logs in within [`CONNECT_LIMIT`] and the bounds of the call.
pub async fn connect(target: &Target, keys: &HostKeys, tuning: Tuning, bounds: &Bounds) -> Result<Session, SshError> {
    let bounds = bounds.within(CONNECT_LIMIT);
    // From the nearest server to the target itself.
    let mut route = vec![target];
    while let Some(jump) = route.last().and_then(|last| last.jump.as_deref()) {
        if route.len() > MAX_JUMPS {
            let problem = crate::error::Problem::invalid(format!(
                "{} is reached through more than {MAX_JUMPS} jump servers",
                target.alias
            ));
            return Err(SshError::Target(Box::new(problem)));
        }
        route.push(jump);
    }
    let traffic = Arc::new(Traffic::default());
    let mut hops: Vec<Link> = Vec::new();
    let mut through: Option<&Target> = None;
    for hop in route.into_iter().rev() {
        let last = std::ptr::eq(hop, target);
        let made = connect_hop(hop, hops.last().zip(through), keys, tuning, &traffic, &bounds).await;
        match made {
            Ok(link) if last => {
                let (opened, closes, root) = (Instant::now(), AtomicU32::new(0), target.user == "root");
                return Ok(Session { traffic, opened, closes, root, running: Arc::default(), link, hops });
            }
            Ok(link) => hops.push(link),
            Err(error) if last => return Err(error),
            Err(error) => {
                return Err(SshError::Jump { at: endpoint(target), jump: hop.alias.clone(), source: Box::new(error) });
            }
        }
        through = Some(hop);
    }
    // The route always ends with the target.
    Err(SshError::PoolClosed { at: endpoint(target) })
}

/// The server as errors name it.
pub fn endpoint(target: &Target) -> Arc<Endpoint> {
    Arc::new(Endpoint { alias: target.alias.clone(), host: target.host.clone(), port: target.port })
}

async fn connect_hop(
    target: &Target,
    through: Option<(&Link, &Target)>,
    keys: &HostKeys,
    tuning: Tuning,
    traffic: &Arc<Traffic>,
    bounds: &Bounds,
) -> Result<Link, SshError> {
    let at = endpoint(target);
    let known = bounds.step(&at, Step::HostKey, keys.lookup(&target.host, target.port)).await?;
    let known = known.map_err(|(file, cause)| SshError::KnownHosts { at: at.clone(), file, cause: Arc::new(cause) })?;
    let pin = target.pin.as_deref();
    let algorithms = host_key::preferred_algorithms(pin, &known);
    let config = Arc::new(config(algorithms, host_key::certificate_algorithms(pin, &known), tuning));
    let ended = CancellationToken::new();
    let cut = CancellationToken::new();
    let key = Arc::new(OnceLock::new());
    let client = Client {
        at: at.clone(),
        pin: target.pin.clone(),
        known,
        keys: keys.clone(),
        shown: Arc::clone(&key),
        _ended: ended.clone().drop_guard(),
    };
    // From here on giving up, also by being dropped, cuts the stream.
    let guard = cut.clone().drop_guard();
    let (mut handle, traffic) = match through {
        None => {
            let stream = dial(target, &at, bounds).await?;
            let wire = BufReader::with_capacity(READ_AHEAD, Wire::new(stream, traffic.clone(), cut));
            let handle = handshake(config, wire, client, &at, bounds).await?;
            (handle, traffic.clone())
        }
        Some((hop, by)) => {
            let open = hop.handle.channel_open_direct_tcpip(target.host.as_str(), target.port.into(), "127.0.0.1", 0);
            let channel = bounds.step(&at, Step::Connect, open).await?;
            let channel = channel.map_err(|cause| SshError::Forward {
                at: at.clone(),
                jump: by.alias.clone(),
                cause: Arc::new(cause),
            })?;
            // The bytes are counted once, where they leave this machine.
            let inner = Arc::new(Traffic::default());
            let wire = Wire::new(channel.into_stream(), inner.clone(), cut);
            (handshake(config, wire, client, &at, bounds).await?, inner)
        }
    };
    bounds.step(&at, Step::Login, auth::login(&mut handle, target, &at)).await??;
    Ok(Link { handle, key, traffic, ended, _cut: guard })
}

/// The TCP connection to the nearest server, through its proxy if it has one.
async fn dial(target: &Target, at: &Arc<Endpoint>, bounds: &Bounds) -> Result<TcpStream, SshError> {
    let deadline = bounds.deadline.unwrap_or_else(|| Instant::now() + CONNECT_LIMIT);
    if let Some(way @ Proxy::Through { kind, host, port }) = &target.proxy {
        let dialled = proxy::connect(*kind, (host, *port), (&target.host, target.port), deadline);
        return bounds.step(at, Step::Connect, dialled).await?.map_err(|cause| SshError::Proxy {
            at: at.clone(),
            proxy: way.to_string(),
            cause: Arc::new(cause),
        });
    }
    let addresses = bounds.step(at, Step::Resolve, net::resolve(&target.host, target.port)).await?;
    let addresses = addresses.map_err(|cause| SshError::Resolve { at: at.clone(), cause: Arc::new(cause) })?;
    let stream = bounds.step(at, Step::Connect, net::connect(&addresses, deadline)).await?;
    stream.map_err(|cause| SshError::Connect { at: at.clone(), cause: Arc::new(cause) })
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    config: Arc<Config>,
    stream: S,
    client: Client,
    at: &Arc<Endpoint>,
    bounds: &Bounds,
) -> Result<Handle<Client>, SshError> {
    bounds.step(at, Step::Handshake, client::connect_stream(config, stream, client)).await?.map_err(|failure| {
        match failure {
            Failure::HostKey(Decision::Unknown { fingerprint, key_type, authority_only, public }) => {
                let line = format!("{} {public}", known_hosts::lookup_name(&at.host, at.port));
                SshError::HostKeyUnknown { at: at.clone(), fingerprint, key_type, authority_only, line }
            }
            Failure::HostKey(Decision::Changed { fingerprint, key_type, at: file, expected }) => {
                SshError::HostKeyChanged { at: at.clone(), fingerprint, key_type, file, expected }
            }
            Failure::HostKey(Decision::Revoked { fingerprint, file, line }) => {
                SshError::HostKeyRevoked { at: at.clone(), fingerprint, file, line }
            }
            Failure::HostKey(Decision::BadCertificate { authority, reason }) => {
                SshError::HostCertificate { at: at.clone(), authority, reason }
            }
            Failure::HostKey(Decision::Trusted | Decision::Certified) => {
                SshError::Handshake { at: at.clone(), cause: Arc::new(russh::Error::UnknownKey) }
            }
            Failure::KnownHosts(file, cause) => SshError::KnownHosts { at: at.clone(), file, cause: Arc::new(cause) },
            Failure::Wire(cause) => SshError::Handshake { at: at.clone(), cause: Arc::new(cause) },
        }
    })
}

fn config(keys: Vec<Algorithm>, certificates: Vec<Algorithm>, tuning: Tuning) -> Config {
    let mut ciphers = vec![
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    // With instructions for it AES-GCM is a third faster than ChaCha20; without them it is slower and leaks timing.
    ciphers.insert(if cpu_has_aes() { 0 } else { 1 }, cipher::AES_128_GCM);
    if cpu_has_aes() {
        ciphers.swap(1, 2);
    }
    // For a test in which somebody between changes what is said.
    #[cfg(test)]
    ciphers.push(cipher::NONE);
    let usual = Config::default();
    Config {
        window_size: if tuning.bulk { BULK_WINDOW } else { usual.window_size },
        preferred: Preferred {
            key: Cow::Owned(keys),
            host_key_certificates: Cow::Owned(certificates),
            cipher: Cow::Owned(ciphers),
            // Compression costs more time than it saves on what commands print.
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            ..Preferred::DEFAULT
        },
        nodelay: true,
        channel_buffer_size: CHANNEL_BUFFER,
        keepalive_interval: tuning.keep_alive,
        // One probe without an answer for a whole interval: a dead connection is noticed within two.
        keepalive_max: 1,
        ..usual
    }
}

fn cpu_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

impl Session {
    pub fn is_closed(&self) -> bool {
        self.link.handle.is_closed()
    }

    /// Whether the login is root's: OpenSSH passes no signals on for it.
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// The host key that the target showed.
    pub fn server_key(&self) -> Option<&ServerKey> {
        self.link.key.get()
    }

    /// Fires when the connection has ended.
    pub fn ended(&self) -> CancellationToken {
        self.link.ended.clone()
    }

    /// Whether the target itself was heard within `time`.
    pub fn was_heard_within(&self, time: Duration) -> bool {
        self.link.traffic.was_heard_within(time)
    }

    /// The bytes that have left for the target itself.
    pub fn sent(&self) -> u64 {
        self.link.traffic.sent.load(Ordering::Relaxed)
    }

    /// Has the target answer, through everything that lies between (RFC 4254, 4).
    pub async fn ping(&self) -> Result<(), russh::Error> {
        self.link.handle.send_ping().await
    }

    /// A channel was closed from our side, before the server did.
    pub fn count_close(&self) {
        self.closes.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection should be replaced by a fresh one when there is an opportunity: the library keeps a few kilobytes of
    /// every channel that was closed from our side until the connection ends.
    pub fn is_worn(&self) -> bool {
        self.closes.load(Ordering::Relaxed) >= MAX_CLOSES
    }

    /// Opens a session channel (RFC 4254, 6.1).
    pub async fn open_channel(&self) -> Result<Channel<Msg>, russh::Error> {
        self.link.handle.channel_open_session().await
    }

    /// Has the server connect to a host as it knows it (RFC 4254, 7.2).
    pub async fn open_tcp(&self, host: &str, port: u16) -> Result<Channel<Msg>, russh::Error> {
        self.link.handle.channel_open_direct_tcpip(host, port.into(), "127.0.0.1", 0).await
    }

    /// Says goodbye, to the target first and then to the servers on the way. Waits a moment for it to be sent.
    pub async fn disconnect(&self) {
        for link in std::iter::once(&self.link).chain(self.hops.iter().rev()) {
            // A connection that is gone already needs no goodbye.
            if link.handle.disconnect(Disconnect::ByApplication, "", "").await.is_ok() {
                let _ = tokio::time::timeout(GOODBYE, link.ended.cancelled()).await;
            }
        }
    }
}

/// Our side of a connection: it judges the host key, and refuses everything that a server could ask of a client.
pub struct Client {
    at: Arc<Endpoint>,
    pin: Option<String>,
    known: Vec<Known>,
    keys: HostKeys,
    /// Filled with the key once it is trusted.
    shown: Arc<OnceLock<ServerKey>>,
    /// The library drops its handler when the connection has ended.
    _ended: DropGuard,
}

/// Why a connection ended during the handshake.
#[derive(Debug)]
pub enum Failure {
    HostKey(Decision),
    /// A new key could not be looked up once more or written down.
    KnownHosts(PathBuf, io::Error),
    Wire(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Failure::Wire(error)
    }
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let key = offered.public_key();
        let mut decision = host_key::judge(self.pin.as_deref(), &self.known, &self.at.host, offered);
        if let Decision::Unknown { .. } = decision
            && self
                .keys
                .accepts(&self.at.host, self.at.port, &key)
                .await
                .map_err(|(file, cause)| Failure::KnownHosts(file, cause))?
        {
            decision = Decision::Trusted;
        }
        match decision {
            Decision::Trusted | Decision::Certified => {
                let certified = decision == Decision::Certified;
                let (fingerprint, key_type) = (host_key::fingerprint(&key), key.algorithm().to_string());
                // A rekey shows the key again; the first one stays.
                let _ = self.shown.set(ServerKey { fingerprint, key_type, certified });
                Ok(true)
            }
            refused => {
                if let Decision::Unknown { public, .. } = &refused {
                    self.keys.note(&format!("{} {public}", known_hosts::lookup_name(&self.at.host, self.at.port)));
                }
                Err(Failure::HostKey(refused))
            }
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }
}

/// We never asked for any channel from the server's side.
async fn refuse(reply: client::ChannelOpenHandle) -> Result<(), Failure> {
    reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}
