//! The operator's word about plugins: which run, with which settings, and what they may do.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

/// `[plugins.NAME]` of `orchestrator.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginConfig {
    /// Off when `false`. Bundled and third-party plugins are on unless said otherwise.
    pub enabled: Option<bool>,
    /// What the plugin reads through `settings.get`.
    pub settings: Map<String, Value>,
    /// What the plugin may do. Absent: a bundled plugin gets what it wants, any other gets nothing.
    pub grants: Option<GrantsConfig>,
}

/// `[plugins.NAME.grants]`: deny by default, each list adds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantsConfig {
    /// Aliases, globs (`web-*`) and tags (`tag:prod`); `*` is every server.
    pub servers: Vec<String>,
    /// Command lines by their leading words: `["docker", "logs", "*"]`. Without a last `*` the whole line must match.
    pub exec: Vec<Vec<String>>,
    /// The same, for commands that may run through sudo.
    pub sudo: Vec<Vec<String>>,
    /// Method, host, then the kinds of address that may be reached beside public ones: `["GET", "*.example.org", "private"]`.
    pub http: Vec<Vec<String>>,
}

/// The kinds of address that a grant of `http` must name.
pub const REACHES: &[&str] = &["private", "loopback", "link-local"];

/// Why this is no scope of `http`, if it is none.
pub fn check_http_scope(scope: &[String]) -> Result<(), &'static str> {
    let Some((method, [host, reaches @ ..])) = scope.split_first() else {
        return Err("for http must have a scope of at least method and host");
    };
    if method != "*" && (method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase())) {
        return Err("for http must begin with a method in capital letters, or *");
    }
    if host.is_empty() || host.contains(['/', '@']) {
        return Err("for http must have a host as its second word, without scheme and path");
    }
    if !reaches.iter().all(|reach| REACHES.contains(&reach.as_str())) {
        return Err("for http may have the words private, loopback and link-local behind the host, and no others");
    }
    Ok(())
}

/// `[plugin_limits]` of `orchestrator.toml`: what one call of any plugin may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PluginLimits {
    /// Linear memory of one instance, bytes. `memory_mb`.
    pub memory: usize,
    /// Time in which the guest computes; waiting for a server does not count. `compute_s`.
    pub compute: Duration,
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits { memory: 64 << 20, compute: Duration::from_secs(10) }
    }
}
