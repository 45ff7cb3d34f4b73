//! The operator's word on which servers may be spoken to with algorithms that are not safe any more. Pure.
//!
//! What the names mean is the wire's business.

use serde::Deserialize;

use super::detach::is_meant;

/// What may be named: key exchanges, a kind of signature, ciphers and MACs of RFC 4253 and 4419 that OpenSSH has switched off.
pub const LEGACY_ALGORITHMS: &[&str] = &[
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group1-sha1",
    "ssh-rsa",
    "aes256-cbc",
    "aes192-cbc",
    "aes128-cbc",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1",
];

/// `[legacy]` of `orchestrator.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LegacyConfig {
    /// Aliases, globs (`switch-*`) and tags (`tag:appliance`).
    pub servers: Vec<String>,
    /// What these servers are offered behind everything that is safe, of [`LEGACY_ALGORITHMS`].
    pub algorithms: Vec<String>,
}

impl LegacyConfig {
    /// What one server may be offered.
    pub fn of(&self, alias: &str, tags: &[String]) -> &[String] {
        match self.servers.iter().any(|entry| is_meant(entry, alias, tags)) {
            true => &self.algorithms,
            false => &[],
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self.algorithms.iter().find(|name| !LEGACY_ALGORITHMS.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(format!(
                "legacy.algorithms has {name:?}, which cannot be allowed; known are {}",
                LEGACY_ALGORITHMS.join(", ")
            )),
        }
    }
}
