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
