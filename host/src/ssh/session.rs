//! One SSH connection: resolve, connect (through jump servers where there are any), verify the host key, log in.
//!
//! Not how connections are shared: that is the pool.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, Config, Handle, Msg};
use russh::{Channel, Disconnect};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::algorithms;
use super::answers::Answers;
use super::auth::{self, Watch};
use super::bounds::Bounds;
use super::client::{Client, Failure};
use super::error::{Endpoint, SshError, Step};
use super::host_key::{Decision, HostKeys};
use super::known_hosts;
use super::proxy;
use super::running::Running;
use super::target::Target;
use super::tcp::{Traffic, Wire};
use super::tuning::{self, Tuning};
use crate::config::Proxy;
use crate::net;

/// More hops than anybody needs; a chain that is longer goes round in a circle.
const MAX_JUMPS: usize = 8;
/// Channels closed from our side before a connection is replaced; many more where a new one costs a person's answer.
const MAX_CLOSES: u32 = 1000;
const MAX_CLOSES_PERSONAL: u32 = 20_000;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// What is read of a connection in one go: the library asks for the length of a packet and for its rest, and most are small.
/// Of a large one the rest goes past it.
const READ_AHEAD: usize = 4 << 10;

/// A connection that is logged in. Dropping it ends it.
pub struct Session {
    pub traffic: Arc<Traffic>,
    pub opened: Instant,
    /// Channels that were closed from our side.
    closes: AtomicU32,
    /// How long the server took to open the last channel, in microseconds.
    opening: AtomicU64,
    /// The login is root's.
    root: bool,
    /// A person had to answer for it.
    personal: bool,
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
    /// A person had to answer for the login.
    personal: bool,
    /// Fires when the connection has ended, for whatever reason.
    ended: CancellationToken,
    /// Cuts the stream when the link is dropped, so that nothing of it stays.
    _cut: DropGuard,
}

/// Connects and logs in within the limit of `tuning` and the bounds of the call.
pub async fn connect(
    target: &Target,
    keys: &HostKeys,
    answers: &Answers,
    tuning: Tuning,
    bounds: &Bounds,
) -> Result<Session, SshError> {
    let bounds = bounds.within(tuning.limit);
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
        let made = connect_hop(hop, hops.last().zip(through), (keys, answers), tuning, &traffic, &bounds).await;
        match made {
            Ok(link) if last => {
                let (opened, closes, root) = (Instant::now(), AtomicU32::new(0), target.user == "root");
                let personal = link.personal || hops.iter().any(|hop| hop.personal);
                return Ok(Session {
                    traffic,
                    opened,
                    closes,
                    opening: AtomicU64::new(u64::MAX),
                    root,
                    personal,
                    running: Arc::default(),
                    link,
                    hops,
                });
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
    (keys, answers): (&HostKeys, &Answers),
    tuning: Tuning,
    traffic: &Arc<Traffic>,
    bounds: &Bounds,
) -> Result<Link, SshError> {
    let at = endpoint(target);
    let known = bounds.step(&at, Step::HostKey, keys.lookup(&target.host, target.port)).await?;
    let known = known.map_err(|(file, cause)| SshError::KnownHosts { at: at.clone(), file, cause: Arc::new(cause) })?;
    let preferred = algorithms::preferred(target.pin.as_deref(), &known, &target.legacy);
    let config = Arc::new(tuning::config(preferred, tuning));
    let ended = CancellationToken::new();
    let cut = CancellationToken::new();
    let key = Arc::new(OnceLock::new());
    let farewell = Arc::new(OnceLock::new());
    let client = Client {
        at: at.clone(),
        pin: target.pin.clone(),
        known,
        keys: keys.clone(),
        shown: Arc::clone(&key),
        farewell: Arc::clone(&farewell),
        _ended: ended.clone().drop_guard(),
    };
    // From here on giving up, also by being dropped, cuts the stream.
    let guard = cut.clone().drop_guard();
    let (mut handle, traffic) = match through {
        None => {
            let stream = dial(target, &at, tuning.limit, bounds).await?;
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
    let watch = Watch { farewell, agent: AtomicBool::new(false) };
    let login = bounds.step(&at, Step::Login, auth::login(&mut handle, target, &at, &watch, answers)).await;
    let personal = login.map_err(|error| match error {
        SshError::Timeout { at, after, .. } if watch.agent.load(Ordering::Relaxed) => {
            SshError::Timeout { at, step: Step::Agent, after }
        }
        other => other,
    })??;
    Ok(Link { handle, key, traffic, personal, ended, _cut: guard })
}

/// The TCP connection to the nearest server, through its proxy if it has one.
async fn dial(target: &Target, at: &Arc<Endpoint>, limit: Duration, bounds: &Bounds) -> Result<TcpStream, SshError> {
    let deadline = bounds.deadline.unwrap_or_else(|| Instant::now() + limit);
    if let Some(via) = target.proxy.as_ref().filter(|via| via.proxy != Proxy::Direct) {
        let dialled = proxy::connect(via, (&target.host, target.port), deadline);
        return bounds.step(at, Step::Connect, dialled).await?.map_err(|cause| SshError::Proxy {
            at: at.clone(),
            proxy: via.proxy.to_string(),
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
            Failure::HostKey(Decision::TooShort { bits }) => SshError::HostKeyShort { at: at.clone(), bits },
            Failure::HostKey(Decision::Trusted | Decision::Certified) => {
                SshError::Handshake { at: at.clone(), cause: Arc::new(russh::Error::UnknownKey) }
            }
            Failure::KnownHosts(file, cause) => SshError::KnownHosts { at: at.clone(), file, cause: Arc::new(cause) },
            Failure::Wire(cause) => SshError::Handshake { at: at.clone(), cause: Arc::new(cause) },
        }
    })
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
        self.closes.load(Ordering::Relaxed) >= if self.personal { MAX_CLOSES_PERSONAL } else { MAX_CLOSES }
    }

    /// Whether a person had to answer a question to get this connection, at the target or on the way to it.
    pub fn is_personal(&self) -> bool {
        self.personal
    }

    /// Opens a session channel (RFC 4254, 6.1).
    pub async fn open_channel(&self) -> Result<Channel<Msg>, russh::Error> {
        let started = Instant::now();
        let opened = self.link.handle.channel_open_session().await;
        self.opening.store(started.elapsed().as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        opened
    }

    /// How long the server took to open the last session channel; longer than anything before there was one.
    pub fn opening_took(&self) -> Duration {
        Duration::from_micros(self.opening.load(Ordering::Relaxed))
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
