//! The containers of Docker and Podman. State and health are read from the status, as all versions of both tell it there.

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

use super::{Item, Part, SECONDS, State};

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Container {
    pub name: String,
    pub image: String,
    /// `running`, `exited`, `restarting`, `paused`, `created`, `dead` …
    pub state: String,
    /// `healthy`, `unhealthy` or `starting`, if it has a health check.
    pub health: Option<String>,
    /// Of one that ended.
    pub exit_code: Option<i32>,
    /// The engine's own words.
    pub status: String,
    /// Published ports, as the engine writes them.
    pub ports: Vec<String>,
}

pub fn command(engine: &str) -> Command {
    Command::new(engine)
        .args(["ps", "--all", "--format", "{{.Names}}\\t{{.Image}}\\t{{.Status}}\\t{{.Ports}}"])
        .timeout_seconds(SECONDS)
}

pub fn read(engine: &str, finished: &Finished) -> Part<Container> {
    if finished.success() {
        return Part::running(finished.stdout_text().lines().filter_map(container).collect());
    }
    let words = finished.stderr_text().to_lowercase();
    if words.contains("permission denied") {
        return Part::without(State::NoPermission, "the login user may not use it");
    }
    if words.contains("cannot connect to the docker daemon") || words.contains("is the docker daemon running") {
        return Part::without(State::NotRunning, "installed, but its daemon does not run");
    }
    Part::without(State::Unknown, format!("`{engine} ps` {}", finished.ending()))
}

fn container(line: &str) -> Option<Container> {
    let mut fields = line.split('\t');
    let (name, image, status) = (fields.next()?, fields.next()?, fields.next()?);
    let ports = fields.next().unwrap_or_default().split(", ").filter(|port| !port.is_empty());
    Some(Container {
        name: name.to_owned(),
        image: image.to_owned(),
        state: state(status),
        health: health(status).map(str::to_owned),
        exit_code: exit_code(status),
        status: status.to_owned(),
        ports: ports.map(str::to_owned).collect(),
    })
}

/// `Up 2 hours (Paused)`, `Exited (1) 3 days ago`, `Restarting (1) …`, `Removal In Progress`; else its first word.
fn state(status: &str) -> String {
    let first = status.split_ascii_whitespace().next().unwrap_or("unknown");
    match first {
        "Up" if status.ends_with("(Paused)") => "paused".to_owned(),
        "Up" => "running".to_owned(),
        "Removal" => "removing".to_owned(),
        other => other.to_lowercase(),
    }
}

fn health(status: &str) -> Option<&str> {
    let (_, health) = status.strip_suffix(')')?.rsplit_once('(')?;
    let health = health.strip_prefix("health: ").unwrap_or(health);
    ["healthy", "unhealthy", "starting"].contains(&health).then_some(health)
}

fn exit_code(status: &str) -> Option<i32> {
    let rest = status.strip_prefix("Exited (").or_else(|| status.strip_prefix("Restarting ("))?;
    rest.split_once(')')?.0.parse().ok()
}

/// What `docker stop` leaves of a process that ends at TERM, or has to be killed.
const STOPPED: [i32; 2] = [143, 137];

impl Item for Container {
    fn problem(&self) -> Option<String> {
        let failed = match self.state.as_str() {
            "exited" => self.exit_code.is_some_and(|code| code != 0 && !STOPPED.contains(&code)),
            "restarting" | "dead" => true,
            _ => self.health.as_deref() == Some("unhealthy"),
        };
        failed.then(|| format!("container {}: {}", self.name, self.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_health_and_exit_code_are_read_from_the_status() {
        let check = |status: &str, expected: (&str, Option<&str>, Option<i32>), fails: bool| {
            let container = container(&format!("c\ti\t{status}\t")).unwrap();
            let told = (container.state.as_str(), container.health.as_deref(), container.exit_code);
            assert_eq!((told, container.problem().is_some()), (expected, fails), "{status}");
        };
        check("Up 2 hours", ("running", None, None), false);
        check("Up 2 hours (health: starting)", ("running", Some("starting"), None), false);
        check("Up 2 hours (unhealthy)", ("running", Some("unhealthy"), None), true);
        check("Up About a minute (Paused)", ("paused", None, None), false);
        check("Exited (0) 3 days ago", ("exited", None, Some(0)), false);
        check("Exited (137) 3 days ago", ("exited", None, Some(137)), false);
        check("Exited (1) 3 days ago", ("exited", None, Some(1)), true);
        check("Restarting (255) 3 seconds ago", ("restarting", None, Some(255)), true);
        check("Created", ("created", None, None), false);
        check("Dead", ("dead", None, None), true);
        // Podman's, after its sources.
        check("Up 2 minutes ago (healthy)", ("running", Some("healthy"), None), false);
        check("", ("unknown", None, None), false);
    }
}
