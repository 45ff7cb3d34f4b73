//! An SSH server inside this process: for the demo, which must run where no sshd is installed, for logins by password,
//! and for servers that misbehave.
//!
//! It is no sandbox: a command runs as the user who started this process, on the loopback only.

mod asking;
mod channel;
mod faults;
mod handler;
#[cfg(test)]
mod tests;

use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use russh::{Limits, MethodSet, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use asking::{Asks, CODE_PROMPT, When};
pub use faults::{Faults, Refuse, Stall};

/// Time alone is no reason for new keys: no test takes so long.
const REKEY_TIME: Duration = Duration::from_secs(3600);
/// What OpenSSH grants a client on a channel.
const WINDOW: u32 = 2 << 20;

/// Who may log in.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    pub user: String,
    pub password: Option<String>,
    pub keys: Vec<PublicKey>,
}

/// A running server. When it is dropped its connections are cut and its commands killed.
pub struct Embedded {
    pub address: SocketAddr,
    /// `SHA256:…` of its host key.
    pub fingerprint: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the connections share.
struct Shared {
    accounts: Accounts,
    asks: Option<Asks>,
    // A plain lock: it is held only for reading or replacing the value, never across an await.
    faults: Mutex<Faults>,
    seen: Mutex<Seen>,
}

/// What the server has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: usize,
    /// Every attempt to log in: the method and whether it was accepted.
    pub logins: Vec<(&'static str, bool)>,
    /// Every command as it came over the wire.
    pub commands: Vec<String>,
}

impl Embedded {
    pub async fn start(accounts: Accounts) -> Result<Embedded> {
        Embedded::start_with(accounts, Faults::default()).await
    }

    /// One that asks for a one-time code, too.
    pub async fn start_asking(accounts: Accounts, asks: Asks) -> Result<Embedded> {
        Embedded::run(accounts, Some(asks), Faults::default()).await
    }

    pub async fn start_with(accounts: Accounts, faults: Faults) -> Result<Embedded> {
        Embedded::run(accounts, None, faults).await
    }

    /// Starts on a free port of the loopback with a new ed25519 host key.
    async fn run(accounts: Accounts, asks: Option<Asks>, faults: Faults) -> Result<Embedded> {
        let host_key = new_key()?;
        let fingerprint = host_key.fingerprint(HashAlg::Sha256).to_string();
        let config = Arc::new(server::Config {
            keys: vec![host_key],
            // Its answer time is of no use to an attacker on the loopback, and each wrong login would cost a second.
            auth_rejection_time: Duration::from_millis(10),
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            limits: faults.rekey_after.map_or_else(Limits::default, |bytes| Limits::new(bytes, bytes, REKEY_TIME)),
            window_size: faults.window.unwrap_or(WINDOW),
            methods: asks.as_ref().map_or_else(MethodSet::server_supported, Asks::methods),
            ..server::Config::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the embedded SSH server")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { accounts, asks, faults: Mutex::new(faults), seen: Mutex::new(Seen::default()) });
        let accepting = tokio::spawn(accept(listener, config, shared.clone()));
        Ok(Embedded { address, fingerprint, shared, accepting })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What goes wrong from now on, on open connections too.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.shared.faults) = faults;
    }

    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The accepting task owns the connections; they end with it.
        self.accepting.abort();
    }
}

/// A new ed25519 key, for a host or a client.
pub fn new_key() -> Result<PrivateKey> {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).context("making an ed25519 key")
}

async fn accept(listener: TcpListener, config: Arc<server::Config>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Accepting fails when file descriptors run out; the client then sees a connection that says nothing.
                let Ok((stream, _)) = accepted else { continue };
                lock(&shared.seen).connections += 1;
                connections.spawn(serve(stream, config.clone(), shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection to its end. An error of the protocol ends the connection, which the client notices by itself.
async fn serve(stream: TcpStream, config: Arc<server::Config>, shared: Arc<Shared>) {
    let Ok((stream, wire)) = split_off(stream) else { return };
    // The protocol runs in a task of its own: when this one is aborted, cutting the wire is what ends it.
    let _cut = CutOnDrop(wire.clone());
    if shared.faults().stall == Some(Stall::Banner) {
        // The connection is open and silent until the client gives up or the server goes.
        std::future::pending::<()>().await;
    }
    if let Some(time) = shared.faults().slow_to_accept {
        tokio::time::sleep(time).await;
    }
    let handler = handler::Handler::new(shared, wire);
    if let Ok(session) = server::run_stream(config, stream, handler).await {
        let _ = session.await;
    }
}

/// A second handle on a connection's socket, by which it can be cut without asking the protocol.
#[derive(Clone)]
struct Wire(Arc<std::net::TcpStream>);

impl Wire {
    fn cut(&self) {
        // It fails when the other side has gone first.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

struct CutOnDrop(Wire);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

fn split_off(stream: TcpStream) -> std::io::Result<(TcpStream, Wire)> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let wire = Wire(Arc::new(stream.try_clone()?));
    Ok((TcpStream::from_std(stream)?, wire))
}

impl Shared {
    fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    fn saw(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut lock(&self.seen));
    }
}

/// A lock whose holder panicked still holds plain data that is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
