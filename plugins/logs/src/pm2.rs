//! `get_pm2_logs`: what the apps of a PM2 wrote, by app and stream.
//!
//! `pm2 logs` starts a daemon where none runs, so a script looks for one first. PM2 prints both streams to its standard
//! output, so each is asked for by itself, at once. An app that it does not know it takes for one without logs.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

use crate::shown::{self, Lines, TOTAL};
use crate::{MAX_LINES, SECONDS, count, ending, refusal, wrong};

/// Arguments: app, lines, `--out` or `--err`.
const SCRIPT: &str = include_str!("pm2.sh");
/// The script's own exit statuses.
const NOT_INSTALLED: u32 = 90;
const NOT_RUNNING: u32 = 91;
/// Lines that are searched for `grep`.
const SEARCHED: u32 = 1_000;

pub fn describe(description: Description) -> Description {
    description
        .tool(
            Tool::new("get_pm2_logs", "PM2 logs", "What apps under PM2 (Node.js) wrote last.", get_pm2_logs)
                .read_only()
                .server_argument("alias"),
        )
        .wants_exec(&["sh", "-c", SCRIPT, "*"], "Prints what apps of PM2 wrote, if it runs.")
}

#[derive(Clone, Deserialize, JsonSchema)]
pub struct Arguments {
    /// Server.
    pub alias: String,
    /// Name or id; else all.
    pub app: Option<String>,
    /// Per app and stream.
    #[serde(default = "hundred")]
    pub lines: u32,
    /// Only stderr.
    #[serde(default)]
    pub errors: bool,
    /// With this text.
    pub grep: Option<String>,
}

fn hundred() -> u32 {
    100
}

/// What the apps wrote.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Pm2Logs {
    /// The schema does not go deeper, to be short.
    #[schemars(with = "Vec<Map<String, Value>>")]
    pub files: Vec<LogFile>,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// What one app wrote to one stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogFile {
    pub app: String,
    pub stream: &'static str,
    pub path: String,
    pub lines: Vec<String>,
}

pub fn command(app: Option<&str>, lines: u32, stream: &str) -> Command {
    let option = if stream == "stderr" { "--err" } else { "--out" };
    let lines = lines.to_string();
    Command::new("sh").args(["-c", SCRIPT, "sh", app.unwrap_or("all"), lines.as_str(), option]).timeout_seconds(SECONDS)
}

fn get_pm2_logs(host: &dyn Host, arguments: Arguments) -> Result<Output<Pm2Logs>, Problem> {
    let Arguments { alias, app, grep, .. } = &arguments;
    if let Some(name) = app.as_deref().filter(|name| !is_app_name(name)) {
        return Err(wrong(
            "app",
            format!("the argument `app` must be the name or id of an app, which {name:?} is not"),
        ));
    }
    let lines = if grep.is_some() { arguments.lines.max(SEARCHED) } else { arguments.lines }.min(MAX_LINES);
    let streams: &[&'static str] = if arguments.errors { &["stderr"] } else { &["stderr", "stdout"] };
    let commands = streams.iter().map(|stream| command(app.as_deref(), lines, stream)).collect();
    let mut notes = Vec::new();
    let mut files: Vec<LogFile> = Vec::new();
    let mut knows_app = false;
    for (stream, finished) in streams.iter().zip(host.exec_all(alias, commands)) {
        let finished = finished?;
        if !finished.success() {
            return Err(explained(alias, &finished));
        }
        if finished.stdout_truncated {
            notes.push(format!("PM2 printed more of {stream} than can be read: ask for one app, or fewer lines"));
        }
        let text = finished.stdout_text();
        let found = sections(&text, stream);
        knows_app |= found.iter().any(|file| file.app != PM2_ITSELF);
        files.extend(found);
    }
    if let Some(name) = app.as_deref().filter(|_| !knows_app) {
        return Err(refusal(
            alias,
            "unknown_app",
            format!("PM2 on {alias} has no app {name:?}, or it wrote nothing yet"),
        )
        .hint("`get_services_status` lists the apps."));
    }
    // Each gets the same share of the answer.
    let room = TOTAL / files.len().max(1);
    let wanted = usize::try_from(arguments.lines).unwrap_or(usize::MAX);
    for file in &mut files {
        file.lines.retain(|line| shown::has(line, grep.as_deref()));
        let from = file.lines.len().saturating_sub(wanted);
        let lines = Lines::last(file.lines.iter().skip(from).map(String::as_str).collect::<Vec<_>>().into_iter(), room);
        notes.extend(lines.note().map(|note| format!("{} of {}: {note}", file.stream, file.app)));
        file.lines = lines.lines;
    }
    files.retain(|file| !file.lines.is_empty());
    let mut blocks: Vec<String> = notes.iter().map(|note| format!("Note: {note}")).collect();
    if files.is_empty() {
        let with =
            grep.as_ref().map(|grep| format!(" with {grep:?} among the last {lines} of each app")).unwrap_or_default();
        blocks.push(format!("The apps of PM2 on {alias} have written no lines{with}."));
    }
    blocks.extend(files.iter().map(|file| {
        let number = count(file.lines.len(), "line");
        let about = match grep {
            Some(grep) => format!("{number} with {grep:?} among the last {lines}"),
            None => format!("last {number}"),
        };
        shown::block(&format!("{} of PM2 app {} on {alias}", file.stream, file.app), &about, &file.lines)
    }));
    Ok(Output::new(blocks.join("\n"), Pm2Logs { files, notes }))
}

/// PM2 takes a leading slash for a regular expression and a leading hyphen for an option.
fn is_app_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['-', '/']) && !name.chars().any(char::is_control)
}

fn explained(alias: &str, finished: &Finished) -> Problem {
    match finished.exit_code {
        Some(NOT_INSTALLED) => {
            let message = format!("pm2 is not installed on {alias}, or not in the PATH of commands");
            refusal(alias, "not_installed", message)
                .hint("A pm2 of nvm is found while its daemon runs, or where the login shell's start-up files set PATH for commands too.")
        }
        Some(NOT_RUNNING) => {
            let message = format!("pm2 is installed on {alias}, but no PM2 of the login user runs");
            refusal(alias, "not_running", message).hint("Each user has an own PM2: log in as the one who started it.")
        }
        _ => refusal(alias, "failed", format!("`pm2 logs` on {alias} {}", ending(finished))),
    }
}

/// The name under which PM2 shows its own log.
const PM2_ITSELF: &str = "PM2";

/// The parts of what PM2 printed, one for each log file: a heading `PATH last N lines:`, then `ID|APP | LINE`.
/// Every line of a log has the prefix, so what has none is PM2's own.
fn sections(text: &str, stream: &'static str) -> Vec<LogFile> {
    let mut files: Vec<LogFile> = Vec::new();
    for line in text.lines() {
        // The prefix is coloured where PM2 is told to use colours.
        let line = shown::plain(line);
        if let Some(path) = heading(&line) {
            let app = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".log");
            let app = app.trim_end_matches("-error").trim_end_matches("-out");
            files.push(LogFile { app: app.to_owned(), stream, path: path.to_owned(), lines: Vec::new() });
        } else if let (Some(file), Some((app, line))) = (files.last_mut(), prefixed(&line)) {
            file.app = app.to_owned();
            file.lines.push(line.to_owned());
        }
    }
    files
}

fn heading(line: &str) -> Option<&str> {
    let (path, number) = line.strip_suffix(" lines:")?.rsplit_once(" last ")?;
    (path.starts_with('/') && number.parse::<u32>().is_ok()).then_some(path)
}

/// App and line. PM2 pads the name to a common width.
fn prefixed(line: &str) -> Option<(&str, &str)> {
    let (prefix, line) = line.split_once(" | ")?;
    let app = match prefix.split_once('|') {
        Some((id, name)) if id.parse::<u32>().is_ok() => name,
        _ if prefix.trim_end() == PM2_ITSELF => prefix,
        _ => return None,
    };
    Some((app.trim_end(), line))
}
