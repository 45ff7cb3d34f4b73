//! What a configuration says about one host: blocks that count, the first value of each keyword, tokens. Pure.

use wildmatch::WildMatch;

use super::{Config, Item};

const OLD_ALGORITHMS: &str = "what is safe is offered anyway, and [legacy] in orchestrator.toml allows what is old";
const ROUTES: &str = "the routes of this machine decide";
const KNOWN_HOSTS: &str = "name it in MCP_KNOWN_HOSTS";

/// Keywords that change how a host is reached or trusted and that have no counterpart in a server here, with what there is
/// instead.
const TOLD: [(&str, &str); 25] = [
    ("AddressFamily", "all addresses of a name are tried"),
    ("BindAddress", ROUTES),
    ("BindInterface", ROUTES),
    ("CanonicalizeHostname", "HostName must be the full name"),
    ("CertificateFile", "a certificate is looked for beside its key, as KEY-cert.pub"),
    ("Ciphers", OLD_ALGORITHMS),
    ("ConnectTimeout", "MCP_CONNECT_TIMEOUT_S is for all servers"),
    ("ForwardAgent", "no server gets to use your keys"),
    ("GSSAPIAuthentication", "there is no login with Kerberos"),
    ("GlobalKnownHostsFile", KNOWN_HOSTS),
    ("HostKeyAlgorithms", OLD_ALGORITHMS),
    ("HostKeyAlias", "pin the key with hostKey, or trust it with `server trust`"),
    ("HostbasedAuthentication", "there is no login by the client's host"),
    ("KexAlgorithms", OLD_ALGORITHMS),
    ("KnownHostsCommand", "no command is run"),
    ("MACs", OLD_ALGORITHMS),
    ("PKCS11Provider", "load its keys into an ssh-agent, ssh-add -s"),
    ("PubkeyAcceptedAlgorithms", OLD_ALGORITHMS),
    ("RefuseConnection", "remove the server if it is not to be connected to"),
    ("RemoteCommand", "each call says its own command"),
    ("RevokedHostKeys", "write `@revoked * KEY` into a file that MCP_KNOWN_HOSTS names"),
    ("SecurityKeyProvider", "load its keys into an ssh-agent, ssh-add"),
    ("SetEnv", "each call says its own env"),
    ("StrictHostKeyChecking", "MCP_HOST_KEYS is for all servers"),
    ("UserKnownHostsFile", KNOWN_HOSTS),
];

/// Whether a keyword says no more than what is done here anyway.
fn is_usual(keyword: &str, value: &str) -> bool {
    match keyword {
        "StrictHostKeyChecking" => matches!(value, "yes" | "true" | "ask"),
        _ => matches!(value, "no" | "false" | "none" | "any"),
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The login name on this machine.
    pub user: String,
    pub home: String,
}

/// What was found about a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Its name as it was asked for.
    pub name: String,
    /// With its tokens replaced.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// As written: see [`Found::expand`].
    pub identity_files: Vec<String>,
    pub identities_only: bool,
    pub identity_agent: Option<String>,
    pub proxy_jump: Option<String>,
    pub proxy_command: Option<String>,
    /// What was not taken over, each once.
    pub notes: Vec<String>,
}

/// What is known so far: the first value of a keyword wins.
#[derive(Default)]
struct Draft {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    identity_files: Vec<String>,
    identities_only: Option<String>,
    identity_agent: Option<String>,
    /// Whichever of ProxyJump and ProxyCommand comes first counts alone.
    proxy: Option<(bool, String)>,
    notes: Vec<String>,
}

impl Config {
    /// What `ssh NAME` would use.
    pub fn resolve(&self, name: &str, asker: &Asker) -> Result<Found, String> {
        let mut draft = Draft::default();
        draft.walk(&self.items, name, asker, true);
        let host = match &draft.host {
            Some(host) => tokens(host, &[('h', name), ('%', "%")]).map_err(|why| format!("HostName: {why}"))?,
            None => name.to_owned(),
        };
        let port = match draft.port.as_deref() {
            None => 22,
            Some(text) => {
                text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("Port {text} is not a port"))?
            }
        };
        let (proxy_jump, proxy_command) = match draft.proxy {
            None => (None, None),
            Some((_, said)) if said.eq_ignore_ascii_case("none") => (None, None),
            Some((true, jump)) => (Some(jump), None),
            Some((false, command)) => (None, Some(command)),
        };
        Ok(Found {
            name: name.to_owned(),
            // Names have no capitals; addresses are left as they are, for their zone may have some.
            host: if host.contains(':') { host } else { host.to_ascii_lowercase() },
            port,
            user: draft.user.unwrap_or_else(|| asker.user.clone()),
            identity_files: draft.identity_files,
            identities_only: draft.identities_only.is_some_and(|word| is_yes(&word)),
            identity_agent: draft.identity_agent,
            proxy_jump,
            proxy_command,
            notes: draft.notes,
        })
    }
}

impl Found {
    /// Replaces the tokens and the variables in a path.
    pub fn expand(
        &self,
        text: &str,
        asker: &Asker,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let port = self.port.to_string();
        let known = [
            ('%', "%"),
            ('h', self.host.as_str()),
            ('n', &self.name),
            ('p', &port),
            ('r', &self.user),
            ('u', &asker.user),
            ('d', &asker.home),
        ];
        let mut text = tokens(text, &known)?;
        while let Some(start) = text.find("${") {
            let (before, rest) = text.split_at(start);
            let (name, after) =
                rest.strip_prefix("${").and_then(|rest| rest.split_once('}')).ok_or("a ${ is not closed")?;
            let value = variable(name).ok_or_else(|| format!("the variable {name} is not set"))?;
            text = format!("{before}{value}{after}");
        }
        Ok(text)
    }
}

/// Replaces `%x`. One that is not among `known` is an error: a path that is guessed may be somebody else's.
pub fn tokens(text: &str, known: &[(char, &str)]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let token = chars.next().ok_or("it ends with a lone %")?;
        let (_, value) = known.iter().find(|(name, _)| *name == token).ok_or(format!("%{token} is not known here"))?;
        out.push_str(value);
    }
    Ok(out)
}

impl Draft {
    /// Goes through a file. `live` says whether it counts at all: it may be included where nothing does.
    fn walk(&mut self, items: &[Item], name: &str, asker: &Asker, live: bool) {
        let mut active = live;
        for item in items {
            match item {
                Item::Host(patterns) => active = live && matches_host(patterns, name),
                Item::Match(criteria) => active = self.matches(criteria, name, asker, live) && live,
                Item::Include(files) => files.iter().for_each(|file| self.walk(file, name, asker, active)),
                Item::Setting(keyword, arguments) if active => self.set(keyword, arguments),
                Item::Setting(..) => {}
            }
        }
    }

    fn set(&mut self, keyword: &str, arguments: &[String]) {
        let Some(first) = arguments.first() else { return };
        let slot = match keyword {
            "hostname" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "identityagent" => &mut self.identity_agent,
            "identitiesonly" => &mut self.identities_only,
            "identityfile" => {
                if !self.identity_files.contains(first) {
                    self.identity_files.push(first.clone());
                }
                return;
            }
            "proxyjump" | "proxycommand" => {
                self.proxy.get_or_insert_with(|| (keyword == "proxyjump", arguments.join(" ")));
                return;
            }
            other => {
                if let Some((name, instead)) = TOLD.iter().find(|(name, _)| name.eq_ignore_ascii_case(other))
                    && !is_usual(name, &first.to_ascii_lowercase())
                {
                    self.note(format!("its {name} was not taken over: {instead}"));
                }
                return;
            }
        };
        slot.get_or_insert_with(|| first.clone());
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether a `Match` line counts. A condition that is not known here never does, and is told.
    fn matches(&mut self, criteria: &[String], name: &str, asker: &Asker, live: bool) -> bool {
        let mut words = criteria.iter().flat_map(|word| match word.split_once('=') {
            Some((attribute, value)) => vec![attribute, value],
            None => vec![word.as_str()],
        });
        let mut result = true;
        while let Some(word) = words.next() {
            let (negated, attribute) = match word.strip_prefix('!') {
                Some(attribute) => (true, attribute.to_ascii_lowercase()),
                None => (false, word.to_ascii_lowercase()),
            };
            if attribute == "all" {
                result &= !negated;
                continue;
            }
            let subject = match attribute.as_str() {
                "host" => match &self.host {
                    Some(host) => tokens(host, &[('h', name), ('%', "%")]).unwrap_or_default(),
                    None => name.to_owned(),
                },
                "originalhost" => name.to_owned(),
                "user" => self.user.clone().unwrap_or_else(|| asker.user.clone()),
                "localuser" => asker.user.clone(),
                _ => {
                    if live && result {
                        self.note(format!(
                            "`Match {}` was passed over: {attribute} is not looked at here",
                            criteria.join(" ")
                        ));
                    }
                    return false;
                }
            };
            let Some(list) = words.next() else { return false };
            // Names of hosts have no case here, unlike in a `Host` line.
            let matched = match attribute.ends_with("host") {
                true => matches_list(&list.to_ascii_lowercase(), &subject.to_ascii_lowercase()),
                false => matches_list(list, &subject),
            };
            result &= matched != negated;
        }
        result
    }
}

/// The patterns of a `Host` line: one that is negated and matches takes the host out, whatever else matches.
fn matches_host(patterns: &[String], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if WildMatch::new(negated).matches(name) => return false,
            Some(_) => {}
            None => found |= WildMatch::new(pattern).matches(name),
        }
    }
    found
}

/// A list of patterns with commas, as `Match` has them.
fn matches_list(list: &str, subject: &str) -> bool {
    let patterns: Vec<String> = list.split(',').map(str::to_owned).collect();
    matches_host(&patterns, subject)
}

fn is_yes(word: &str) -> bool {
    word.eq_ignore_ascii_case("yes") || word.eq_ignore_ascii_case("true")
}
