//! The lines that a person wants to read of `get_services_status`: what is wrong, then each manager.

use orchestrator_sdk::data;

use super::pm2::restarted;
use super::{App, Container, Part, Services, State};
use crate::report::{duration, size};

/// More of a kind than this are in the data only.
const SHOWN: usize = 60;

impl Services {
    /// `running` services there were, of the system and of the user, before those that did not fail were left out.
    pub fn text(&self, alias: &str, running: [usize; 2], failed_only: bool) -> String {
        let mut lines = vec![match self.failed.len() {
            0 if self.is_incomplete() => format!("{alias}: nothing failed of what could be asked"),
            0 => format!("{alias}: nothing failed"),
            1 => format!("{alias}: 1 thing failed"),
            more => format!("{alias}: {more} things failed"),
        }];
        lines.extend(self.failed.iter().take(SHOWN).map(|failed| format!("! {failed}")));
        lines.extend(left_out(self.failed.len()));
        let managers = [("systemd", &self.systemd), ("systemd of the login user", &self.systemd_user)];
        for ((name, manager), running) in managers.into_iter().zip(running) {
            // Most logins have no manager of their own, or one with nothing to do.
            let is_idle = manager.state == State::Running && running == 0 && manager.items.is_empty();
            if name != "systemd" && (is_idle || matches!(manager.state, State::Absent | State::NotRunning)) {
                continue;
            }
            lines.push(heading(name, manager, |_| runs(running)));
            if !failed_only && running > 0 {
                let more = left_out(running).unwrap_or_default();
                let units = manager.items.iter().filter(|unit| unit.is_running());
                let shown: Vec<&str> = units.map(|unit| stem(&unit.name)).take(SHOWN).collect();
                lines.push(format!("  running: {}{more}", shown.join(", ")));
            }
        }
        for (name, engine) in [("Docker", &self.docker), ("Podman", &self.podman)] {
            // One of the two is usually absent; only that both are is worth a line.
            if name == "Docker" || engine.state != State::Absent {
                lines.push(heading(name, engine, |total| count(total, "container")));
            }
            if !failed_only {
                lines.extend(engine.items.iter().take(SHOWN).map(container));
                lines.extend(left_out(engine.items.len()));
            }
        }
        lines.push(heading("PM2", &self.pm2, |total| count(total, "app")));
        if !failed_only {
            lines.extend(self.pm2.items.iter().take(SHOWN).map(app));
            lines.extend(left_out(self.pm2.items.len()));
        }
        // Names come from the server; a line break in one must not begin a line of ours.
        lines.iter().map(|line| data::safe(line)).collect::<Vec<_>>().join("\n")
    }

    /// Whether something is there and did not tell about itself.
    fn is_incomplete(&self) -> bool {
        self.systemd.is_incomplete()
            || self.systemd_user.is_incomplete()
            || self.docker.is_incomplete()
            || self.podman.is_incomplete()
            || self.pm2.is_incomplete()
    }
}

impl<T> Part<T> {
    fn is_incomplete(&self) -> bool {
        match self.state {
            State::NoPermission | State::Unknown => true,
            State::Running => self.reason.is_some(),
            State::Absent | State::NotRunning => false,
        }
    }
}

fn heading<T>(name: &str, part: &Part<T>, items: impl FnOnce(usize) -> String) -> String {
    match (part.state, part.reason.as_deref()) {
        (State::Running, None) => format!("{name}: {}", items(part.total)),
        (State::Running, Some(note)) => format!("{name}: {}; {note}", items(part.total)),
        (_, reason) => format!("{name}: {}", reason.unwrap_or("unknown")),
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn runs(services: usize) -> String {
    if services == 1 { "1 service runs".to_owned() } else { format!("{services} services run") }
}

fn left_out(count: usize) -> Option<String> {
    count.checked_sub(SHOWN).filter(|more| *more > 0).map(|more| format!("  and {more} more"))
}

fn stem(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

fn container(container: &Container) -> String {
    let Container { name, image, status, ports, .. } = container;
    let ports = if ports.is_empty() { String::new() } else { format!("; {}", ports.join(", ")) };
    format!("  {name} ({image}) {status}{ports}")
}

fn app(app: &App) -> String {
    let of = app.user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
    let mut line = format!("  {}{of} {}", app.name, app.status);
    if let Some(seconds) = app.uptime_seconds {
        line.push_str(&format!(" for {}", duration(seconds)));
    }
    if let Some(restarts) = app.restarts {
        line.push_str(&format!(", {}", restarted(restarts)));
    }
    if app.status == "online"
        && let (Some(memory), Some(cpu)) = (app.memory_bytes, app.cpu_percent)
    {
        line.push_str(&format!(", {}, CPU {cpu}%", size(memory)));
    }
    line
}
