//! What `fail2ban-client` prints, read into data. Which commands are run and what is told of it is not decided here.
//!
//! The layout is a tree drawn with `|`, `-` and a backquote. Lines are found by their label, since versions differ in order and depth.

use std::collections::BTreeMap;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

/// One jail. A number that fail2ban did not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Jail {
    pub name: String,
    pub currently_failed: Option<u64>,
    pub total_failed: Option<u64>,
    pub currently_banned: Option<u64>,
    pub total_banned: Option<u64>,
    pub banned: Vec<String>,
    pub files: Vec<String>,
    /// As journalctl would take it, for a jail that reads the journal.
    pub journal_matches: Option<String>,
}

/// How one attempt to ask the server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Standard output.
    Answered(String),
    UnknownJail,
    /// The server's socket is missing, or nobody listens on it.
    NotRunning,
    /// The socket is there and this user may not use it.
    NoPermission,
    /// There is no `fail2ban-client`.
    NotInstalled,
    /// Anything else: how it ended.
    Other(String),
}

/// What the end of one command says. `sudo` is whether it ran through it.
pub fn reply(finished: &Finished, sudo: bool) -> Reply {
    if finished.success() {
        return Reply::Answered(finished.stdout_text().into_owned());
    }
    let text = format!("{}\n{}", finished.stdout_text(), finished.stderr_text());
    let says = |words: &str| text.contains(words);
    if says("Sorry but the jail") || says("UnknownJailException") {
        return Reply::UnknownJail;
    }
    // The client says "Is fail2ban running?" since 0.10 and "Is it running?" before, and where the socket is deaf.
    if says("Failed to access socket path") || says("Unable to contact server") {
        return Reply::NotRunning;
    }
    if says("Permission denied to socket") || says("you must be root") {
        return Reply::NoPermission;
    }
    // A shell tells a missing program by 127. sudo tells it by 1 and its text; its own absence is 127 again.
    let client_is_missing = text.lines().any(|line| line.contains("fail2ban-client") && line.contains("not found"));
    if client_is_missing || (!sudo && finished.exit_code == Some(127)) {
        return Reply::NotInstalled;
    }
    Reply::Other(finished.ending())
}

/// The label and the value of a line, without the tree.
fn labelled(line: &str) -> Option<(String, &str)> {
    let line = line.trim_start_matches([' ', '\t', '|', '`', '-']);
    let (label, value) = line.split_once(':')?;
    Some((label.trim().to_lowercase(), value.trim()))
}

/// The names of the jails from `status`. None when it is no such answer.
pub fn jails(status: &str) -> Option<Vec<String>> {
    let (_, list) = status.lines().filter_map(labelled).find(|(label, _)| label == "jail list")?;
    Some(list.split([',', ' ', '\t']).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// The jails of which `status --all` tells more than their names, by these.
pub fn each_jail(status: &str) -> BTreeMap<String, Jail> {
    let mut jails: Vec<Jail> = Vec::new();
    for (label, value) in status.lines().filter_map(labelled) {
        match jails.last_mut() {
            _ if label == "jail" => jails.push(Jail { name: value.to_owned(), ..Jail::default() }),
            Some(jail) => jail.learn(&label, value),
            None => {}
        }
    }
    jails.into_iter().map(|jail| (jail.name.clone(), jail)).collect()
}

/// One jail from `status JAIL`. None when it is no such answer.
pub fn jail(name: &str, status: &str) -> Option<Jail> {
    let mut jail = Jail { name: name.to_owned(), ..Jail::default() };
    let mut is_jail = false;
    for (label, value) in status.lines().filter_map(labelled) {
        is_jail |= label == "status for the jail";
        jail.learn(&label, value);
    }
    is_jail.then_some(jail)
}

impl Jail {
    fn learn(&mut self, label: &str, value: &str) {
        match label {
            "currently failed" => self.currently_failed = value.parse().ok(),
            "total failed" => self.total_failed = value.parse().ok(),
            "currently banned" => self.currently_banned = value.parse().ok(),
            "total banned" => self.total_banned = value.parse().ok(),
            "banned ip list" | "ip list" => self.banned = value.split_whitespace().map(str::to_owned).collect(),
            "file list" => self.files = files(value),
            "journal matches" if !value.is_empty() => self.journal_matches = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// The paths are separated by spaces and are absolute, so a space inside a path is told from one between two.
fn files(list: &str) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for word in list.split(' ').filter(|word| !word.is_empty()) {
        match files.last_mut().filter(|_| !word.starts_with('/')) {
            Some(last) => {
                last.push(' ');
                last.push_str(word);
            }
            None => files.push(word.to_owned()),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_version_0_8_is_understood_too() {
        // Written after the manual of 0.8: labels in another order, another name for the list, deeper by one.
        let status = "Status for the jail: ssh\n|- filter\n|  |- File list:\t/var/log/my auth.log /var/log/secure \n\
                      |  |- Currently failed:\t0\n|  `- Total failed:\t7\n`- action\n   |- Currently banned:\t1\n\
                      |  `- IP list:\t192.0.2.1 \n   `- Total banned:\t3\n";
        let jail = jail("ssh", status).unwrap();
        assert_eq!(jail.files, ["/var/log/my auth.log", "/var/log/secure"]);
        assert_eq!((jail.total_failed, jail.total_banned), (Some(7), Some(3)));
        assert_eq!(jail.banned, ["192.0.2.1"]);
    }

    #[test]
    fn what_is_no_status_is_not_taken_for_one() {
        assert_eq!(jail("sshd", "Usage: fail2ban-client [OPTIONS] <COMMAND>\n"), None);
        assert_eq!(jails("pong\n"), None);
    }

    #[test]
    fn a_missing_sudo_is_not_a_missing_fail2ban() {
        let check = |exit_code, stderr: &str, sudo, expected: Reply| {
            let stderr = stderr.as_bytes().to_vec();
            let finished = Finished { exit_code: Some(exit_code), stderr, ..Finished::default() };
            assert_eq!(reply(&finished, sudo), expected);
        };
        check(127, "bash: line 1: fail2ban-client: command not found\n", false, Reply::NotInstalled);
        check(127, "sh: 1: fail2ban-client: not found\n", false, Reply::NotInstalled);
        check(127, "", false, Reply::NotInstalled);
        check(1, "sudo: fail2ban-client: command not found\n", true, Reply::NotInstalled);
        let other = |line: &str| Reply::Other(line.to_owned());
        check(127, "sh: 1: sudo: not found\n", true, other("exited with 127: sh: 1: sudo: not found"));
        check(1, "sudo: a password is required\n", true, other("exited with 1: sudo: a password is required"));
    }
}
