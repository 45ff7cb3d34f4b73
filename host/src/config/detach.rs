//! The operator's word on which commands always run detached, whether or not the caller asks for it. Pure.

use serde::Deserialize;
use wildmatch::WildMatch;

/// `[detach]` of `orchestrator.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetachConfig {
    /// Aliases, globs (`build-*`) and tags (`tag:build`): every command of `task_exec` there.
    pub servers: Vec<String>,
    /// Globs over the whole command: `pg_dump *`.
    pub commands: Vec<String>,
}

impl DetachConfig {
    /// The entry that covers a command on a server, as it stands in the file.
    pub fn covers(&self, alias: &str, tags: &[String], cmd: &str) -> Option<&str> {
        let server = |entry: &&String| is_meant(entry, alias, tags);
        let command = |entry: &&String| WildMatch::new(entry).matches(cmd.trim());
        self.servers.iter().find(server).or_else(|| self.commands.iter().find(command)).map(String::as_str)
    }
}

/// Whether an entry of the file means a server: its alias, a glob (`build-*`) or a tag (`tag:build`).
pub(super) fn is_meant(entry: &str, alias: &str, tags: &[String]) -> bool {
    match entry.strip_prefix("tag:") {
        Some(tag) => tags.iter().any(|own| own == tag),
        None => WildMatch::new(entry).matches(alias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(servers: &[&str], commands: &[&str], expected: Option<&str>) {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = DetachConfig { servers: texts(servers), commands: texts(commands) };
        let tags = ["build".to_owned()];
        assert_eq!(config.covers("web-1", &tags, " pg_dump -Fc shop "), expected);
    }

    #[test]
    fn none_exact_and_wildcard_are_told_apart() {
        check(&[], &[], None);
        check(&["web"], &["pg_dump"], None);
        check(&["web-1"], &[], Some("web-1"));
        check(&["web-*"], &[], Some("web-*"));
        check(&["tag:build"], &[], Some("tag:build"));
        check(&["tag:buil*"], &["pg_dump *"], Some("pg_dump *"));
        check(&[], &["pg_dump -Fc shop"], Some("pg_dump -Fc shop"));
    }
}
