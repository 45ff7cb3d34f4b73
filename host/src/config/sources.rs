//! A setting's value from the first source that has it, as text, and as what it means. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConfigError, HostKeyPolicy, Proxy};

/// A source of settings: its name for messages, and values by the environment's names.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) values: BTreeMap<String, String>,
}

/// The sources, the strongest first.
pub(super) struct Sources(pub(super) Vec<Source>);

/// A value with where it stands.
pub(super) struct Found<'a> {
    name: &'a str,
    origin: &'static str,
    pub(super) value: &'a str,
}

impl Found<'_> {
    fn wrong(&self, accepted: &'static str) -> ConfigError {
        // The toml key is what its author wrote and will look for.
        let name = if self.origin == super::TOML { super::toml_key(self.name) } else { self.name.to_owned() };
        ConfigError::Value { name, origin: self.origin.to_owned(), value: self.value.to_owned(), accepted }
    }
}

impl Sources {
    /// The value of the first of `names` in the strongest source that has one. An empty value is no value: clients' forms
    /// leave such behind.
    pub(super) fn find<'a>(&'a self, names: &[&'a str]) -> Option<Found<'a>> {
        self.0.iter().find_map(|source| {
            names.iter().find_map(|name| {
                let value = source.values.get(*name).map(|value| value.trim()).filter(|value| !value.is_empty())?;
                Some(Found { name, origin: source.name, value })
            })
        })
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.find(&[name]).map(|found| found.value.to_owned())
    }

    /// A number of at least one.
    pub(super) fn count(&self, name: &str, default: usize) -> Result<usize, ConfigError> {
        let Some(found) = self.find(&[name]) else { return Ok(default) };
        match found.value.parse() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(found.wrong("a whole number of at least 1 is accepted")),
        }
    }

    /// A time in the unit that the name's end tells. With two names the first one is the one that wins.
    pub(super) fn duration(&self, names: &[(&str, Unit)], default: Duration) -> Result<Duration, ConfigError> {
        let all: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let Some(found) = self.find(&all) else { return Ok(default) };
        let unit = names.iter().find(|(name, _)| *name == found.name).map_or(Unit::Milliseconds, |(_, unit)| *unit);
        match (found.value.parse(), unit) {
            (Ok(number), Unit::Milliseconds) => Ok(Duration::from_millis(number)),
            (Ok(number), Unit::Seconds) => Ok(Duration::from_secs(number)),
            (Err(_), Unit::Milliseconds) => Err(found.wrong("a whole number of milliseconds is accepted")),
            (Err(_), Unit::Seconds) => Err(found.wrong("a whole number of seconds is accepted")),
        }
    }

    /// A time where 0 means that there is no limit.
    pub(super) fn limit(&self, names: &[(&str, Unit)], default: Duration) -> Result<Option<Duration>, ConfigError> {
        Ok(Some(self.duration(names, default)?).filter(|limit| !limit.is_zero()))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        let Some(found) = self.find(&[name]) else { return Ok(false) };
        match found.value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(found.wrong("true or false is accepted")),
        }
    }

    pub(super) fn host_keys(&self, name: &str) -> Result<HostKeyPolicy, ConfigError> {
        let Some(found) = self.find(&[name]) else { return Ok(HostKeyPolicy::default()) };
        match found.value.to_ascii_lowercase().as_str() {
            "strict" => Ok(HostKeyPolicy::Strict),
            "accept-new" => Ok(HostKeyPolicy::AcceptNew),
            _ => Err(found.wrong("strict or accept-new is accepted")),
        }
    }

    /// A proxy and the password of its user. Either may hold a secret, so what is wrong is not repeated.
    pub(super) fn proxy(&self, name: &str, password: &str) -> Result<(Option<Proxy>, Option<String>), ConfigError> {
        let wrong = |found: Found<'_>, accepted| Err(Found { value: "…", ..found }.wrong(accepted));
        let given = self.find(&[name]);
        let proxy: Option<Proxy> = match given.as_ref().map(|found| found.value.parse()).transpose() {
            Ok(proxy) => proxy,
            Err(accepted) => return given.map_or(Ok((None, None)), |found| wrong(found, accepted)),
        };
        let has_user = proxy.as_ref().is_some_and(|proxy| proxy.user().is_some());
        match (given, self.find(&[password])) {
            (Some(found), None) if has_user => wrong(found, "a user in it needs MCP_PROXY_PASSWORD"),
            (_, Some(found)) if !has_user => wrong(found, "it belongs to a user in MCP_PROXY: socks5://USER@host:port"),
            (_, found) => Ok((proxy, found.map(|found| found.value.to_owned()))),
        }
    }

    /// A `tracing` filter; also in capitals and with the names of other loggers.
    pub(super) fn log_filter(&self, name: &str, default: &str) -> Result<String, ConfigError> {
        let Some(found) = self.find(&[name]) else { return Ok(default.to_owned()) };
        let filter = match found.value.to_ascii_lowercase().as_str() {
            "warning" => "warn".to_owned(),
            "silent" | "none" => "off".to_owned(),
            level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => level.to_owned(),
            _ => found.value.to_owned(),
        };
        let plain_word = filter.chars().all(|char| char.is_ascii_alphanumeric());
        let known = matches!(filter.as_str(), "off" | "error" | "warn" | "info" | "debug" | "trace");
        if (plain_word && !known) || tracing_subscriber::EnvFilter::try_new(&filter).is_err() {
            return Err(found.wrong("error, warn, info, debug, trace, off or a tracing filter is accepted"));
        }
        Ok(filter)
    }
}

/// What a number counts.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}
