//! Who is banned on a server: which commands are run, and which answer or problem they make.
//!
//! What `fail2ban-client` prints is read in `parse`. Nothing is banned, unbanned or changed here. Which jails a server has is
//! kept between calls, so that all of it is asked for at once.

mod parse;

use std::collections::BTreeMap;
use std::fmt::Write;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

use parse::{Jail, Reply};

/// The plugin.
pub struct Fail2ban;

impl Plugin for Fail2ban {
    fn describe() -> Description {
        Description::new("fail2ban", env!("CARGO_PKG_VERSION"), "Whom fail2ban bans on a server.")
            .tool(
                Tool::new(
                    "get_fail2ban_status",
                    "fail2ban status",
                    "fail2ban's jails on a server: failures, banned addresses, watched logs.",
                    get_fail2ban_status,
                )
                .read_only()
                .server_argument("alias"),
            )
            .wants_servers("*", "fail2ban can be asked about on any server.")
            .wants_exec(&["fail2ban-client", "status", "*"], "Prints the jails and whom they ban; it changes nothing.")
            .wants_sudo(&["fail2ban-client", "status", "*"], "fail2ban answers root only.")
    }
}

export!(Fail2ban);

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The server's alias.
    alias: String,
    /// Only this jail.
    jail: Option<String>,
}

/// All jails that were asked about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Status {
    pub alias: String,
    /// Those with bans first. The schema does not go deeper, to be short.
    #[schemars(with = "Vec<Map<String, Value>>")]
    pub jails: Vec<Jail>,
    /// Whether sudo was needed.
    #[schemars(skip)]
    pub sudo: bool,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

const CLIENT: &str = "fail2ban-client";
/// In the place of a jail: all of them, from fail2ban 1.1 on.
const ALL: &str = "--all";
const SECONDS: u64 = 20;
/// The host runs so many commands at once.
const AT_ONCE: usize = 32;
/// More addresses than this are in the data only.
const SHOWN_ADDRESSES: usize = 30;
/// More addresses of a jail than this nobody reads; some servers ban tens of thousands.
const KEPT_ADDRESSES: usize = 1000;

const START: &str =
    "`systemctl status fail2ban` or the log /var/log/fail2ban.log says why; `systemctl start fail2ban` starts it.";

/// `fail2ban-client status`, of one jail if it is named.
fn status(jail: Option<&str>, sudo: bool) -> Command {
    let command = Command::new(CLIENT).arg("status").args(jail).timeout_seconds(SECONDS);
    if sudo { command.sudo() } else { command }
}

/// What jails can be called. A leading hyphen would be an option to the client.
fn is_jail_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(allowed)
}

fn get_fail2ban_status(host: &dyn Host, arguments: Arguments) -> Result<Output<Status>, Problem> {
    let Arguments { alias, jail } = arguments;
    if let Some(name) = jail.as_deref().filter(|name| !is_jail_name(name)) {
        let message = format!(
            "the argument `jail` must be letters, digits, `_`, `.` and `-`, not starting with `-`; {name:?} is not"
        );
        return Err(Problem::invalid(message).detail("argument", "jail"));
    }
    let mut answer = Status { alias, jails: Vec::new(), sudo: false, notes: Vec::new() };
    match jail {
        Some(name) => one(host, &mut answer, &name)?,
        None => all(host, &mut answer)?,
    }
    for jail in &mut answer.jails {
        if jail.banned.len() > KEPT_ADDRESSES {
            jail.banned.truncate(KEPT_ADDRESSES);
            let name = &jail.name;
            answer
                .notes
                .push(format!("the jail {name} bans more addresses than the first {KEPT_ADDRESSES} that are told"));
        }
    }
    answer.jails.sort_by(|a, b| (b.currently_banned, &a.name).cmp(&(a.currently_banned, &b.name)));
    Ok(Output::new(answer.text(), answer))
}

fn one(host: &dyn Host, answer: &mut Status, name: &str) -> Result<(), Problem> {
    match ask(host, &answer.alias, name)? {
        (Reply::Answered(text), sudo) => {
            answer.sudo = sudo;
            answer.jails.push(parse::jail(name, &text).ok_or_else(|| unreadable(&answer.alias, &text))?);
            Ok(())
        }
        (_, sudo) => {
            let finished = host.exec(&answer.alias, status(None, sudo))?;
            let jails = parse::jails(&finished.stdout_text()).unwrap_or_default();
            let known = if jails.is_empty() { "none".to_owned() } else { jails.join(", ") };
            let message = format!("fail2ban on {} has no running jail {name:?}; it has: {known}", answer.alias);
            Err(Problem::invalid(message)
                .hint("Give one of these as `jail`, or none for all of them.")
                .detail("alias", answer.alias.as_str())
                .detail("reason", "unknown_jail")
                .detail("jails", jails))
        }
    }
}

fn all(host: &dyn Host, answer: &mut Status) -> Result<(), Problem> {
    let key = format!("seen/{}", answer.alias);
    // A memory that cannot be read or kept costs a round trip and nothing else.
    let seen: Seen = host.kv_json(&key).ok().flatten().unwrap_or_default();
    let Found { status: text, sudo, whole, mut told } = match again(host, &answer.alias, &seen)? {
        Some(found) => found,
        None => first(host, &answer.alias)?,
    };
    answer.sudo = sudo;
    let names = parse::jails(&text).ok_or_else(|| unreadable(&answer.alias, &text))?;
    let mut jails = parse::each_jail(&text);
    let (names, odd): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| is_jail_name(name));
    answer.notes.extend(odd.iter().map(|name| format!("the jail {name:?} has a name that cannot be asked for")));
    let is_missing = |name: &&String| !jails.contains_key(*name) && !told.contains_key(*name);
    let missing: Vec<&String> = names.iter().filter(is_missing).collect();
    for names in missing.chunks(AT_ONCE) {
        let commands = names.iter().map(|name| status(Some(name), sudo)).collect();
        let finished = host.exec_all(&answer.alias, commands);
        told.extend(names.iter().map(|name| (*name).clone()).zip(finished));
    }
    for name in &names {
        let finished = match (jails.remove(name), told.remove(name)) {
            (Some(jail), _) => {
                answer.jails.push(jail);
                continue;
            }
            (None, Some(Ok(finished))) => finished,
            (None, Some(Err(problem))) if problem.code == "COMMAND_TIMEOUT" => {
                answer.notes.push(format!("the jail {name} did not answer within {SECONDS} s"));
                continue;
            }
            (None, Some(Err(problem))) => return Err(problem),
            (None, None) => continue,
        };
        match parse::jail(name, &finished.stdout_text()).filter(|_| finished.success()) {
            Some(jail) => answer.jails.push(jail),
            // It may have been stopped in between.
            None => answer.notes.push(format!("the jail {name} could not be asked: {}", finished.ending())),
        }
    }
    let now = Seen { sudo, whole, jails: names };
    if now != seen {
        let _ = host.kv_set_json(&key, &now);
    }
    Ok(())
}

/// What was found on a server the last time. The jails are asked for along with their list, which costs no round trip of its
/// own; what counts is the list of now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    sudo: bool,
    /// Whether its fail2ban tells all jails at once, as 1.1 does. `None` if nobody knows.
    #[serde(default)]
    whole: Option<bool>,
    jails: Vec<String>,
}

/// Each jail's answer, by its name.
type Told = BTreeMap<String, Result<Finished, Problem>>;

/// What a server has told.
struct Found {
    /// The list of its jails, with what there is to tell of each or without.
    status: String,
    sudo: bool,
    whole: Option<bool>,
    told: Told,
}

/// Asks as it went the last time: for all at once, or for the list and the jails that there were. None when that is no way any
/// more.
fn again(host: &dyn Host, alias: &str, seen: &Seen) -> Result<Option<Found>, Problem> {
    let Seen { sudo, whole: Some(whole), jails } = seen else { return Ok(None) };
    let (list, jails) = match whole {
        true => (Some(ALL), Vec::new()),
        false => (None, jails.iter().filter(|name| is_jail_name(name)).take(AT_ONCE - 1).collect()),
    };
    let list = std::iter::once(status(list, *sudo));
    let commands = list.chain(jails.iter().map(|name| status(Some(name), *sudo))).collect();
    let mut answers = host.exec_all(alias, commands).into_iter();
    let finished = match answers.next() {
        Some(Ok(finished)) => finished,
        // The operator has withheld sudo since.
        Some(Err(problem)) if ["NOT_GRANTED", "POLICY_DENIED"].contains(&problem.code.as_str()) => return Ok(None),
        Some(Err(problem)) => return Err(problem),
        None => return Ok(None),
    };
    let Reply::Answered(status) = parse::reply(&finished, *sudo) else { return Ok(None) };
    if *whole && finished.stdout_truncated {
        return Ok(None);
    }
    let told = jails.into_iter().cloned().zip(answers).collect();
    Ok(Some(Found { status, sudo: *sudo, whole: Some(*whole), told }))
}

/// Asks a server of which nothing is known: for the list and for all jails at once, as the login user and as root.
fn first(host: &dyn Host, alias: &str) -> Result<Found, Problem> {
    let commands = [None, Some(ALL)].iter().flat_map(|jail| [status(*jail, false), status(*jail, true)]).collect();
    let [plain, root, plain_whole, root_whole] = answers(host, alias, commands)?;
    let (Reply::Answered(list), sudo) = settle(alias, None, plain, root)? else {
        return Err(unreadable(alias, "that there is no such jail"));
    };
    let found = |status, whole| Found { status, sudo, whole, told: Told::new() };
    let Ok(finished) = (if sudo { root_whole } else { plain_whole }) else { return Ok(found(list, None)) };
    Ok(match parse::reply(&finished, sudo) {
        Reply::Answered(_) if finished.stdout_truncated => found(list, Some(false)),
        Reply::Answered(status) => found(status, Some(true)),
        // It takes this for a name.
        Reply::UnknownJail => found(list, Some(false)),
        _ => found(list, None),
    })
}

/// Runs commands at once, which costs one round trip.
fn answers<const N: usize>(
    host: &dyn Host,
    alias: &str,
    commands: Vec<Command>,
) -> Result<[Result<Finished, Problem>; N], Problem> {
    let answers = host.exec_all(alias, commands);
    <[_; N]>::try_from(answers).map_err(|_| Problem::new("INTERNAL", "the host did not answer every command"))
}

/// Asks as the login user and as root at once, which costs one round trip whichever is needed.
fn ask(host: &dyn Host, alias: &str, jail: &str) -> Result<(Reply, bool), Problem> {
    let [plain, root] = answers(host, alias, vec![status(Some(jail), false), status(Some(jail), true)])?;
    settle(alias, Some(jail), plain, root)
}

/// What was said, an unknown jail included, and whether it was said to root. Everything else is a problem.
fn settle(
    alias: &str,
    jail: Option<&str>,
    plain: Result<Finished, Problem>,
    root: Result<Finished, Problem>,
) -> Result<(Reply, bool), Problem> {
    let plain = parse::reply(&plain?, false);
    if matches!(plain, Reply::Answered(_) | Reply::UnknownJail) {
        return Ok((plain, false));
    }
    let root = match root {
        Ok(finished) => parse::reply(&finished, true),
        // The operator may withhold sudo; what the login user was told then counts.
        Err(problem) => Reply::Other(problem.message),
    };
    match (plain, root) {
        (_, root @ (Reply::Answered(_) | Reply::UnknownJail)) => Ok((root, true)),
        (plain, root) => Err(refusal(alias, jail, plain, root)),
    }
}

/// What to say when neither the login user nor root got an answer.
fn refusal(alias: &str, jail: Option<&str>, plain: Reply, sudo: Reply) -> Problem {
    match (plain, sudo) {
        // The client takes a socket in a folder that it may not enter for a missing one, so only root's word is final.
        (Reply::NotRunning, Reply::Other(how)) => {
            let message = format!(
                "fail2ban on {alias} seems not to run: the login user sees no socket of it, and root could not be asked ({how})"
            );
            problem(alias, "no_socket_seen", message).hint(START)
        }
        (Reply::NotRunning, _) | (_, Reply::NotRunning) => {
            let message = format!("fail2ban is installed on {alias} but not running: its socket is missing or silent");
            problem(alias, "not_running", message).hint(START)
        }
        (Reply::NoPermission, sudo) => {
            let why = if let Reply::Other(how) = sudo { format!(" ({how})") } else { String::new() };
            let message = format!(
                "the login user of {alias} may not ask fail2ban, and sudo without a password did not help{why}"
            );
            problem(alias, "no_permission", message).hint(
                "Let the user run `fail2ban-client status *` with NOPASSWD in sudoers, or log in as root. The plugin's \
                 grant `sudo` must allow it as well.",
            )
        }
        (Reply::NotInstalled, _) => {
            problem(alias, "not_installed", format!("fail2ban is not installed on {alias}: there is no {CLIENT}"))
                .hint("Install the package `fail2ban` there if it is wanted.")
        }
        (plain, _) => {
            let how = if let Reply::Other(how) = plain { how } else { "was refused".to_owned() };
            problem(alias, "failed", format!("`{}` on {alias} {how}", status(jail, false)))
        }
    }
}

fn problem(alias: &str, reason: &str, message: String) -> Problem {
    Problem::failed(message).detail("alias", alias).detail("reason", reason)
}

fn unreadable(alias: &str, text: &str) -> Problem {
    let first: String = text.lines().next().unwrap_or_default().chars().take(120).collect();
    problem(alias, "unreadable", format!("{CLIENT} on {alias} printed no status but {first:?}"))
}

impl Status {
    /// A line for each jail, with bans below it.
    fn text(&self) -> String {
        let banned: u64 = self.jails.iter().filter_map(|jail| jail.currently_banned).sum();
        let jails = if self.jails.len() == 1 { "1 jail".to_owned() } else { format!("{} jails", self.jails.len()) };
        let mut text = format!("{}: fail2ban runs, {jails}, {banned} banned now", self.alias);
        for jail in &self.jails {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n{}: banned {} now, {} in total; failed {} now, {} in total",
                jail.name,
                number(jail.currently_banned),
                number(jail.total_banned),
                number(jail.currently_failed),
                number(jail.total_failed)
            );
            if !jail.banned.is_empty() {
                let shown: Vec<&str> = jail.banned.iter().take(SHOWN_ADDRESSES).map(String::as_str).collect();
                let _ = write!(text, "\n  banned: {}", shown.join(" "));
                let all = jail.currently_banned.unwrap_or_default().max(jail.banned.len() as u64);
                if let Some(more) = all.checked_sub(SHOWN_ADDRESSES as u64).filter(|more| *more > 0) {
                    let _ = write!(text, " and {more} more");
                }
            }
            if !jail.files.is_empty() {
                let _ = write!(text, "\n  reads: {}", jail.files.join(", "));
            }
            if let Some(matches) = &jail.journal_matches {
                let _ = write!(text, "\n  reads the journal: {matches}");
            }
        }
        self.notes.iter().for_each(|note| {
            let _ = write!(text, "\nNote: {note}");
        });
        text
    }
}

fn number(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests;
