//! A server as the wire needs it: where it is, as whom to log in and how, which key it must show.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::config::Proxy;

/// Where to connect and how to log in. Made afresh from the inventory for every new connection, so that a secret lives in
/// memory only while it is being used.
#[derive(Clone)]
pub struct Target {
    pub alias: String,
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Tried in this order until one is accepted.
    pub logins: Vec<Login>,
    /// The only host key that is accepted, as `SHA256:…` in OpenSSH's notation. Without one known_hosts decide.
    pub pin: Option<String>,
    /// The proxy for it. Behind a jump server it means nothing.
    pub proxy: Option<Via>,
    /// The server to go through (ProxyJump), which is verified and logged in to like any other.
    pub jump: Option<Box<Target>>,
    /// Algorithms that are not safe any more and that the operator allows here all the same, of
    /// [`LEGACY_ALGORITHMS`](crate::config::LEGACY_ALGORITHMS).
    pub legacy: Vec<String>,
}

/// A proxy, and the password of the user in it.
#[derive(Clone)]
pub struct Via {
    pub proxy: Proxy,
    pub password: Option<Zeroizing<String>>,
}

/// One way to prove who we are (RFC 4252).
#[derive(Clone)]
pub enum Login {
    /// A private key file: OpenSSH, PEM or PKCS#8.
    Key { path: PathBuf, passphrase: Option<Zeroizing<String>> },
    /// A password; also offered to a keyboard-interactive prompt that asks for exactly one hidden answer.
    Password(Zeroizing<String>),
    /// Every identity that the agent behind `SSH_AUTH_SOCK` offers.
    Agent,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}@{}:{})", self.alias, self.user, self.host, self.port)
    }
}
