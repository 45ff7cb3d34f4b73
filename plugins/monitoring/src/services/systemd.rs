//! The units of systemd: `systemctl list-units`, a line for each, the description last.
//!
//! Not the units of users, which need a session of their own.

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

pub fn command() -> Command {
    Command::new("systemctl")
        .args(["list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"])
        .timeout_seconds(SECONDS)
}

pub fn read(finished: &Finished) -> Part<Unit> {
    let words = finished.stderr_text();
    if ["not been booted with systemd", "Failed to connect to bus", "Failed to get D-Bus connection"]
        .iter()
        .any(|sign| words.contains(sign))
    {
        return Part::without(State::NotRunning, "installed, but it does not run this system");
    }
    if !finished.success() {
        return Part::without(State::Unknown, format!("systemctl {}", finished.ending()));
    }
    let mut units: Vec<Unit> = finished.stdout_text().lines().filter_map(unit).collect();
    units.retain(|unit| unit.active == "failed" || (unit.name.ends_with(".service") && unit.active != "inactive"));
    Part::running(units)
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
