//! `server import --ssh-config`: every host that an OpenSSH client configuration names becomes a server.
//!
//! What the configuration means is in `ssh_config/`. Here it becomes arguments of `server_add`, the servers on the way to
//! another one first.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Map, Value, json};

use super::ssh_config::{Asker, Config, Found, tokens};
use crate::cli::caller::Caller;
use crate::cli::report::{Fate, Report};
use crate::cli::say;
use crate::config::expand_home;

/// What `ssh` tries where the configuration names no key, in its order.
const DEFAULT_KEYS: [&str; 3] = ["~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519"];

#[derive(Args)]
pub struct Arguments {
    /// The configuration; without a FILE it is ~/.ssh/config
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "~/.ssh/config", required = true)]
    ssh_config: PathBuf,
    /// Update servers that are known here by what the configuration says
    #[arg(long)]
    force: bool,
    /// Only say what would be imported
    #[arg(long)]
    dry_run: bool,
}

pub fn run(data_dir: Option<PathBuf>, arguments: &Arguments) -> Result<ExitCode> {
    let file = expand_home(&arguments.ssh_config.to_string_lossy());
    let home = std::env::home_dir().context("this user has no home directory: set HOME")?;
    let config = Config::read(&file, &home)?;
    let asker = Asker { user: login_name()?, home: home.display().to_string() };
    let agent = std::env::var_os("SSH_AUTH_SOCK").is_some_and(|socket| !socket.is_empty());
    let mut plan = Plan { config: &config, asker: &asker, agent, planned: Vec::new() };
    let (names, patterns) = config.names();
    for name in &names {
        plan.host(name);
    }
    let planned = plan.planned;

    let mut report = Report::new(arguments.dry_run);
    report.heading(&format!("{}:", file.display()));
    config.notes.iter().for_each(|note| report.note(note));
    let mut caller = Caller::open(data_dir, "server import")?;
    let known = caller.aliases("server_list", "servers")?;
    for Planned { alias, server } in planned {
        let is_known = known.contains(&alias);
        if is_known && !arguments.force {
            report.entry(Fate::Kept, &alias, "is known here already; --force updates it by what the file says");
            continue;
        }
        let server = match server {
            Ok(server) => server,
            Err(why) => {
                report.entry(Fate::Failed, &alias, &why);
                continue;
            }
        };
        if !arguments.dry_run
            && let Err(refusal) = caller.call("server_add", &Value::Object(server.arguments))?
        {
            report.entry(Fate::Failed, &alias, &refusal.to_string());
            continue;
        }
        report.entry(Fate::Imported, &alias, &format!("{}{}", server.shown, if is_known { " (update)" } else { "" }));
        server.notes.iter().for_each(|note| report.note(note));
    }
    for pattern in patterns.iter().filter(|pattern| *pattern != "*") {
        report.entry(Fate::Passed, pattern, "is a pattern and names no host");
    }
    let (text, code) = report.finish();
    say(&text)?;
    Ok(code)
}

/// As `ssh` has it where a host's user is not said.
fn login_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output().context("asking `id` for the login name")?;
    Ok(String::from_utf8(output.stdout).context("reading the login name")?.trim().to_owned())
}

/// A server to be added.
struct Planned {
    alias: String,
    server: Result<Server, String>,
}

struct Server {
    arguments: Map<String, Value>,
    shown: String,
    notes: Vec<String>,
}

/// All servers to be added, each after those on the way to it.
struct Plan<'a> {
    config: &'a Config,
    asker: &'a Asker,
    /// An agent is there to be asked.
    agent: bool,
    planned: Vec<Planned>,
}

impl Plan<'_> {
    /// Plans a host of the configuration, and whatever it is reached through.
    fn host(&mut self, name: &str) {
        if self.planned.iter().any(|planned| planned.alias == name) {
            return;
        }
        let found = self.config.resolve(name, self.asker);
        // Taken first, so that hosts that are reached through each other come to an end; `server_add` refuses such a circle.
        let place = self.planned.len();
        self.planned.push(Planned { alias: name.to_owned(), server: Err("is reached through itself".to_owned()) });
        let server = found.and_then(|found| {
            let jump = match &found.proxy_jump {
                None => None,
                Some(jump) => Some(self.way(jump, &found)?),
            };
            self.server(name, &found, jump)
        });
        let alias = name.to_owned();
        self.planned.remove(place);
        self.planned.push(Planned { alias, server });
    }

    /// Plans the hosts of a `ProxyJump` list, and returns how the last of them is written as `jump`.
    fn way(&mut self, list: &str, to: &Found) -> Result<String, String> {
        let port = to.port.to_string();
        let known =
            [('%', "%"), ('h', to.host.as_str()), ('n', to.name.as_str()), ('p', &port), ('r', to.user.as_str())];
        let list = tokens(list, &known).map_err(|why| format!("ProxyJump: {why}"))?;
        let mut way: Option<(String, String)> = None;
        for hop in list.split(',') {
            let (user, host, port) =
                hop_parts(hop).ok_or_else(|| format!("ProxyJump: {hop:?} is not [user@]host[:port]"))?;
            let through = way.as_ref().map(|(_, jump)| jump.clone());
            way = Some(match (through, user, port) {
                (None, None, None) => {
                    self.host(host);
                    (host.to_owned(), host.to_owned())
                }
                (through, user, port) => {
                    let mut found = self.config.resolve(host, self.asker)?;
                    found.user = user.map_or(found.user, str::to_owned);
                    found.port = port.unwrap_or(found.port);
                    let before = way.as_ref().map(|(name, _)| format!("-via-{name}")).unwrap_or_default();
                    let alias = match (user, port) {
                        (None, None) => format!("{host}{before}"),
                        _ => format!("{}-{host}-{}{before}", found.user, found.port),
                    };
                    if !self.planned.iter().any(|planned| planned.alias == alias) {
                        let own = match (&through, found.proxy_jump.clone()) {
                            (None, Some(list)) => Some(self.way(&list, &found)?),
                            (through, _) => through.clone(),
                        };
                        let server = self.server(&alias, &found, own);
                        self.planned.push(Planned { alias: alias.clone(), server });
                    }
                    (alias.clone(), alias)
                }
            });
        }
        way.map(|(_, jump)| jump).ok_or_else(|| "ProxyJump is empty".to_owned())
    }

    fn server(&self, alias: &str, found: &Found, jump: Option<String>) -> Result<Server, String> {
        if let Some(command) = &found.proxy_command {
            return Err(format!("its ProxyCommand is a command on this machine, which is never run ({command})"));
        }
        let mut notes = found.notes.clone();
        let keys = self.keys(found, &mut notes)?;
        let agent = match found.identity_agent.as_deref() {
            _ if found.identities_only => false,
            None | Some("SSH_AUTH_SOCK") => self.agent,
            Some(none) if none.eq_ignore_ascii_case("none") => false,
            Some(other) => {
                notes.push(format!(
                    "IdentityAgent {other} was not taken over: set SSH_AUTH_SOCK to it where this program is started"
                ));
                false
            }
        };
        if keys.is_empty() && !agent {
            return Err("none of its keys is there, and no agent is running: it needs a way to log in".to_owned());
        }
        let mut arguments = Map::from_iter([
            ("alias".to_owned(), json!(alias)),
            ("host".to_owned(), json!(found.host)),
            ("port".to_owned(), json!(found.port)),
            ("user".to_owned(), json!(found.user)),
            ("agent".to_owned(), json!(agent)),
        ]);
        let mut shown = format!("{}@{}:{}", found.user, found.host, found.port);
        if !keys.is_empty() {
            shown.push_str(&format!(", key {}", keys.join(", ")));
            arguments.insert("keyPath".to_owned(), json!(keys));
        }
        if agent {
            shown.push_str(", agent");
        }
        if let Some(jump) = &jump {
            shown.push_str(&format!(", via {jump}"));
        }
        arguments.insert("jump".to_owned(), json!(jump.unwrap_or_default()));
        Ok(Server { arguments, shown, notes })
    }

    /// Those of its keys that are there, as `ssh` would try them.
    fn keys(&self, found: &Found, notes: &mut Vec<String>) -> Result<Vec<String>, String> {
        let defaults: Vec<String> = DEFAULT_KEYS.iter().map(|path| (*path).to_owned()).collect();
        let said = !found.identity_files.is_empty();
        let mut there = Vec::new();
        for path in if said { &found.identity_files } else { &defaults } {
            let path = found
                .expand(path, self.asker, |name| std::env::var(name).ok())
                .map_err(|why| format!("IdentityFile {path}: {why}"))?;
            if expand_home(&path).is_file() {
                there.push(absolute(&path));
            } else if said && !path.eq_ignore_ascii_case("none") {
                notes.push(format!("its key {path} is not there"));
            }
        }
        Ok(there)
    }
}

/// A relative path would be looked for where the daemon was started.
fn absolute(path: &str) -> String {
    if path.starts_with(['~', '$']) {
        return path.to_owned();
    }
    std::path::absolute(Path::new(path)).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// `[ssh://][user@]host[:port]`, an IPv6 address in brackets.
fn hop_parts(hop: &str) -> Option<(Option<&str>, &str, Option<u16>)> {
    let hop = hop.trim();
    let hop = hop.strip_prefix("ssh://").unwrap_or(hop).trim_end_matches('/');
    let (user, place) = match hop.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, hop),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match place.split_once(':') {
            // More than one colon is an address without brackets.
            Some((_, port)) if port.contains(':') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
    };
    (!host.is_empty() && user != Some("")).then_some((user, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_read_as_ssh_reads_it() {
        assert_eq!(hop_parts("bastion"), Some((None, "bastion", None)));
        assert_eq!(hop_parts("ada@bastion:2222"), Some((Some("ada"), "bastion", Some(2222))));
        assert_eq!(hop_parts("ssh://ada@[::1]:22/"), Some((Some("ada"), "::1", Some(22))));
        assert_eq!(hop_parts("2001:db8::1"), Some((None, "2001:db8::1", None)));
        for wrong in ["", "@host", "host:0", "host:ssh", "[::1"] {
            assert_eq!(hop_parts(wrong), None, "{wrong}");
        }
    }

    fn planned(text: &str, folder: &Path) -> Vec<(String, Result<Value, String>)> {
        let path = folder.join("config");
        std::fs::write(&path, text.replace("KEYS", folder.to_str().unwrap())).unwrap();
        for key in ["id_a", "id_b"] {
            std::fs::write(folder.join(key), "").unwrap();
        }
        let config = Config::read(&path, folder).unwrap();
        let asker = Asker { user: "me".to_owned(), home: folder.display().to_string() };
        let mut plan = Plan { config: &config, asker: &asker, agent: false, planned: Vec::new() };
        config.names().0.iter().for_each(|name| plan.host(name));
        let value = |server: Server| Value::Object(server.arguments);
        plan.planned.into_iter().map(|one| (one.alias, one.server.map(value))).collect()
    }

    #[test]
    fn servers_on_the_way_come_first_and_a_chain_gets_servers_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let text = "Host web\n ProxyJump outer,inner\n IdentityFile KEYS/id_a\nHost db\n ProxyJump root@outer:2200\n\
            Host inner outer\n HostName %h.example.org\nHost *\n IdentityFile KEYS/none\n IdentityFile KEYS/id_b\n";
        let planned = planned(text, folder.path());
        let names: Vec<&str> = planned.iter().map(|(alias, _)| alias.as_str()).collect();
        assert_eq!(names, ["outer", "inner-via-outer", "web", "root-outer-2200", "db", "inner"]);
        let of = |alias: &str| planned.iter().find(|(one, _)| one == alias).unwrap().1.clone().unwrap();
        assert_eq!(of("web")["jump"], "inner-via-outer");
        assert_eq!(of("inner-via-outer")["jump"], "outer");
        assert_eq!(of("inner-via-outer")["host"], "inner.example.org");
        assert_eq!(of("inner")["jump"], "");
        assert_eq!((&of("root-outer-2200")["user"], &of("root-outer-2200")["port"]), (&json!("root"), &json!(2200)));
        assert_eq!(of("db")["keyPath"], json!([folder.path().join("id_b")]));
        assert_eq!(of("web")["keyPath"], json!([folder.path().join("id_a"), folder.path().join("id_b")]));
        assert_eq!(of("web")["user"], "me");
    }

    #[test]
    fn what_cannot_be_reached_or_logged_in_to_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let planned = planned("Host a\n ProxyCommand nc %h %p\nHost b\n IdentityFile KEYS/none\n", folder.path());
        let why: Vec<String> = planned.into_iter().filter_map(|(_, server)| server.err()).collect();
        assert!(why[0].contains("ProxyCommand") && why[1].contains("way to log in"), "{why:?}");
    }
}
