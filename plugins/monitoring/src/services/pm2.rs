//! The apps of PM2: those of the login user's daemon, and to root those of every user's. `pm2 jlist` prints the environment of
//! each app, where its secrets are, so what is wanted is picked out on the server, by the Node.js that PM2 runs on.
//!
//! Each daemon is asked as its own user and never as root, so that a user's PM2 gains nothing by being asked.

use std::collections::BTreeSet;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json;

use super::{Item, Part, SECONDS, State};

/// Finds the daemons, and runs its `$0` for each that may be asked.
const DAEMONS: &str = include_str!("../pm2-daemons.sh");
const ASK: &str = include_str!("../pm2.sh");
/// The script's own exit statuses, of the login user's PM2.
const NOT_INSTALLED: u32 = 90;
const NOT_RUNNING: u32 = 91;
/// Behind the name of a user whose daemon runs and may not be asked.
const UNSEEN: &str = "?";
/// Behind the name of a user whose daemon was asked and gave no list.
const SILENT: &str = "!";

/// An app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub name: String,
    /// Whose it is, if not the login user's.
    pub user: Option<String>,
    pub namespace: Option<String>,
    /// `online`, `stopped`, `errored`, `waiting restart` …
    pub status: String,
    pub pid: Option<u32>,
    pub restarts: Option<u64>,
    pub uptime_seconds: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Of all cores together.
    pub cpu_percent: Option<f64>,
}

pub fn command() -> Command {
    Command::new("sh").args(["-c", DAEMONS, ASK]).timeout_seconds(SECONDS)
}

pub fn read(finished: &Finished) -> Part<App> {
    let text = finished.stdout_text();
    let (mut apps, mut unseen, mut silent) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        // A line of another user's begins with their name and a tab; one of the login user's is the app alone.
        match line.split_once('\t') {
            Some((user, UNSEEN)) => drop(unseen.insert(user)),
            Some((user, SILENT)) => drop(silent.insert(user)),
            Some((user, line)) => apps.extend(app(line, Some(user))),
            None => apps.extend(app(line, None)),
        }
    }
    let mut notes = Vec::new();
    if !unseen.is_empty() {
        notes.push(format!("PM2 of {} runs, too, and answers only its user and root", listed(&unseen)));
    }
    if !silent.is_empty() {
        notes.push(format!("PM2 of {} runs and did not answer", listed(&silent)));
    }
    let (state, own) = match finished.exit_code {
        Some(0) => (State::Running, None),
        Some(NOT_INSTALLED) => (State::Absent, Some("not installed, or not in the PATH of commands".to_owned())),
        Some(NOT_RUNNING) => (State::NotRunning, Some("no PM2 of the login user runs".to_owned())),
        _ => (State::Unknown, Some(format!("`pm2 jlist` {}", finished.ending()))),
    };
    let state = match state {
        State::Absent | State::NotRunning if !apps.is_empty() => State::Running,
        State::Absent | State::NotRunning if !unseen.is_empty() => State::NoPermission,
        State::Absent | State::NotRunning if !silent.is_empty() => State::Unknown,
        state => state,
    };
    // That the login user has none matters only where nobody else has one.
    let own = own.filter(|_| state != State::Running);
    notes.splice(0..0, own);
    let reason = (!notes.is_empty()).then(|| notes.join("; "));
    Part { state, reason, total: apps.len(), items: apps }
}

fn app(line: &str, user: Option<&str>) -> Option<App> {
    let app: App = serde_json::from_str(line).ok()?;
    // PM2 tells the share of one core, and an app can use several; the script divides it by their number.
    let cpu_percent = app.cpu_percent.map(|percent| (percent * 10.0).round() / 10.0);
    Some(App { user: user.map(str::to_owned), cpu_percent, ..app })
}

/// How often, in words.
pub fn restarted(restarts: u64) -> String {
    if restarts == 1 { "1 restart".to_owned() } else { format!("{restarts} restarts") }
}

fn listed(users: &BTreeSet<&str>) -> String {
    users.iter().copied().collect::<Vec<_>>().join(", ")
}

impl Item for App {
    fn problem(&self) -> Option<String> {
        let App { name, user, status, restarts, .. } = self;
        let of = user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
        let fine = ["online", "stopped", "launching", "stopping", "one-launch-status"];
        (!fine.contains(&status.as_str())).then(|| {
            let restarts = restarts.map(|restarts| format!(" after {}", restarted(restarts))).unwrap_or_default();
            format!("PM2 app {name}{of} is {status}{restarts}")
        })
    }
}
