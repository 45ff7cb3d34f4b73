//! One server of the inventory, and a change to it.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::secrets::StoredSecret;

use super::InventoryError;

/// A server. Printing it shows no secret: stored ones print as their kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Server {
    pub alias: String,
    pub host: String,
    #[serde(default = "ssh_port")]
    pub port: u16,
    pub user: String,
    /// Private key files of the orchestrator's machine, in the order in which they are tried.
    #[serde(default, rename = "key_path", with = "key_paths")]
    pub key_paths: Vec<String>,
    #[serde(default)]
    pub password: Option<StoredSecret>,
    /// Of whichever private key is encrypted.
    #[serde(default)]
    pub passphrase: Option<StoredSecret>,
    /// Log in with what the agent behind `SSH_AUTH_SOCK` offers.
    #[serde(default)]
    pub agent: bool,
    /// An alias, or `user@host:port`; see [`Jump`].
    #[serde(default)]
    pub jump: Option<String>,
    /// `socks5://user@host:port`, `http://user@host:port`, both also without a user, or `none` where the settings name one; see [`crate::config::Proxy`].
    #[serde(default)]
    pub proxy: Option<String>,
    /// Of the user in `proxy`.
    #[serde(default)]
    pub proxy_password: Option<StoredSecret>,
    /// The only host key that is accepted, `SHA256:…`.
    #[serde(default)]
    pub host_key: Option<String>,
    /// Sorted, each once.
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub description: Option<String>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

/// One path is stored as a text, as it was when a server had one key, so that records of either age are read by either program.
mod key_paths {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        One(String),
        List(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(paths: &[String], serializer: S) -> Result<S::Ok, S::Error> {
        match paths {
            [] => serializer.serialize_none(),
            [path] => path.serialize(serializer),
            paths => paths.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
        Ok(match Option::<Stored>::deserialize(deserializer)? {
            None => Vec::new(),
            Some(Stored::One(path)) => vec![path],
            Some(Stored::List(paths)) => paths,
        })
    }
}

fn ssh_port() -> u16 {
    22
}

/// The name that a server's secret is sealed under; `what` is `password`, `passphrase` or `proxy password`.
pub fn secret_name(alias: &str, what: &str) -> String {
    format!("server/{alias}/{what}")
}

impl Server {
    /// The ways to log in, as words that may be shown.
    pub fn auth_kinds(&self) -> Vec<&'static str> {
        let kinds = [(!self.key_paths.is_empty(), "key"), (self.agent, "agent"), (self.password.is_some(), "password")];
        kinds.into_iter().filter_map(|(there, kind)| there.then_some(kind)).collect()
    }
}

/// What is to be added or changed. `None` leaves a field as it is; an empty text takes it away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerPatch {
    pub alias: String,
    pub host: Option<String>,
    /// Wider than a port, so that a wrong number is refused with words.
    pub port: Option<u64>,
    pub user: Option<String>,
    /// All key files that it is to have.
    pub key_paths: Option<Vec<String>>,
    /// `Some(None)` takes it away. Sealed under [`secret_name`]`(alias, "password")`.
    pub password: Option<Option<StoredSecret>>,
    /// As `password`, under `"passphrase"`.
    pub passphrase: Option<Option<StoredSecret>>,
    pub agent: Option<bool>,
    pub jump: Option<String>,
    pub proxy: Option<String>,
    /// As `password`, under `"proxy password"`.
    pub proxy_password: Option<Option<StoredSecret>>,
    pub host_key: Option<String>,
    /// All tags that it is to have.
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
}

impl ServerPatch {
    /// The server as it will be. `old` is the one with this alias, if there is one.
    pub(super) fn apply(self, old: Option<&Server>, now: Timestamp) -> Result<Server, InventoryError> {
        let needed = |field| InventoryError::Invalid { field, message: "a new server needs it".to_owned() };
        let text = |new: Option<String>, old: Option<&String>| match new {
            Some(text) if text.trim().is_empty() => None,
            Some(text) => Some(text.trim().to_owned()),
            None => old.cloned(),
        };
        let port = match self.port {
            None => old.map_or(ssh_port(), |old| old.port),
            Some(port) => u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| InventoryError::Invalid {
                field: "port",
                message: format!("{port} is not a port; it must be from 1 to 65535"),
            })?,
        };
        let mut tags = self.tags.unwrap_or_else(|| old.map(|old| old.tags.clone()).unwrap_or_default());
        for tag in &mut tags {
            *tag = tag.trim().to_owned();
        }
        tags.sort();
        tags.dedup();
        let proxy = text(self.proxy, old.and_then(|old| old.proxy.as_ref()));
        // Nothing proves that a proxy is the right one, so another one is not told what the one before it was told.
        let known = old.filter(|old| old.proxy == proxy).and_then(|old| old.proxy_password.clone());
        let proxy_password = self.proxy_password.unwrap_or(known);
        let key_paths = match self.key_paths {
            Some(paths) => each_once(paths),
            None => old.map(|old| old.key_paths.clone()).unwrap_or_default(),
        };
        Ok(Server {
            host: text(self.host, old.map(|old| &old.host)).ok_or_else(|| needed("host"))?,
            port,
            user: text(self.user, old.map(|old| &old.user)).ok_or_else(|| needed("user"))?,
            key_paths,
            password: self.password.unwrap_or_else(|| old.and_then(|old| old.password.clone())),
            passphrase: self.passphrase.unwrap_or_else(|| old.and_then(|old| old.passphrase.clone())),
            agent: self.agent.unwrap_or_else(|| old.is_some_and(|old| old.agent)),
            jump: text(self.jump, old.and_then(|old| old.jump.as_ref())),
            proxy,
            proxy_password,
            host_key: text(self.host_key, old.and_then(|old| old.host_key.as_ref())),
            tags,
            description: text(self.description, old.and_then(|old| old.description.as_ref())),
            created: old.map_or(now, |old| old.created),
            updated: now,
            alias: self.alias,
        })
    }
}

/// The paths that say something, in their order. One that stands there twice would be refused twice.
fn each_once(paths: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths.iter().map(|path| path.trim()).filter(|path| !path.is_empty()) {
        if !kept.iter().any(|known| known == path) {
            kept.push(path.to_owned());
        }
    }
    kept
}

/// The server to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jump {
    /// Another server of the inventory.
    Alias(String),
    /// One that is not in it, which is logged in to in the same ways as the server behind it.
    Address { user: String, host: String, port: u16 },
}

impl FromStr for Jump {
    type Err = String;

    /// Reads an alias, `user@host`, `user@host:port` or `user@[v6]:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither an alias nor user@host:port");
        let Some((user, place)) = text.split_once('@') else {
            return if super::validate::is_alias(text) { Ok(Jump::Alias(text.to_owned())) } else { Err(wrong()) };
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            None => ssh_port(),
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
        };
        if !super::validate::is_user(user) || !super::validate::is_host(host) {
            return Err(wrong());
        }
        Ok(Jump::Address { user: user.to_owned(), host: host.to_owned(), port })
    }
}
