//! `orchestrator.toml`: every key is known or refused with its line and the nearest known one. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::plugins::check_http_scope;
use super::{ConfigError, DetachConfig, LegacyConfig, NAMES, PluginConfig, PluginLimits};

/// What stands in the file.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Top-level values, by the environment's names.
    pub(super) values: BTreeMap<String, String>,
    pub(super) plugins: BTreeMap<String, PluginConfig>,
    pub(super) plugin_limits: PluginLimits,
    pub(super) detach: DetachConfig,
    pub(super) legacy: LegacyConfig,
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    plugins: BTreeMap<String, PluginConfig>,
    #[serde(default)]
    plugin_limits: Limits,
    #[serde(default)]
    detach: DetachConfig,
    #[serde(default)]
    legacy: LegacyConfig,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    memory_mb: Option<u64>,
    compute_s: Option<u64>,
}

const TABLES: &[&str] = &["plugins", "plugin_limits", "detach", "legacy"];
const PLUGIN: &[&str] = &["enabled", "settings", "grants"];
const DETACH: &[&str] = &["servers", "commands"];
const LEGACY: &[&str] = &["servers", "algorithms"];
const GRANTS: &[&str] = &["servers", "exec", "sudo", "http"];
const LIMITS: &[&str] = &["memory_mb", "compute_s"];

pub(super) fn parse(text: &str) -> Result<File, ConfigError> {
    let failed = |error: toml::de::Error| ConfigError::Toml {
        line: error.span().map(|span| line(text, span.start)),
        message: error.message().to_owned(),
    };
    let document = DeTable::parse(text).map_err(failed)?;
    let table = document.get_ref();
    let top: Vec<_> = NAMES.iter().map(|(_, key)| *key).chain(TABLES.iter().copied()).collect();
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let place = line(text, key.span().start);
        let key: &str = key.get_ref();
        if TABLES.contains(&key) {
            continue;
        }
        if key == "data_dir" {
            let message = "data_dir cannot stand in a file of the data directory: set MCP_DATA_DIR".to_owned();
            return Err(ConfigError::Toml { line: Some(place), message });
        }
        let Some((name, _)) = NAMES.iter().find(|(_, known)| *known == key) else {
            return Err(unknown(key, key, place, &top));
        };
        let value = scalar(value.get_ref()).ok_or_else(|| ConfigError::Toml {
            line: Some(place),
            message: format!("{key} must be a text, a number, true or false, or a list of texts"),
        })?;
        values.insert((*name).to_owned(), value);
    }
    check_tables(text, table)?;
    let tables: Tables = toml::from_str(text).map_err(failed)?;
    for (name, plugin) in &tables.plugins {
        for scope in plugin.grants.iter().flat_map(|grants| &grants.http) {
            let wrong = |what: &str| format!("an entry of plugins.{name}.grants {what}");
            check_http_scope(scope).map_err(|what| ConfigError::Toml { line: None, message: wrong(what) })?;
        }
    }
    tables.legacy.check().map_err(|message| ConfigError::Toml { line: None, message })?;
    let Tables { plugins, plugin_limits: limits, detach, legacy } = tables;
    Ok(File { values, plugins, plugin_limits: plugin_limits(&limits)?, detach, legacy })
}

fn plugin_limits(given: &Limits) -> Result<PluginLimits, ConfigError> {
    let default = PluginLimits::default();
    let wrong = |message: &str| ConfigError::Toml { line: None, message: message.to_owned() };
    let memory = match given.memory_mb {
        None => default.memory,
        // Linear memories have 32-bit addresses.
        Some(mb @ 1..=4096) => usize::try_from(mb << 20).map_err(|_| wrong("plugin_limits.memory_mb is too large"))?,
        Some(_) => return Err(wrong("plugin_limits.memory_mb must be from 1 to 4096")),
    };
    let compute = match given.compute_s {
        None => default.compute,
        Some(seconds @ 1..=3600) => Duration::from_secs(seconds),
        Some(_) => return Err(wrong("plugin_limits.compute_s must be from 1 to 3600")),
    };
    Ok(PluginLimits { memory, compute })
}

fn check_tables(text: &str, top: &DeTable<'_>) -> Result<(), ConfigError> {
    for (key, value) in top {
        let Some(table) = value.get_ref().as_table() else { continue };
        if key.get_ref() == "plugin_limits" {
            check(text, table, "plugin_limits", LIMITS)?;
        }
        if key.get_ref() == "detach" {
            check(text, table, "detach", DETACH)?;
        }
        if key.get_ref() == "legacy" {
            check(text, table, "legacy", LEGACY)?;
        }
        if key.get_ref() != "plugins" {
            continue;
        }
        for (name, plugin) in table {
            let Some(plugin) = plugin.get_ref().as_table() else { continue };
            let path = format!("plugins.{}", name.get_ref());
            check(text, plugin, &path, PLUGIN)?;
            let grants = plugin.iter().find(|(key, _)| key.get_ref() == "grants");
            if let Some(grants) = grants.and_then(|(_, grants)| grants.get_ref().as_table()) {
                check(text, grants, &format!("{path}.grants"), GRANTS)?;
            }
        }
    }
    Ok(())
}

fn check(text: &str, table: &DeTable<'_>, path: &str, known: &[&'static str]) -> Result<(), ConfigError> {
    for key in table.keys() {
        let name: &str = key.get_ref();
        if !known.contains(&name) {
            return Err(unknown(&format!("{path}.{name}"), name, line(text, key.span().start), known));
        }
    }
    Ok(())
}

fn unknown(key: &str, name: &str, line: usize, known: &[&'static str]) -> ConfigError {
    let wanted = name.to_ascii_lowercase();
    let wanted = wanted.strip_prefix("mcp_").unwrap_or(&wanted);
    let scored = known.iter().map(|candidate| (strsim::jaro_winkler(wanted, candidate), *candidate));
    let best = scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0));
    ConfigError::UnknownKey { key: key.to_owned(), line, nearest: best.map(|(_, name)| name) }
}

/// The value as the environment would hold it.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(":"))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
