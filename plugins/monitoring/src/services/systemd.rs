//! The units of systemd: `systemctl list-units`, a line for each, the description last. Those of the system and those of the login
//! user's own manager (`--user`); not those of other users.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

use super::{Item, Part, SECONDS, State};

/// A service that is not inactive, or a unit of any kind that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    pub name: String,
    /// `active`, `activating`, `failed` …
    pub active: String,
    /// The state in the words of the unit's kind: `running`, `exited`, `auto-restart` …
    pub sub: String,
    pub description: String,
}

/// Both lists, one behind the other: as two commands they would take two channels of the few that a connection has.
const SCRIPT: &str = include_str!("../systemd.sh");

pub fn command() -> Command {
    Command::new("sh").args(["-c", SCRIPT]).timeout_seconds(SECONDS)
}

/// The units of the system, and those of the login user's manager.
pub fn read(finished: &Finished) -> (Part<Unit>, Part<Unit>) {
    let text = finished.stdout_text();
    let (system, user) = text.split_once("==> user\n").unwrap_or((&text, ""));
    (read_system(system, finished), read_user(user))
}

fn read_system(text: &str, finished: &Finished) -> Part<Unit> {
    let words = finished.stderr_text();
    if is_not_reached(&words) {
        return Part::without(State::NotRunning, "installed, but it does not run this system");
    }
    if !finished.success() {
        return Part::without(State::Unknown, format!("systemctl {}", finished.ending()));
    }
    Part::running(units(text))
}

/// That a login has no manager of its own is usual. Behind the list stands how systemctl ended.
fn read_user(text: &str) -> Part<Unit> {
    let (text, end) = text.rsplit_once("==> ").unwrap_or((text, ""));
    if is_not_reached(text) {
        return Part::without(State::NotRunning, "the login user has no systemd running");
    }
    if end.trim() != "0" {
        let why = text.lines().next_back().unwrap_or("it printed nothing");
        return Part::without(State::Unknown, format!("systemctl --user failed: {why}"));
    }
    Part::running(units(text))
}

fn is_not_reached(words: &str) -> bool {
    ["not been booted with systemd", "Failed to connect to", "Failed to get D-Bus connection"]
        .iter()
        .any(|sign| words.contains(sign))
}

/// Services that are not inactive, and whatever failed.
fn units(text: &str) -> Vec<Unit> {
    let mut units: Vec<Unit> = text.lines().filter_map(unit).collect();
    units.retain(|unit| unit.active == "failed" || (unit.name.ends_with(".service") && unit.active != "inactive"));
    units
}

/// `UNIT LOAD ACTIVE SUB DESCRIPTION`. Without `--plain`, which systemd before 209 does not know, a failed one has a dot first.
fn unit(line: &str) -> Option<Unit> {
    let line = line.trim_start_matches(['●', '*', '×', '○', ' ']);
    let mut words = line.split_ascii_whitespace();
    let (name, _load) = (words.next()?, words.next()?);
    let (active, sub) = (words.next()?, words.next()?);
    let description = words.collect::<Vec<_>>().join(" ");
    Some(Unit { name: name.to_owned(), active: active.to_owned(), sub: sub.to_owned(), description })
}

impl Unit {
    /// A service with a process.
    pub fn is_running(&self) -> bool {
        self.sub == "running"
    }
}

impl Item for Unit {
    fn problem(&self) -> Option<String> {
        let Unit { name, active, sub, .. } = self;
        match (active.as_str(), sub.as_str()) {
            ("failed", _) => Some(format!("{name} failed ({sub})")),
            // Between two attempts a unit that fails again and again is `activating`.
            (_, "auto-restart") => Some(format!("{name} is restarted again and again (auto-restart)")),
            _ => None,
        }
    }
}
