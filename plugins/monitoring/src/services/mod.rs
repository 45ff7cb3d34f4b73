//! `get_services_status`: what runs on a server and what failed, of systemd, Docker, Podman and PM2.
//!
//! All are asked at once. What is not there is told as absent, and what cannot be asked as that, beside the rest. Nothing is
//! started by asking: PM2 would start its daemon, so a script looks for it first.

mod containers;
mod pm2;
mod systemd;
mod told;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

pub use containers::Container;
pub use pm2::App;
pub use systemd::Unit;

const SECONDS: u64 = 20;

pub fn describe(description: Description) -> Description {
    let mut description = description.tool(
        Tool::new(
            "get_services_status",
            "Services",
            "systemd services, containers and PM2 apps: which run, which failed. Not their logs.",
            get_services_status,
        )
        .read_only()
        .server_argument("alias"),
    );
    let reasons = [
        "Lists systemd's services and failed units, those of the login user's own systemd, too.",
        "Lists the containers of Docker.",
        "Lists the containers of Podman, if the login user has any.",
        "Lists the apps of PM2, if it runs, without their environment; to root those of all users.",
    ];
    for (command, reason) in commands().iter().zip(reasons) {
        let line: Vec<&str> = std::iter::once(&command.program).chain(&command.args).map(String::as_str).collect();
        description = description.wants_exec(&line, reason);
    }
    description
}

/// The commands, in the order in which their answers are read.
fn commands() -> [Command; 4] {
    [systemd::command(), containers::docker(), containers::podman(), pm2::command()]
}

#[derive(Deserialize, JsonSchema)]
struct Arguments {
    /// The server's alias.
    alias: String,
    /// Only what failed.
    #[serde(default)]
    failed_only: bool,
}

/// What runs on a server. The schema does not go deeper, to be short.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Services {
    /// What is wrong; empty when nothing is.
    pub failed: Vec<String>,
    #[schemars(with = "Map<String, Value>")]
    pub systemd: Part<Unit>,
    /// The login user's own manager.
    #[schemars(skip)]
    pub systemd_user: Part<Unit>,
    #[schemars(with = "Map<String, Value>")]
    pub docker: Part<Container>,
    #[schemars(skip)]
    pub podman: Part<Container>,
    #[schemars(with = "Map<String, Value>")]
    pub pm2: Part<App>,
}

/// One manager of services.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part<T> {
    pub state: State,
    /// Why it is not `running`, or what of it could not be seen.
    pub reason: Option<String>,
    pub items: Vec<T>,
    /// How many there are, those included that were not asked for.
    pub total: usize,
}

/// Whether a manager could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Absent,
    NotRunning,
    NoPermission,
    /// It was asked and gave no usable answer.
    Unknown,
}

/// Something that a manager manages.
pub trait Item {
    /// What is wrong with it, if anything is.
    fn problem(&self) -> Option<String>;
}

impl<T> Part<T> {
    fn running(items: Vec<T>) -> Self {
        Part { state: State::Running, reason: None, total: items.len(), items }
    }

    fn without(state: State, reason: impl Into<String>) -> Self {
        Part { state, reason: Some(reason.into()), items: Vec::new(), total: 0 }
    }
}

fn get_services_status(host: &dyn Host, arguments: Arguments) -> Result<Output<Services>, Problem> {
    let Ok(answers) = <[_; 4]>::try_from(host.exec_all(&arguments.alias, commands().into())) else {
        return Err(Problem::new("INTERNAL", "the host did not answer every command"));
    };
    if let [Err(first), Err(_), Err(_), Err(_)] = &answers {
        return Err(first.clone());
    }
    let [systemd, docker, podman, pm2] = answers;
    let (systemd, systemd_user) = managers(systemd)?;
    let mut services = Services {
        failed: Vec::new(),
        systemd,
        systemd_user,
        docker: part(docker, containers::read_docker)?,
        podman: part(podman, containers::read_podman)?,
        pm2: part(pm2, pm2::read)?,
    };
    if containers::are_same(&services.docker.items, &services.podman.items) {
        services.docker = containers::emulated();
    }
    services.judge();
    let running = |part: &Part<Unit>| part.items.iter().filter(|unit| unit.is_running()).count();
    let running = [running(&services.systemd), running(&services.systemd_user)];
    if arguments.failed_only {
        services.systemd.items.retain(|unit| unit.problem().is_some());
        services.systemd_user.items.retain(|unit| unit.problem().is_some());
        services.docker.items.retain(|container| container.problem().is_some());
        services.podman.items.retain(|container| container.problem().is_some());
        services.pm2.items.retain(|app| app.problem().is_some());
    }
    Ok(Output::new(services.text(&arguments.alias, running, arguments.failed_only), services))
}

/// The two kinds of systemd, which one command asks.
fn managers(answer: Result<Finished, Problem>) -> Result<(Part<Unit>, Part<Unit>), Problem> {
    let mut user = Part::without(State::Absent, "not installed");
    let system = part(answer, |finished| {
        let (system, of_user) = systemd::read(finished);
        user = of_user;
        system
    })?;
    Ok((system, user))
}

/// What one manager answered. A problem of the connection is passed on, one of this command costs this part only.
fn part<T>(answer: Result<Finished, Problem>, read: impl FnOnce(&Finished) -> Part<T>) -> Result<Part<T>, Problem> {
    match answer {
        Ok(finished) if finished.exit_code == Some(127) => Ok(Part::without(State::Absent, "not installed")),
        Ok(finished) => {
            let mut part = read(&finished);
            if finished.stdout_truncated {
                part.reason = Some("it listed more than can be read; the rest is left out".to_owned());
            }
            Ok(part)
        }
        Err(problem) if crate::is_of_one_command(&problem) => Ok(Part::without(State::Unknown, problem.message)),
        Err(problem) => Err(problem),
    }
}

impl Services {
    /// Collects what is wrong.
    fn judge(&mut self) {
        let all = [
            problems(&self.systemd.items),
            problems(&self.systemd_user.items).into_iter().map(|problem| format!("user unit {problem}")).collect(),
            problems(&self.docker.items),
            problems(&self.podman.items),
            problems(&self.pm2.items),
        ];
        self.failed = all.concat();
    }
}

fn problems<T: Item>(items: &[T]) -> Vec<String> {
    items.iter().filter_map(Item::problem).collect()
}

#[cfg(test)]
mod tests;
