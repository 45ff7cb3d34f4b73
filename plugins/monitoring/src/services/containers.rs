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

const FORMAT: &str = "{{.Names}}\\t{{.Image}}\\t{{.Status}}\\t{{.Ports}}";
/// Podman keeps the containers of each user apart, and makes a place for them when it is asked.
const PODMAN: &str = include_str!("../podman.sh");
/// The script's own exit statuses.
const NOT_INSTALLED: u32 = 90;
const NONE_OF_THE_USER: u32 = 91;

pub fn docker() -> Command {
    Command::new("docker").args(["ps", "--all", "--format", FORMAT]).timeout_seconds(SECONDS)
}

pub fn podman() -> Command {
    Command::new("sh").args(["-c", PODMAN]).timeout_seconds(SECONDS)
}

pub fn read_docker(finished: &Finished) -> Part<Container> {
    let words = finished.stderr_text();
    if words.contains("Emulate Docker CLI using podman") {
        return emulated();
    }
    if finished.success() {
        return listed(finished);
    }
    let words = words.to_lowercase();
    if words.contains("permission denied") {
        return Part::without(State::NoPermission, "the login user may not use it: it needs root or the group docker");
    }
    if words.contains("cannot connect to the docker daemon") || words.contains("is the docker daemon running") {
        return Part::without(State::NotRunning, "installed, but its daemon does not run");
    }
    Part::without(State::Unknown, format!("`docker ps` {}", finished.ending()))
}

pub fn read_podman(finished: &Finished) -> Part<Container> {
    match finished.exit_code {
        Some(0) => listed(finished),
        Some(NOT_INSTALLED) => Part::without(State::Absent, "not installed"),
        Some(NONE_OF_THE_USER) => {
            let reason = "the login user has no containers; those of root and others are listed to them only";
            Part::without(State::NotRunning, reason)
        }
        _ => Part::without(State::Unknown, format!("`podman ps` {}", finished.ending())),
    }
}

/// What stands for Docker where `docker` is a name for Podman (the package podman-docker), which lists the same.
pub fn emulated() -> Part<Container> {
    Part::without(State::Absent, "not installed; Podman stands in for it")
}

/// Whether two lists are of the same containers. Times in them may differ by what passed between the two commands.
pub fn are_same(one: &[Container], other: &[Container]) -> bool {
    let key = |container: &Container| (container.name.clone(), container.image.clone());
    !one.is_empty() && one.iter().map(key).eq(other.iter().map(key))
}

fn listed(finished: &Finished) -> Part<Container> {
    Part::running(finished.stdout_text().lines().filter_map(container).collect())
}

fn container(line: &str) -> Option<Container> {
    let mut fields = line.split('\t');
    let (name, image, status) = (fields.next()?, fields.next()?, fields.next()?);
    let ports = fields.next().unwrap_or_default().split(", ").filter(|port| !port.is_empty());
    Some(Container {
        name: name.to_owned(),
        image: image.to_owned(),
        state: state(status),
        // Podman tells that of a container which has ended, too.
        health: health(status).filter(|_| status.starts_with("Up")).map(str::to_owned),
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
        check("Up 2 minutes ago (healthy)", ("running", Some("healthy"), None), false);
        check("Paused", ("paused", None, None), false);
        check("Exited (1) 2 seconds ago (starting)", ("exited", None, Some(1)), true);
        check("", ("unknown", None, None), false);
    }
}
