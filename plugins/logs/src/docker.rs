//! `get_docker_logs`: what a container wrote, its two streams apart. Where docker does not have it, podman is asked.
//!
//! Both are asked at once, which costs one round trip on either kind of host.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

use crate::follow::{self, Asked, Followed};
use crate::shown::{self, Lines, TOTAL};
use crate::{MAX_LINES, SECONDS, count, ending, is_withheld, refusal, wrong};

/// Asks podman, if the login user has any containers. Arguments: those of podman.
const PODMAN: &str = include_str!("podman.sh");
/// Lines that are searched for `grep`.
const SEARCHED: u32 = 2_000;
/// How often a container with lines too long is asked again for a quarter of them.
const ATTEMPTS: usize = 4;

pub fn describe(description: Description) -> Description {
    let reason = "Prints what a container wrote.";
    description
        .tool(
            Tool::new(
                "get_docker_logs",
                "Container logs",
                "What a Docker or Podman container wrote last.",
                get_docker_logs,
            )
            .read_only()
            .server_argument("alias"),
        )
        .wants_exec(&["docker", "logs", "*"], reason)
        .wants_exec(&["sh", "-c", PODMAN, "podman", "logs", "*"], reason)
}

#[derive(Clone, Deserialize, JsonSchema)]
pub struct Arguments {
    /// Server.
    pub alias: String,
    /// Name or id.
    pub container: String,
    /// How many.
    #[serde(default = "hundred")]
    pub lines: u32,
    /// Such as 10m.
    pub since: Option<String>,
    /// With times.
    #[serde(default)]
    pub timestamps: bool,
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

/// What a container wrote. The schema names the main members only, to be short.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ContainerLogs {
    /// `docker` or `podman`.
    #[schemars(skip)]
    pub engine: String,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

pub fn command(engine: &str, arguments: &Arguments, lines: u32) -> Command {
    asked(engine, arguments, lines, None).timeout_seconds(SECONDS)
}

fn asked(engine: &str, arguments: &Arguments, lines: u32, follow: Option<&str>) -> Command {
    let Arguments { container, since, timestamps, .. } = arguments;
    let program = match engine {
        "podman" => Command::new("sh").args(["-c", PODMAN, "podman"]),
        engine => Command::new(engine),
    };
    program
        .arg("logs")
        .args(follow)
        .arg(format!("--tail={lines}"))
        .args(since.iter().map(|since| format!("--since={since}")))
        .args(timestamps.then_some("--timestamps"))
        .args(["--", container])
}

/// The same, and what comes in the next seconds.
pub fn following(engine: &str, arguments: &Arguments, lines: u32) -> Command {
    asked(engine, arguments, lines, Some("--follow")).timeout_seconds(SECONDS + u64::from(arguments.follow))
}

fn get_docker_logs(host: &dyn Host, arguments: Arguments) -> Result<Output<ContainerLogs>, Problem> {
    let Arguments { alias, container, grep, .. } = &arguments;
    if !is_container_name(container) {
        let message = format!("the argument `container` must be a name or an id, which {container:?} is not");
        return Err(wrong("container", message));
    }
    let mut lines = if grep.is_some() { arguments.lines.max(SEARCHED) } else { arguments.lines }.min(MAX_LINES);
    // Whoever follows wants to know first which engine has the container.
    let (mut engine, finished) = ask(host, &arguments, if arguments.follow > 0 { 0 } else { lines })?;
    let followed = if arguments.follow > 0 {
        let asked = Asked { seconds: arguments.follow, preamble: 0, grep: grep.as_deref(), says: follow::itself };
        follow::follow(host, alias, following(engine, &arguments, lines), asked)?
    } else {
        Followed::at_once(finished)
    };
    if !followed.finished.success() {
        return Err(explained(&arguments, engine, &followed.finished));
    }
    let (during, mut finished) = (followed.about(), followed.finished);
    let mut notes: Vec<String> = followed.note.into_iter().collect();
    // The host keeps the beginning of an output, and a log is wanted for its end.
    for _ in 0..ATTEMPTS {
        if lines <= 1 || !(finished.stdout_truncated || finished.stderr_truncated) {
            break;
        }
        lines = (lines / 4).max(1);
        (engine, finished) = ask(host, &arguments, lines)?;
        notes = vec![format!("the lines are long: only the last {lines} were read")];
    }
    let (stdout, stderr) = (finished.stdout_text(), finished.stderr_text());
    let kept = |text| {
        let matching: Vec<&str> = shown::split(text).filter(|line| shown::has(line, grep.as_deref())).collect();
        let wanted = if arguments.follow > 0 { matching.len() } else { arguments.lines as usize };
        let from = matching.len().saturating_sub(wanted);
        Lines::last(matching.into_iter().skip(from).collect::<Vec<_>>().into_iter(), TOTAL / 2)
    };
    let (stdout, stderr) = (kept(&stdout), kept(&stderr));
    notes.extend(stdout.note().or(stderr.note()));
    let mut text: String = notes.iter().map(|note| format!("Note: {note}\n")).collect();
    for (name, shown) in [("stderr", &stderr.lines), ("stdout", &stdout.lines)] {
        let number = count(shown.len(), "line");
        let about = match grep {
            Some(grep) => format!("{number} with {grep:?} among the last {lines} of the container"),
            None => number,
        };
        let about = format!("{about}{during}");
        text.push_str(&shown::block(&format!("{name} of container {container} on {alias}"), &about, shown));
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    let data = ContainerLogs { engine: engine.to_owned(), stdout: stdout.lines, stderr: stderr.lines, notes };
    Ok(Output::new(text, data))
}

/// What both engines call a container: a letter or digit, then also `_`, `.` and `-`.
fn is_container_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The logs, from the engine that has the container.
fn ask(host: &dyn Host, arguments: &Arguments, lines: u32) -> Result<(&'static str, Finished), Problem> {
    let alias = &arguments.alias;
    let engines = ["docker", "podman"];
    let commands = engines.iter().map(|engine| command(engine, arguments, lines)).collect();
    let Ok([docker, podman]) = <[_; 2]>::try_from(host.exec_all(alias, commands)) else {
        return Err(Problem::new("INTERNAL", "the host did not answer every command"));
    };
    let (docker, podman) = match (docker, podman) {
        (Ok(docker), _) if docker.success() => return Ok(("docker", docker)),
        (_, Ok(podman)) if podman.success() => return Ok(("podman", podman)),
        // The operator may have granted one of them only.
        (Ok(docker), Err(problem)) if is_withheld(&problem) => return Err(explained(arguments, "docker", &docker)),
        (Err(problem), Ok(podman)) if is_withheld(&problem) => return Err(explained(arguments, "podman", &podman)),
        (docker, podman) => (docker?, podman?),
    };
    Err(match (is_absent(&docker), is_absent(&podman)) {
        (true, true) => refusal(alias, "not_installed", format!("neither docker nor podman is installed on {alias}"))
            .hint(
                "They may also be missing in the PATH of commands. Services log to `get_journal_logs` or `tail_file`.",
            ),
        (true, false) => explained(arguments, "podman", &podman),
        (false, _) => explained(arguments, "docker", &docker),
    })
}

/// Whether the shell did not find the program.
fn is_absent(finished: &Finished) -> bool {
    finished.exit_code == Some(127)
}

/// Why an engine printed no logs, by the words that it uses for it.
fn explained(arguments: &Arguments, engine: &str, finished: &Finished) -> Problem {
    let Arguments { alias, container, .. } = arguments;
    let words = finished.stderr_text().to_lowercase();
    let says = |what: &str| words.contains(what);
    if says("invalid value for \"since\"") || (says("parsing") && says("time")) {
        let since = arguments.since.as_deref().unwrap_or_default();
        return wrong("since", format!("{engine} on {alias} does not understand the argument `since`, {since:?}"))
            .hint("Give a duration such as 10m or 2h30m, or a time such as 2026-11-22T10:00:00.");
    }
    if is_absent(finished) {
        return refusal(alias, "not_installed", format!("{engine} is not installed on {alias}"));
    }
    if says("no such container") || says("no container with name or id") {
        return refusal(alias, "unknown_container", format!("{engine} on {alias} has no container {container:?}"))
            .hint("`get_services_status` lists the containers.");
    }
    if says("permission denied") {
        return refusal(alias, "no_permission", format!("the login user of {alias} may not use {engine}"))
            .hint("Log in as root, or put the user into the group `docker`, whose members can become root.");
    }
    if says("cannot connect to the docker daemon") || says("is the docker daemon running") {
        return refusal(alias, "not_running", format!("{engine} is installed on {alias}, but its daemon does not run"))
            .hint("`systemctl start docker` starts it; `get_journal_logs` with the unit docker says why it stopped.");
    }
    if says("does not support reading") {
        let message = format!("the logging driver of {container} on {alias} does not let its logs be read");
        return refusal(alias, "driver", message).hint("They are where that driver sends them.");
    }
    refusal(alias, "failed", format!("`{engine} logs` of {container} on {alias} {}", ending(finished)))
}
