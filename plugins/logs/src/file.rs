//! `tail_file`: the last lines of a file, packed ones too, and what is appended in the next seconds.
//!
//! A script looks at the file and prints it, since what to do depends on what the file is, and that must not cost a second
//! round trip. Its words are constant; path and numbers reach it as arguments. Root is asked only for what the login user
//! may not read, or could not the last time.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

use crate::follow::{self, Asked, Followed};
use crate::learned::Learned;
use crate::shown::{self, Lines, TOTAL};
use crate::{SECONDS, count, ending, is_withheld, refusal, time, wrong};

/// Arguments: path, lines, text to look for or nothing, seconds after which following ends in any case or 0. The first line that it prints is the size,
/// the time of the last change in seconds since 1970, and the suffix of the file's last rotation, each `-` if there is none.
const SCRIPT: &str = include_str!("tail.sh");
/// The script's own exit statuses.
const MISSING: u32 = 91;
const FOLDER: u32 = 92;
const NO_PERMISSION: u32 = 93;
const NOT_REGULAR: u32 = 94;
const NO_UNPACKER: u32 = 95;
const NO_TIMEOUT: u32 = 96;
/// The script prints at most so much of the end of a file, which is less than the host keeps of its beginning.
const READ_BYTES: usize = 1_000_000;

pub fn describe(description: Description) -> Description {
    description
        .tool(
            Tool::new("tail_file", "Tail", "The end of a file, packed or not; with sudo if needed.", tail_file)
                .read_only()
                .server_argument("alias"),
        )
        .wants_exec(&["sh", "-c", SCRIPT, "*"], "Prints the last lines of a file.")
        .wants_sudo(&["sh", "-c", SCRIPT, "*"], "Most logs may be read by root only.")
}

#[derive(Clone, Deserialize, JsonSchema)]
pub struct Arguments {
    /// Server.
    pub alias: String,
    /// Absolute path.
    pub filepath: String,
    /// How many.
    #[serde(default = "fifty")]
    pub lines: u32,
    /// With this text.
    pub grep: Option<String>,
    /// Seconds to wait.
    #[serde(default)]
    #[schemars(range(max = follow::MAX_SECONDS))]
    pub follow: u32,
}

fn fifty() -> u32 {
    50
}

/// The end of a file. The schema names the main members only, to be short.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Tail {
    #[schemars(skip)]
    pub size_bytes: Option<u64>,
    /// ISO 8601.
    #[schemars(skip)]
    pub modified: Option<String>,
    /// Whether sudo was needed.
    #[schemars(skip)]
    pub sudo: bool,
    pub lines: Vec<String>,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

pub fn command(arguments: &Arguments, sudo: bool) -> Command {
    let Arguments { filepath, lines, grep, follow, .. } = arguments;
    let life = if *follow > 0 { follow + follow::SLACK } else { 0 };
    let command = Command::new("sh")
        .args(["-c", SCRIPT, "sh", filepath.as_str()])
        .args([lines.to_string(), grep.clone().unwrap_or_default(), life.to_string()])
        .timeout_seconds(SECONDS + u64::from(life));
    if sudo { command.sudo() } else { command }
}

fn tail_file(host: &dyn Host, arguments: Arguments) -> Result<Output<Tail>, Problem> {
    let Arguments { alias, filepath, grep, .. } = &arguments;
    if !filepath.starts_with('/') {
        let message =
            format!("the argument `filepath` must be an absolute path, which {filepath:?} is not; `~` is not expanded");
        return Err(wrong("filepath", message));
    }
    if grep.as_ref().is_some_and(|text| text.is_empty() || text.contains('\n')) {
        return Err(wrong("grep", "the argument `grep` must be text of one line, and not empty".to_owned()));
    }
    let is_packed = [".gz", ".bz2", ".xz", ".zst"].iter().any(|suffix| filepath.ends_with(suffix));
    if arguments.follow > 0 && is_packed {
        return Err(wrong("follow", format!("{filepath} is packed, so nothing is appended to it: leave out `follow`")));
    }
    let mut learned = Learned::of(host, alias);
    let needs_root = format!("root {filepath}");
    let at_once = if learned.knows(&needs_root) { as_root(host, &arguments)?.ok() } else { None };
    let (printed, sudo) = match at_once {
        Some(printed) => (printed, true),
        None => {
            let plain = print(host, &arguments, false)?;
            match plain.finished.exit_code {
                Some(NO_PERMISSION) => (as_root(host, &arguments)?.map_err(|why| forbidden(&arguments, &why))?, true),
                _ => (plain, false),
            }
        }
    };
    learned.learn(&needs_root, sudo);
    if !printed.finished.success() {
        return Err(explained(&arguments, &printed.finished));
    }
    let (tail, about) = read(&arguments, &printed, sudo)?;
    let name = format!("{filepath} on {alias}");
    let mut text: String = tail.notes.iter().map(|note| format!("Note: {note}\n")).collect();
    text.push_str(&shown::block(&name, &about, &tail.lines));
    Ok(Output::new(text, tail))
}

/// Has the script print the file, once or for as long as it is followed.
fn print(host: &dyn Host, arguments: &Arguments, sudo: bool) -> Result<Followed, Problem> {
    let (alias, command) = (&arguments.alias, command(arguments, sudo));
    if arguments.follow == 0 {
        return host.exec(alias, command).map(Followed::at_once);
    }
    let asked = Asked { seconds: arguments.follow, preamble: 1, grep: arguments.grep.as_deref(), says: follow::itself };
    follow::follow(host, alias, command, asked)
}

/// The same through sudo; or why that did not help, when sudo is withheld, wants a password or may not read the file either.
fn as_root(host: &dyn Host, arguments: &Arguments) -> Result<Result<Followed, String>, Problem> {
    match print(host, arguments, true) {
        Ok(printed) => Ok(match printed.finished.exit_code {
            Some(NO_PERMISSION) => Err("root may not read it either".to_owned()),
            // The script's own words: sudo let it run.
            Some(0 | MISSING..=NO_TIMEOUT) => Ok(printed),
            _ => Err(ending(&printed.finished)),
        }),
        Err(problem) if is_withheld(&problem) => Ok(Err(problem.message)),
        Err(problem) => Err(problem),
    }
}

fn forbidden(arguments: &Arguments, why: &str) -> Problem {
    let Arguments { alias, filepath, .. } = arguments;
    let message =
        format!("the login user of {alias} may not read {filepath}, and sudo without a password did not help: {why}");
    refusal(alias, "no_permission", message)
        .hint("Log in as a user who may (group `adm` on Debian), or allow sudo without a password.")
}

/// Why the script stopped.
fn explained(arguments: &Arguments, finished: &Finished) -> Problem {
    let Arguments { alias, filepath, .. } = arguments;
    let tool = shown::safe(finished.stderr_text().lines().last().unwrap_or_default());
    let (reason, message) = match finished.exit_code {
        Some(MISSING) => ("missing", format!("there is no file {filepath} on {alias}")),
        Some(FOLDER) => ("directory", format!("{filepath} on {alias} is a directory")),
        Some(NOT_REGULAR) => ("not_regular", format!("{filepath} on {alias} is a device, pipe or socket, not a file")),
        Some(NO_UNPACKER) => {
            ("cannot_unpack", format!("{filepath} cannot be unpacked on {alias}: {tool} is not installed"))
        }
        Some(NO_TIMEOUT) => {
            ("cannot_follow", format!("{filepath} cannot be followed on {alias}: there is no program `timeout`"))
        }
        _ => ("failed", format!("reading {filepath} on {alias} {}", ending(finished))),
    };
    let problem = refusal(alias, reason, message).detail("path", filepath.as_str());
    match reason {
        "missing" | "directory" => problem.hint("List the folder with `task_exec` and `ls -l`."),
        "cannot_follow" => problem.hint("Leave out `follow`."),
        _ => problem,
    }
}

/// The answer, and what its lines are.
fn read(arguments: &Arguments, printed: &Followed, sudo: bool) -> Result<(Tail, String), Problem> {
    let Arguments { alias, filepath, lines: wanted, grep, follow } = arguments;
    let finished = &printed.finished;
    let text = finished.stdout_text();
    let (facts, body) = text.split_once('\n').unwrap_or((&text, ""));
    let mut facts = facts.split(' ');
    let size_bytes = facts.next().and_then(|size| size.parse::<u64>().ok());
    let modified = facts.next().and_then(|seconds| seconds.parse().ok()).map(|seconds| time::iso(seconds, None));
    let rotated = facts.next().filter(|suffix| *suffix != "-");
    if body.contains('\0') {
        let size = size_bytes.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
        let message = format!("{filepath} on {alias} is binary{size}: it has NUL bytes, so it has no lines to show");
        return Err(refusal(alias, "binary", message).detail("path", filepath.as_str()));
    }
    let mut notes: Vec<String> = printed.note.iter().cloned().collect();
    // The end of a file with long lines begins within one of them.
    let is_cut = body.len() >= READ_BYTES && *follow == 0;
    let body = if is_cut { body.split_once('\n').map_or(body, |(_, whole)| whole) } else { body };
    if is_cut {
        notes.push(format!("the lines are long: only the last {READ_BYTES} bytes were read"));
    }
    let matching: Vec<&str> = shown::split(body).filter(|line| shown::has(line, grep.as_deref())).collect();
    let lines = Lines::last(matching.iter().copied(), TOTAL);
    notes.extend(lines.note());
    let is_whole = grep.is_none() && *follow == 0 && matching.len() < usize::try_from(*wanted).unwrap_or(usize::MAX);
    if let Some(suffix) = rotated.filter(|_| is_whole && !is_cut) {
        notes.push(format!("this is the whole file; older lines are in {filepath}{}", shown::safe(suffix)));
    }
    // A packed file that is damaged is said to be so here. What ends `tail` may say so, too.
    let words = finished.stderr_text();
    let mut said = words.lines().map(str::trim).filter(|line| !line.is_empty());
    if let Some(line) = said.find(|line| *follow == 0 || line.starts_with("tail:")) {
        notes.push(shown::safe(line));
    }
    let number = count(lines.lines.len(), "line");
    let about = match (grep, lines.lines.len()) {
        (None, 0) => "no lines".to_owned(),
        (None, _) => format!("last {number}"),
        (Some(grep), 0) => format!("no line with {grep:?}"),
        (Some(grep), _) => format!("last {number} with {grep:?}"),
    };
    let followed = printed.about();
    let changed = modified.as_ref().map(|time| format!(", changed {time}")).unwrap_or_default();
    let tail = Tail { size_bytes, modified, sudo, lines: lines.lines, notes };
    Ok((tail, format!("{about}{followed}{changed}")))
}
