//! Who a process is: its version, its build, and a digest of each of its settings. Decides whether a client can live with
//! the daemon that it finds.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::protocol::{Greeting, PROTOCOL};
use crate::config::Settings;

/// What a process takes from its environment besides settings, and what a server's login may depend on.
const ENVIRONMENT: &[&str] = &["HOME", "SSH_AUTH_SOCK"];

/// This process, as another one of the same program is compared with it.
#[derive(Clone)]
pub struct Identity {
    version: String,
    build: String,
    /// By name. Never shown: the master key may be among them.
    texts: BTreeMap<String, String>,
}

/// What a client makes of a greeting.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// They get along.
    Same,
    /// The daemon should give way to one of the client's kind. It may stay if it is busy and speaks our protocol.
    GiveWay { reason: String },
}

impl Identity {
    pub fn of(settings: &Settings) -> Identity {
        let mut texts: BTreeMap<String, String> =
            settings.texts().into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        for name in ENVIRONMENT {
            let value = std::env::var_os(name).unwrap_or_default();
            texts.insert((*name).to_owned(), value.to_string_lossy().into_owned());
        }
        texts.insert("plugins/".to_owned(), listing(&settings.data_dir.join("plugins")));
        Identity { version: env!("CARGO_PKG_VERSION").to_owned(), build: build(), texts }
    }

    /// How a daemon of this identity greets.
    pub(super) fn greeting(&self) -> Greeting {
        let salt = HEXLOWER.encode(&rand::random::<[u8; 16]>());
        Greeting {
            protocol: PROTOCOL,
            version: self.version.clone(),
            build: self.build.clone(),
            pid: std::process::id(),
            settings: self.texts.iter().map(|(name, text)| (name.clone(), digest(&salt, name, text))).collect(),
            salt,
        }
    }

    /// What a client of this identity makes of a daemon.
    pub(super) fn judge(&self, greeting: &Greeting) -> Verdict {
        let give_way = |reason: String| Verdict::GiveWay { reason };
        let newer = number(&self.version).cmp(&number(&greeting.version));
        // An older client can live with a newer daemon, which may have changed the database so that there is no way back.
        if newer.is_lt() && greeting.protocol == PROTOCOL {
            return Verdict::Same;
        }
        if newer.is_gt() || greeting.protocol != PROTOCOL {
            return give_way(format!("this is version {}", self.version));
        }
        if self.build != greeting.build {
            return give_way(format!("this is another build of {}", self.version));
        }
        let differs = |name: &&String| {
            let text = self.texts.get(*name).map(String::as_str).unwrap_or_default();
            greeting.settings.get(*name).is_none_or(|theirs| *theirs != digest(&greeting.salt, name, text))
        };
        let different: Vec<&str> = self.texts.keys().filter(differs).map(String::as_str).collect();
        match different.is_empty() {
            true => Verdict::Same,
            false => give_way(format!("it runs with other values of {}", different.join(", "))),
        }
    }
}

/// `1.2.3` as numbers; what is no number counts as 0.
fn number(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    release.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

/// A few digits that tell whether two texts are the same, and nothing else.
fn digest(salt: &str, name: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    for part in [salt, name, text] {
        // With its length, so that no two lists of parts are the same bytes.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    HEXLOWER.encode(digest.get(..8).unwrap_or_default())
}

/// The program's own file at the start of the process. A digest of it would take longer than the whole start.
fn build() -> String {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    file.map_or_else(|_| String::new(), |file| format!("{:x}-{:x}.{:x}", file.len(), file.mtime(), file.mtime_nsec()))
}

/// What is in the folder of third-party plugins: they are loaded once, so a change needs a new process.
fn listing(directory: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(directory) else { return String::new() };
    let mut files: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file = entry.metadata().ok()?;
            Some(format!("{:?} {} {}.{}", entry.file_name(), file.len(), file.mtime(), file.mtime_nsec()))
        })
        .collect();
    files.sort();
    files.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(version: &str, build: &str, texts: &[(&str, &str)]) -> Identity {
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Identity { version: version.to_owned(), build: build.to_owned(), texts }
    }

    fn check(client: &Identity, daemon: &Identity, expected: Option<&str>) {
        let reason = match client.judge(&daemon.greeting()) {
            Verdict::Same => None,
            Verdict::GiveWay { reason } => Some(reason),
        };
        assert_eq!(reason.as_deref(), expected);
    }

    #[test]
    fn an_older_daemon_gives_way_and_a_newer_one_stays() {
        let of = |version| identity(version, "a", &[]);
        check(&of("0.10.0"), &of("0.9.1"), Some("this is version 0.10.0"));
        check(&of("0.9.1"), &of("0.10.0"), None);
        check(&of("1.0.0"), &of("1.0.0"), None);
        check(&of("1.0.0"), &identity("1.0.0", "b", &[]), Some("this is another build of 1.0.0"));
    }

    #[test]
    fn a_daemon_of_another_protocol_gives_way_whatever_its_version() {
        let mut greeting = identity("9.0.0", "a", &[]).greeting();
        greeting.protocol = PROTOCOL + 1;
        let verdict = identity("1.0.0", "a", &[]).judge(&greeting);
        assert_eq!(verdict, Verdict::GiveWay { reason: "this is version 1.0.0".to_owned() });
    }

    #[test]
    fn settings_that_differ_are_named_and_their_values_are_not() {
        let daemon = identity("1.0.0", "a", &[("LOG_LEVEL", "info"), ("MCP_MASTER_KEY", "hunter2"), ("HOME", "/a")]);
        let client = identity("1.0.0", "a", &[("LOG_LEVEL", "info"), ("MCP_MASTER_KEY", "other"), ("HOME", "/b")]);
        check(&client, &daemon, Some("it runs with other values of HOME, MCP_MASTER_KEY"));
        let greeting = serde_json::to_string(&daemon.greeting()).unwrap();
        assert!(!greeting.contains("hunter2") && !greeting.contains("info"), "{greeting}");
    }

    #[test]
    fn the_same_setting_has_another_digest_in_another_daemon() {
        let daemon = identity("1.0.0", "a", &[("LOG_LEVEL", "info")]);
        assert_ne!(daemon.greeting().settings, daemon.greeting().settings);
    }
}
