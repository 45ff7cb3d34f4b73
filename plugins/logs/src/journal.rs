//! `get_journal_logs`: entries of the systemd journal with their unit, priority and time.
//!
//! The newest come first over the wire, because the host keeps the beginning of an output, and are turned round here. Root is
//! asked where the login user sees no journal, or only its own entries; where that was so the last time, root is asked first.
//! Whether the user sees all is asked along, but not where it was so the last time and the entries prove that it still is.

use std::borrow::Cow;
use std::fmt;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use orchestrator_sdk::serde_json::{self, Map, Value};

use crate::follow::{self, Asked, Followed};
use crate::learned::Learned;
use crate::shown::{self, TOTAL};
use crate::{MAX_LINES, SECONDS, count, ending, is_withheld, refusal, time, wrong};

/// How every query begins: output that a program reads, newest first, control characters and long fields included.
const QUERY: [&str; 6] = ["journalctl", "-o", "json", "--no-pager", "--all", "--reverse"];
/// The same for one that goes on.
const FOLLOW: [&str; 6] = ["journalctl", "-o", "json", "--no-pager", "--all", "--follow"];
/// Prints no entries, and on standard error what of the journal the user does not see: of that journalctl says nothing to a
/// program that wants JSON.
const SEEN: [&str; 3] = ["journalctl", "--no-pager", "--lines=0"];
/// All else of an entry is left out on the server, by systemd 236 and later.
const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_COMM,_PID,_UID";
/// An entry of one of root's processes, which is in the system's journal: who sees it sees all. In a message the quotes would be
/// escaped, and no program can set a field whose name begins with `_` (systemd.journal-fields(7)).
const BY_ROOT: &str = r#""_UID":"0""#;
/// What is kept of a server: the login user sees all of its journal, or not enough, and its systemd has no `--output-fields`.
const SEES_ALL: &str = "whole journal";
const NEEDS_ROOT: &str = "root journal";
const NO_FIELDS: &str = "journal without fields";
/// Entries that are searched for `grep`.
const SEARCHED: u32 = 2_000;
/// Of a message with many lines, those after so many bytes are only counted.
const MESSAGE_BYTES: usize = 5_000;
/// By their number (syslog(3)).
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

pub fn describe(description: Description) -> Description {
    let scope = |words: [&'static str; 6]| words.into_iter().chain(["*"]).collect::<Vec<_>>();
    description
        .tool(
            Tool::new(
                "get_journal_logs",
                "Journal",
                "The end of the systemd journal; with sudo if needed.",
                get_journal_logs,
            )
            .read_only()
            .server_argument("alias"),
        )
        .wants_exec(&scope(QUERY), "Prints entries of the journal.")
        .wants_exec(&scope(FOLLOW), "Prints entries of the journal as they come.")
        .wants_exec(&SEEN, "Tells whether the login user sees the whole journal.")
        .wants_sudo(&scope(QUERY), "Only root and some groups see the whole journal.")
        .wants_sudo(&scope(FOLLOW), "Only root and some groups see the whole journal.")
}

#[derive(Clone, Deserialize, JsonSchema)]
pub struct Arguments {
    /// Server.
    pub alias: String,
    /// Name or pattern.
    pub unit: Option<String>,
    /// Such as err.
    pub priority: Option<String>,
    /// Such as today.
    pub since: Option<String>,
    /// How many.
    #[serde(default = "hundred")]
    pub lines: u32,
    /// With this text.
    pub grep: Option<String>,
    /// Seconds to wait.
    #[serde(default)]
    #[schemars(range(max = follow::MAX_SECONDS))]
    pub follow: u32,
}

fn hundred() -> u32 {
    100
}

/// A part of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Journal {
    /// Oldest first. The schema does not go deeper, to be short.
    #[schemars(with = "Vec<Map<String, Value>>")]
    pub entries: Vec<Entry>,
    /// Whether sudo was needed.
    #[schemars(skip)]
    pub sudo: bool,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// One entry. What it lacks is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub time: Option<String>,
    pub unit: Option<String>,
    /// What the program calls itself.
    pub identifier: Option<String>,
    pub priority: Option<&'static str>,
    pub pid: Option<u32>,
    pub message: String,
}

pub fn command(arguments: &Arguments, fields: bool, sudo: bool) -> Command {
    let Arguments { unit, priority, since, grep, lines, .. } = arguments;
    let lines = if grep.is_some() { (*lines).max(SEARCHED) } else { *lines }.min(MAX_LINES);
    let [program, options @ ..] = QUERY;
    let option = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
    let command = Command::new(program)
        .args(options)
        .arg(format!("--lines={lines}"))
        .args(fields.then_some(FIELDS))
        .args(option("unit", unit))
        .args(option("priority", priority))
        .args(option("since", since))
        .timeout_seconds(SECONDS);
    if sudo { command.sudo() } else { command }
}

/// Whether there is more than the login user sees.
pub fn seen() -> Command {
    let [program, options @ ..] = SEEN;
    Command::new(program).args(options).timeout_seconds(SECONDS)
}

/// The same, and what comes in the next seconds: oldest first.
pub fn following(arguments: &Arguments, fields: bool, sudo: bool) -> Command {
    let mut command = command(arguments, fields, sudo);
    command.args.splice(..FOLLOW.len() - 1, FOLLOW.iter().skip(1).map(|word| (*word).to_owned()));
    command.timeout_seconds(SECONDS + u64::from(arguments.follow))
}

fn get_journal_logs(host: &dyn Host, arguments: Arguments) -> Result<Output<Journal>, Problem> {
    let Arguments { alias, unit, priority, grep, .. } = &arguments;
    if let Some(given) = priority.as_deref().filter(|given| !is_priority(given)) {
        let message = format!(
            "the argument `priority` must be one of {} or 0 to 7, which {given:?} is not",
            PRIORITIES.join(", ")
        );
        return Err(wrong("priority", message));
    }
    if unit.as_ref().is_some_and(String::is_empty) {
        return Err(wrong("unit", "the argument `unit` must not be empty; leave it out for all units".to_owned()));
    }
    let mut notes = Vec::new();
    let Found { finished, sudo, fields, .. } = ask(host, &arguments, &mut notes)?;
    if finished.stdout_truncated {
        notes.push("the entries are long: the oldest are left out".to_owned());
    }
    let mut entries = read(&finished.stdout_text());
    let mut during = String::new();
    if arguments.follow > 0 {
        let followed = followed(host, &arguments, fields, sudo)?;
        during = followed.about();
        notes.extend(followed.note);
        entries = read(&followed.finished.stdout_text());
        entries.reverse();
    }
    let all = entries.len();
    entries.retain(|entry| shown::has(&entry.message, grep.as_deref()));
    let matching = entries.len();
    if arguments.follow == 0 {
        entries.truncate(usize::try_from(arguments.lines).unwrap_or(usize::MAX));
    }
    let mut told = told(&entries);
    if told.len() < entries.len() {
        let number = count(entries.len() - told.len(), "entry");
        notes.push(format!("{number} before these left out to keep the answer short: ask for fewer, or use `grep`"));
        entries.truncate(told.len());
    }
    entries.reverse();
    told.reverse();
    if all == 0 && notes.is_empty() {
        notes.push(match unit {
            Some(unit) => format!("no entry matches; `get_services_status` tells whether there is a unit {unit:?}"),
            None => format!("no entry matches, or {alias} keeps no journal"),
        });
    }
    let number = count(entries.len(), "entry");
    let about = match grep {
        _ if all == 0 => "no entries".to_owned(),
        Some(grep) if matching > entries.len() => format!("last {number} with {grep:?}"),
        Some(grep) => format!("{number} with {grep:?} among the last {}", count(all, "entry")),
        None => format!("last {number}"),
    };
    let about = format!("{about}{during}");
    let name =
        unit.as_ref().map_or_else(|| format!("journal of {alias}"), |unit| format!("journal of {unit} on {alias}"));
    let mut text: String = notes.iter().map(|note| format!("Note: {note}\n")).collect();
    text.push_str(&shown::block(&name, &about, &told.into_iter().flatten().collect::<Vec<_>>()));
    Ok(Output::new(text, Journal { entries, sudo, notes }))
}

fn is_priority(given: &str) -> bool {
    PRIORITIES.contains(&given) || matches!(given.as_bytes(), [b'0'..=b'7'])
}

/// Entries as journalctl printed them.
struct Found {
    finished: Finished,
    /// To root.
    sudo: bool,
    /// It knows how to leave out other fields.
    fields: bool,
    /// The login user sees the whole journal, and the entries prove it.
    all: bool,
}

/// Prints entries for as long as they are followed, in the way in which some were found before.
fn followed(host: &dyn Host, arguments: &Arguments, fields: bool, sudo: bool) -> Result<Followed, Problem> {
    let says = |line: &str| {
        let fields = serde_json::from_str::<Fields<'_>>(line).ok()?;
        Entry::from(fields).lines().into_iter().next()
    };
    let asked = Asked { seconds: arguments.follow, preamble: 0, grep: arguments.grep.as_deref(), says };
    let followed = follow::follow(host, &arguments.alias, following(arguments, fields, sudo), asked)?;
    if followed.finished.success() { Ok(followed) } else { Err(explained(arguments, &followed.finished)) }
}

fn ask(host: &dyn Host, arguments: &Arguments, notes: &mut Vec<String>) -> Result<Found, Problem> {
    let mut learned = Learned::of(host, &arguments.alias);
    let fields = !learned.knows(NO_FIELDS);
    if learned.knows(NEEDS_ROOT)
        && let Ok(root) = as_root(host, arguments, fields)?
    {
        return Ok(Found { finished: root, sudo: true, fields, all: false });
    }
    let sees_all = learned.knows(SEES_ALL);
    let found = ask_as_it_comes(host, arguments, notes, fields, sees_all)?;
    learned.learn(NO_FIELDS, !found.fields);
    learned.learn(NEEDS_ROOT, found.sudo);
    if arguments.unit.is_none() {
        learned.learn(SEES_ALL, found.all);
    }
    Ok(found)
}

/// Asks as the login user, and root only where that is not enough. `sees_all`: it was enough the last time.
fn ask_as_it_comes(
    host: &dyn Host,
    arguments: &Arguments,
    notes: &mut Vec<String>,
    mut fields: bool,
    sees_all: bool,
) -> Result<Found, Problem> {
    let alias = &arguments.alias;
    // The entries of one unit may be none of root's, and prove nothing.
    let (mut plain, seen) = if sees_all && arguments.unit.is_none() {
        let plain = host.exec(alias, command(arguments, fields, false))?;
        if proves_all(&plain) {
            return Ok(Found { finished: plain, sudo: false, fields, all: true });
        }
        (plain, host.exec(alias, seen()))
    } else {
        let both = host.exec_all(alias, vec![command(arguments, fields, false), seen()]);
        let Ok([plain, seen]) = <[_; 2]>::try_from(both) else {
            return Err(Problem::new("INTERNAL", "the host did not answer every command"));
        };
        (plain?, seen)
    };
    let is_known = seen.is_ok();
    // Without it the rest is told all the same; the operator may not have granted it.
    let seen = seen.map(|seen| seen.stderr_text().into_owned()).unwrap_or_default();
    if fields && plain.stderr_text().contains("--output-fields") {
        // systemd before 236 has no such option.
        fields = false;
        plain = host.exec(alias, command(arguments, fields, false))?;
    }
    let words = plain.stderr_text().into_owned();
    let is_forbidden = words.contains("insufficient permissions") || words.contains("Permission denied");
    let sees_own_only = seen.contains("You are currently not seeing messages");
    if !is_forbidden && !sees_own_only {
        if !plain.success() {
            return Err(explained(arguments, &plain));
        }
        notes.extend(
            seen.contains("No journal files were found")
                .then(|| "there are no journal files on this server".to_owned()),
        );
        let all = is_known && proves_all(&plain);
        return Ok(Found { finished: plain, sudo: false, fields, all });
    }
    let why = match as_root(host, arguments, fields)? {
        Ok(root) => return Ok(Found { finished: root, sudo: true, fields, all: false }),
        Err(why) => why,
    };
    if plain.success() && !is_forbidden {
        notes
            .push(format!("the login user sees only its own entries, and sudo without a password did not help: {why}"));
        return Ok(Found { finished: plain, sudo: false, fields, all: false });
    }
    let message =
        format!("the login user of {alias} may not read the journal, and sudo without a password did not help: {why}");
    Err(refusal(alias, "no_permission", message)
        .hint("Put the user into the group `systemd-journal`, or allow sudo without a password."))
}

/// Whether these entries can be seen only by a user who sees all.
fn proves_all(plain: &Finished) -> bool {
    plain.success() && plain.stdout_text().contains(BY_ROOT)
}

/// What root is told, or why it could not be asked.
fn as_root(host: &dyn Host, arguments: &Arguments, fields: bool) -> Result<Result<Finished, String>, Problem> {
    match host.exec(&arguments.alias, command(arguments, fields, true)) {
        Ok(root) if root.success() => Ok(Ok(root)),
        Ok(root) => Ok(Err(ending(&root))),
        Err(problem) if is_withheld(&problem) => Ok(Err(problem.message)),
        Err(problem) => Err(problem),
    }
}

fn explained(arguments: &Arguments, finished: &Finished) -> Problem {
    let alias = &arguments.alias;
    let words = finished.stderr_text().into_owned();
    if finished.exit_code == Some(127) {
        return refusal(alias, "no_systemd", format!("there is no journalctl on {alias}, so no systemd journal"))
            .hint("The logs are then files, mostly in /var/log: use `tail_file`.");
    }
    if words.contains("Failed to parse timestamp") {
        let since = arguments.since.as_deref().unwrap_or_default();
        return wrong("since", format!("journalctl on {alias} does not understand the argument `since`, {since:?}"))
            .hint("Give a time such as \"1 hour ago\", today, or \"2026-11-22 10:00:00\".");
    }
    refusal(alias, "failed", format!("journalctl on {alias} {}", ending(finished)))
}

/// The entries, in the order in which they were printed. A last one that was cut is left out.
fn read(text: &str) -> Vec<Entry> {
    text.lines().filter_map(|line| serde_json::from_str::<Fields<'_>>(line).ok()).map(Entry::from).collect()
}

/// What is read of an entry. Any field can come as text, as bytes, or more than once.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(rename = "__REALTIME_TIMESTAMP", borrow)]
    micros: Word<'a>,
    #[serde(rename = "PRIORITY", borrow)]
    priority: Word<'a>,
    #[serde(rename = "UNIT", borrow)]
    unit: Word<'a>,
    #[serde(rename = "_SYSTEMD_UNIT", borrow)]
    own_unit: Word<'a>,
    #[serde(rename = "SYSLOG_IDENTIFIER", borrow)]
    identifier: Word<'a>,
    #[serde(rename = "_COMM", borrow)]
    program: Word<'a>,
    #[serde(rename = "_PID", borrow)]
    pid: Word<'a>,
    #[serde(rename = "MESSAGE")]
    message: Value,
}

/// A field of one line of text. Of one in another form nothing is kept.
#[derive(Default)]
struct Word<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl<'a> Visitor<'a> for WordVisitor {
    type Value = Word<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field of the journal")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Word<'a>, E> {
        Ok(Word(Some(Cow::Borrowed(text))))
    }

    fn visit_str<E>(self, text: &str) -> Result<Word<'a>, E> {
        Ok(Word(Some(Cow::Owned(text.to_owned()))))
    }

    fn visit_unit<E>(self) -> Result<Word<'a>, E> {
        Ok(Word(None))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut parts: A) -> Result<Word<'a>, A::Error> {
        while parts.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Word(None))
    }
}

impl From<Fields<'_>> for Entry {
    fn from(fields: Fields<'_>) -> Entry {
        let text = |word: &Word<'_>| word.0.as_deref().map(shown::safe);
        let number = |word: &Word<'_>| word.0.as_deref().and_then(|word| word.parse::<u64>().ok());
        let time = number(&fields.micros).and_then(|micros| {
            let millis = u32::try_from(micros / 1000 % 1000).ok()?;
            Some(time::iso(i64::try_from(micros / 1_000_000).ok()?, Some(millis)))
        });
        let priority =
            number(&fields.priority).and_then(|number| PRIORITIES.get(usize::try_from(number).ok()?).copied());
        Entry {
            time,
            // What systemd says about a unit names it in UNIT; the unit of systemd itself would tell nothing.
            unit: text(&fields.unit).or_else(|| text(&fields.own_unit)),
            identifier: text(&fields.identifier).or_else(|| text(&fields.program)),
            priority,
            pid: number(&fields.pid).and_then(|pid| u32::try_from(pid).ok()),
            message: bounded(message(fields.message)),
        }
    }
}

/// The first lines of a message; the rest of a long one is counted.
fn bounded(message: String) -> String {
    if !message.contains('\n') {
        return shown::safe(&message);
    }
    let mut shown = String::new();
    let mut lines = message.split('\n');
    while shown.len() < MESSAGE_BYTES
        && let Some(line) = lines.next()
    {
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str(&shown::safe(line));
    }
    match lines.count() {
        0 => shown,
        more => format!("{shown}\n… ({} more)", count(more, "line")),
    }
}

/// A string, or its bytes where they are no printable UTF-8, or a list of either where the field was given more than once.
fn message(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(parts) => {
            let bytes: Option<Vec<u8>> =
                parts.iter().map(|part| part.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            match bytes {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                None => parts.into_iter().map(message).collect::<Vec<_>>().join("\n"),
            }
        }
        _ => String::new(),
    }
}

/// The lines of these entries, as far as they have room in an answer. One entry is shown in any case: a message is shorter than
/// an answer may be.
fn told(entries: &[Entry]) -> Vec<Vec<String>> {
    let mut told = Vec::with_capacity(entries.len());
    let mut left = TOTAL;
    for entry in entries {
        let lines = entry.lines();
        let length: usize = lines.iter().map(|line| line.chars().count() + 1).sum();
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None if told.is_empty() => left = 0,
            None => break,
        }
        told.push(lines);
    }
    told
}

impl Entry {
    /// The entry as a line, further lines of its message below it.
    fn lines(&self) -> Vec<String> {
        // The process is the one that wrote the message: of what systemd says about a unit that is systemd's own.
        let head = [self.time.as_deref(), self.priority, self.unit.as_deref(), self.identifier.as_deref()];
        let mut message = self.message.split('\n');
        let mut first = String::with_capacity(100 + self.message.len());
        for word in head.into_iter().flatten() {
            if !first.is_empty() {
                first.push(' ');
            }
            first.push_str(word);
        }
        if let Some(pid) = self.pid {
            first.push_str(&format!("[{pid}]"));
        }
        first.push_str(": ");
        first.push_str(message.next().unwrap_or_default());
        let mut lines = vec![first];
        lines.extend(message.map(|line| format!("    {line}")));
        lines
    }
}
