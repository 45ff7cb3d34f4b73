//! The apps of the login user's PM2. `pm2 jlist` prints the environment of each app, where its secrets are, so what is wanted
//! is picked out on the server, by the Node.js that PM2 runs on.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json;

use super::{Item, Part, SECONDS, State};

const SCRIPT: &str = include_str!("../pm2.sh");
/// The script's own exit statuses.
const NOT_INSTALLED: u32 = 90;
const NOT_RUNNING: u32 = 91;

/// An app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub name: String,
    pub namespace: Option<String>,
    /// `online`, `stopped`, `errored`, `waiting restart` …
    pub status: String,
    pub pid: Option<u32>,
    pub restarts: Option<u64>,
    pub uptime_seconds: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Of one core.
    pub cpu_percent: Option<f64>,
}

pub fn command() -> Command {
    Command::new("sh").args(["-c", SCRIPT]).timeout_seconds(SECONDS)
}

pub fn read(finished: &Finished) -> Part<App> {
    match finished.exit_code {
        Some(0) => {}
        Some(NOT_INSTALLED) => return Part::without(State::Absent, "not installed, or not in the PATH of commands"),
        Some(NOT_RUNNING) => return Part::without(State::NotRunning, "no PM2 of the login user runs"),
        _ => return Part::without(State::Unknown, format!("`pm2 jlist` {}", finished.ending())),
    }
    Part::running(finished.stdout_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

impl Item for App {
    fn problem(&self) -> Option<String> {
        let App { name, status, restarts, .. } = self;
        let fine = ["online", "stopped", "launching", "stopping", "one-launch-status"];
        (!fine.contains(&status.as_str())).then(|| {
            let restarts = restarts.map(|count| format!(" after {count} restarts")).unwrap_or_default();
            format!("PM2 app {name} is {status}{restarts}")
        })
    }
}
