//! What a plugin may do, and the answer to whether it may do one thing. Pure: nothing is read, nothing is run.
//! Not the operator's policy about commands, which the capability layer asks for everybody.

use serde::Serialize;
use serde_json::json;
use wildmatch::WildMatch;

use super::describe::Want;
use super::http_grants;
use crate::config::GrantsConfig;
use crate::error::{Code, Problem};

/// What one plugin may do. Nothing by default; each list adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Aliases, globs and `tag:NAME`.
    pub servers: Vec<String>,
    /// Command lines by their leading words; a last `*` matches any further ones.
    pub exec: Vec<Vec<String>>,
    /// The same, for commands through sudo, which need both.
    pub sudo: Vec<Vec<String>>,
    /// Method, host, kinds of address; see [`http_grants`](super::http_grants).
    pub http: Vec<Vec<String>>,
}

/// The environment variables that any granted command may be given: language, time zone, terminal. Every other one can
/// make a program run something else (`LD_PRELOAD`, `BASH_ENV`, `PERL5OPT`, `PAGER` …), which would void the grant.
const HARMLESS_ENV: &[&str] = &["LANG", "LANGUAGE", "TZ", "TERM", "COLUMNS", "LINES", "NO_COLOR", "SYSTEMD_COLORS"];

impl Grants {
    /// Everything that a plugin wants. Capabilities of later contracts are left out: there is nothing here to grant.
    pub fn from_wants(wants: &[Want]) -> Self {
        let mut grants = Grants::default();
        for want in wants {
            match want.capability.as_str() {
                "servers" => grants.servers.extend(want.scope.iter().cloned()),
                "exec" => grants.exec.push(want.scope.clone()),
                "sudo" => grants.sudo.push(want.scope.clone()),
                "http" => grants.http.push(want.scope.clone()),
                _ => {}
            }
        }
        grants
    }

    /// What the operator wrote.
    pub fn from_config(config: &GrantsConfig) -> Self {
        let GrantsConfig { servers, exec, sudo, http } = config.clone();
        Grants { servers, exec, sudo, http }
    }

    pub fn allows_server(&self, alias: &str, tags: &[String]) -> bool {
        self.servers.iter().any(|pattern| match pattern.strip_prefix("tag:") {
            Some(tag) => tags.iter().any(|has| matches(tag, has)),
            None => matches(pattern, alias),
        })
    }

    pub fn allows_exec(&self, program: &str, args: &[String]) -> bool {
        self.exec.iter().any(|scope| covers(scope, program, args))
    }

    pub fn allows_sudo(&self, program: &str, args: &[String]) -> bool {
        self.sudo.iter().any(|scope| covers(scope, program, args))
    }

    /// Whether commands may be given this environment variable. All are allowed to who may run anything anyway.
    pub fn allows_env(&self, name: &str) -> bool {
        let anything = self.exec.iter().any(|scope| matches!(scope.as_slice(), [only] if only == "*"));
        anything || name.starts_with("LC_") || HARMLESS_ENV.contains(&name)
    }
}

pub(super) fn matches(pattern: &str, text: &str) -> bool {
    WildMatch::new(pattern).matches(text)
}

/// Whether `scope` covers the command line. Elements are compared as a whole: no prefixes, no globs inside a word.
fn covers(scope: &[String], program: &str, args: &[String]) -> bool {
    let line = || std::iter::once(program).chain(args.iter().map(String::as_str));
    match scope.split_last() {
        None => false,
        Some((last, leading)) if last == "*" => {
            args.len() + 1 >= leading.len() && leading.iter().map(String::as_str).eq(line().take(leading.len()))
        }
        Some(_) => scope.iter().map(String::as_str).eq(line()),
    }
}

/// What was asked for and is not granted.
#[derive(Clone, Copy, Debug)]
pub enum Need<'a> {
    Server(&'a str),
    Exec { program: &'a str, args: &'a [String] },
    Sudo { program: &'a str, args: &'a [String] },
    Env(&'a str),
    Http(http_grants::Asked<'a>),
}

/// Which plugin may do what: the grants with the words needed to refuse.
#[derive(Clone, Debug)]
pub struct Granted {
    pub plugin: String,
    pub version: String,
    pub grants: Grants,
    pub wants: Vec<Want>,
}

/// A command line longer than this is suggested by its program alone.
const SUGGESTED_LINE: usize = 200;

impl Granted {
    /// Whether a server and then a command on it may be used; the first thing missing is the problem.
    pub fn check_server(&self, alias: &str, tags: &[String]) -> Result<(), Problem> {
        if self.grants.allows_server(alias, tags) { Ok(()) } else { Err(self.refuse(Need::Server(alias))) }
    }

    pub fn check_command(
        &self,
        program: &str,
        args: &[String],
        env: &[(String, String)],
        sudo: bool,
    ) -> Result<(), Problem> {
        if !self.grants.allows_exec(program, args) {
            return Err(self.refuse(Need::Exec { program, args }));
        }
        if sudo && !self.grants.allows_sudo(program, args) {
            return Err(self.refuse(Need::Sudo { program, args }));
        }
        match env.iter().find(|(name, _)| !self.grants.allows_env(name)) {
            Some((name, _)) => Err(self.refuse(Need::Env(name))),
            None => Ok(()),
        }
    }

    /// `NOT_GRANTED`, with the lines that would grant it. They repeat what is granted now, because a table of grants
    /// replaces the default.
    pub fn refuse(&self, need: Need<'_>) -> Problem {
        let mut grants = self.grants.clone();
        let (capability, scope, subject) = match need {
            Need::Server(alias) => {
                grants.servers.push(alias.to_owned());
                ("servers", vec![alias.to_owned()], format!("use the server {alias:?}"))
            }
            Need::Exec { program, args } => {
                let scope = self.scope("exec", program, args);
                grants.exec.push(scope.clone());
                ("exec", scope, format!("run {}", shown(program, args)))
            }
            Need::Sudo { program, args } => {
                let scope = self.scope("sudo", program, args);
                grants.sudo.push(scope.clone());
                ("sudo", scope, format!("run {} as root", shown(program, args)))
            }
            Need::Env(name) => {
                let scope = vec!["*".to_owned()];
                grants.exec.push(scope.clone());
                ("exec", scope, format!("set the environment variable {name} for a command"))
            }
            Need::Http(asked) => {
                let scope = asked.scope(&self.wants);
                grants.http.push(scope.clone());
                ("http", scope, asked.to_string())
            }
        };
        let toml = grants_toml(&self.plugin, &grants);
        Problem::new(
            Code::NotGranted,
            format!(
                "the plugin {} {} may not {subject}: it was not granted {capability} {}",
                self.plugin,
                self.version,
                json!(scope)
            ),
        )
        .detail("plugin", self.plugin.clone())
        .detail("version", self.version.clone())
        .detail("capability", capability)
        .detail("scope", json!(scope))
        .detail("orchestrator_toml", toml.clone())
        .hint(format!("Only the operator can grant it, with these lines in orchestrator.toml and a restart:\n{toml}"))
    }

    /// The scope to suggest for a command: the one that the plugin says it wants, else the line itself.
    fn scope(&self, capability: &str, program: &str, args: &[String]) -> Vec<String> {
        let wanted = self.wants.iter().find(|want| want.capability == capability && covers(&want.scope, program, args));
        if let Some(want) = wanted {
            return want.scope.clone();
        }
        let length: usize = args.iter().map(String::len).sum();
        let rest = if length <= SUGGESTED_LINE { args.to_vec() } else { vec!["*".to_owned()] };
        std::iter::once(program.to_owned()).chain(rest).collect()
    }
}

/// `[plugins.NAME.grants]` as the operator would write it. A JSON array of strings is a TOML array of basic strings, except
/// that TOML wants DEL escaped.
fn grants_toml(plugin: &str, grants: &Grants) -> String {
    let mut toml = format!("[plugins.{plugin}.grants]");
    let lists = [
        ("servers", json!(grants.servers), grants.servers.is_empty()),
        ("exec", json!(grants.exec), grants.exec.is_empty()),
        ("sudo", json!(grants.sudo), grants.sudo.is_empty()),
        ("http", json!(grants.http), grants.http.is_empty()),
    ];
    for (name, list, empty) in lists {
        if !empty {
            let list = list.to_string().replace('\u{7f}', "\\u007f");
            toml.push_str(&format!("\n{name} = {list}"));
        }
    }
    toml
}

/// A command line for a message: bounded, since a guest made it.
fn shown(program: &str, args: &[String]) -> String {
    let mut line = program.to_owned();
    for arg in args {
        line.push(' ');
        line.push_str(arg);
        if line.len() > SUGGESTED_LINE {
            break;
        }
    }
    let cut: String = line.chars().take(SUGGESTED_LINE).collect();
    if cut.len() < line.len() { format!("{cut:?} …") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    fn with(servers: &[&str], exec: &[&[&str]], sudo: &[&[&str]]) -> Grants {
        Grants {
            servers: words(servers),
            exec: exec.iter().map(|scope| words(scope)).collect(),
            sudo: sudo.iter().map(|scope| words(scope)).collect(),
            http: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let none = Grants::default();
        assert!(!none.allows_server("web-1", &words(&["prod"])));
        assert!(!none.allows_exec("df", &[]));
        assert!(!none.allows_sudo("df", &[]));
        assert!(!none.allows_env("PATH"));
    }

    #[test]
    fn a_server_is_granted_by_alias_glob_or_tag() {
        let check = |pattern: &str, expected: bool| {
            let grants = with(&[pattern], &[], &[]);
            assert_eq!(grants.allows_server("web-1", &words(&["eu", "prod"])), expected, "{pattern}");
        };
        check("web-1", true);
        check("web-2", false);
        check("web", false);
        check("web-*", true);
        check("db-*", false);
        check("*", true);
        check("tag:prod", true);
        check("tag:prod-2", false);
        check("tag:p*", true);
        check("prod", false);
        check("", false);
    }

    #[test]
    fn a_command_is_granted_by_its_exact_line_or_its_leading_words() {
        let check = |scope: &[&str], line: &[&str], expected: bool| {
            let line = words(line);
            let (program, args) = line.split_first().unwrap();
            assert_eq!(with(&[], &[scope], &[]).allows_exec(program, args), expected, "{scope:?} {line:?}");
            assert_eq!(with(&[], &[], &[scope]).allows_sudo(program, args), expected, "sudo {scope:?} {line:?}");
        };
        check(&["df"], &["df"], true);
        check(&["df"], &["df", "-h"], false);
        check(&["df", "-h"], &["df", "-h"], true);
        check(&["df", "-h"], &["df"], false);
        check(&["df", "*"], &["df"], true);
        check(&["df", "*"], &["df", "-h", "/"], true);
        check(&["df", "*"], &["dfx"], false);
        check(&["df", "*"], &["/bin/df"], false);
        check(&["docker", "logs", "*"], &["docker", "logs", "web"], true);
        check(&["docker", "logs", "*"], &["docker", "logs"], true);
        check(&["docker", "logs", "*"], &["docker"], false);
        check(&["docker", "logs", "*"], &["docker", "rm", "web"], false);
        check(&["docker", "logs", "*"], &["docker logs"], false);
        check(&["*"], &["anything", "at", "all"], true);
        check(&["d*"], &["df"], false);
        check(&[], &["df"], false);
    }

    #[test]
    fn sudo_needs_its_own_grant_beside_exec() {
        let granted = |grants| Granted { plugin: "logs".into(), version: "1.0.0".into(), grants, wants: Vec::new() };
        let exec_only = granted(with(&["*"], &[&["df", "*"]], &[]));
        assert!(exec_only.check_command("df", &[], &[], false).is_ok());
        assert_eq!(exec_only.check_command("df", &[], &[], true).unwrap_err().details["capability"], "sudo");
        let sudo_only = granted(with(&["*"], &[], &[&["df", "*"]]));
        assert_eq!(sudo_only.check_command("df", &[], &[], true).unwrap_err().details["capability"], "exec");
        let both = granted(with(&["*"], &[&["df", "*"]], &[&["df", "*"]]));
        assert!(both.check_command("df", &[], &[], true).is_ok());
    }

    #[test]
    fn only_harmless_variables_may_be_set_unless_every_command_is_granted() {
        let some = with(&[], &[&["df", "*"]], &[]);
        for name in ["LANG", "LC_ALL", "TZ"] {
            assert!(some.allows_env(name), "{name}");
        }
        for name in ["PATH", "LD_PRELOAD", "BASH_ENV", "lang", ""] {
            assert!(!some.allows_env(name), "{name}");
        }
        assert!(with(&[], &[&["*"]], &[]).allows_env("PATH"));
    }

    #[test]
    fn wants_become_grants_and_later_capabilities_are_left_out() {
        let want = |capability: &str, scope: &[&str]| Want {
            capability: capability.into(),
            scope: words(scope),
            reason: "it must".into(),
        };
        let wants = [
            want("servers", &["*"]),
            want("exec", &["df", "-P"]),
            want("sudo", &["df", "-P"]),
            want("teleport", &["mars"]),
        ];
        assert_eq!(Grants::from_wants(&wants), with(&["*"], &[&["df", "-P"]], &[&["df", "-P"]]));
        assert_eq!(Grants::from_wants(&[]), Grants::default());
    }

    /// The lines of the hint, read as the operator's file is read.
    fn granted_by_the_hint(problem: &Problem) -> Grants {
        let text = problem.details["orchestrator_toml"].as_str().unwrap();
        assert!(problem.hint.as_ref().unwrap().ends_with(text));
        let file: toml::Table = text.parse().unwrap();
        let config: GrantsConfig = file["plugins"]["logs"]["grants"].clone().try_into().unwrap();
        Grants::from_config(&config)
    }

    #[test]
    fn the_lines_in_a_refusal_grant_what_was_refused_and_keep_what_was_granted() {
        let mut granted = Granted {
            plugin: "logs".into(),
            version: "1.0.0".into(),
            grants: with(&["db-1"], &[&["uptime"]], &[]),
            wants: vec![Want {
                capability: "exec".into(),
                scope: words(&["docker", "logs", "*"]),
                reason: "to read logs".into(),
            }],
        };
        let problem = granted.check_server("web \"1\"\u{7f}", &[]).unwrap_err();
        assert_eq!(problem.code, Code::NotGranted);
        for part in ["logs", "1.0.0", "servers"] {
            assert!(problem.message.contains(part), "{}", problem.message);
        }
        let grants = granted_by_the_hint(&problem);
        assert!(grants.allows_server("web \"1\"\u{7f}", &[]) && grants.allows_server("db-1", &[]));

        let args = words(&["logs", "it's \\ a\nname\u{7f}"]);
        let problem = granted.check_command("docker", &args, &[], false).unwrap_err();
        assert_eq!(problem.details["scope"], json!(["docker", "logs", "*"]));
        granted.grants = granted_by_the_hint(&problem);
        assert!(granted.grants.allows_exec("uptime", &[]));
        assert!(granted.check_command("docker", &args, &[], false).is_ok());

        let problem = granted.check_command("docker", &args, &[], true).unwrap_err();
        granted.grants = granted_by_the_hint(&problem);
        assert!(granted.check_command("docker", &args, &[], true).is_ok());

        let env = [("PATH".to_owned(), "/tmp".to_owned())];
        let problem = granted.check_command("docker", &args, &env, false).unwrap_err();
        granted.grants = granted_by_the_hint(&problem);
        assert!(granted.check_command("docker", &args, &env, false).is_ok());
    }

    #[test]
    fn a_refusal_does_not_repeat_a_huge_command_line() {
        let granted =
            Granted { plugin: "logs".into(), version: "1.0.0".into(), grants: Grants::default(), wants: Vec::new() };
        let args = vec!["ä".repeat(100_000)];
        let problem = granted.check_command("echo", &args, &[], false).unwrap_err();
        assert!(problem.message.len() < 1_000);
        assert_eq!(problem.details["scope"], json!(["echo", "*"]));
    }
}
