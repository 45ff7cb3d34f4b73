//! `daemon`: the process that serves all clients of a data directory. Look at it, stop it, or be it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use super::program::{Program, stop_on_signal};
use super::{overrides, say};
use crate::config::Settings;
use crate::daemon::{self, Identity, Link, Listener, Lock};
use crate::logs;

/// `status` ends with this when there is no daemon, as service scripts do.
const NOT_RUNNING: u8 = 3;

/// How long a task that computes may keep the daemon from ending.
const LAST_TASKS: Duration = Duration::from_secs(2);

#[derive(Subcommand)]
pub enum Verb {
    /// Tell whether a daemon runs and who uses it; ends with code 3 when none does
    Status,
    /// Stop the daemon: running commands are stopped, pending jobs cancelled, clients cut off
    Stop,
    /// Be the daemon, in the foreground; clients start one by themselves
    Run {
        /// Leave the process that started this one as soon as everything is ready
        #[arg(long, hide = true)]
        detach: bool,
    },
}

pub fn run(data_dir: Option<PathBuf>, verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Status => status(&std::path::absolute(Settings::locate(overrides(data_dir))?)?),
        Verb::Stop => stop(&std::path::absolute(Settings::locate(overrides(data_dir))?)?),
        Verb::Run { detach } => be(data_dir, *detach).map(|()| ExitCode::SUCCESS),
    }
}

fn status(directory: &Path) -> Result<ExitCode> {
    let Some(link) = open(directory)? else { return nobody(directory, ExitCode::from(NOT_RUNNING)) };
    let mut text = format!("The daemon {} (pid {}) serves {}.\n", link.version(), link.pid(), directory.display());
    let Some(status) = link.status()? else { return nobody(directory, ExitCode::from(NOT_RUNNING)) };
    writeln!(
        text,
        "Up for {} s; clients: {}; jobs pending or running: {}.",
        status.uptime_s, status.clients, status.jobs
    )?;
    match status.idle_s {
        Some(seconds) => writeln!(text, "It ends by itself after {seconds} s without clients and jobs.")?,
        None => writeln!(text, "It does not end by itself.")?,
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn stop(directory: &Path) -> Result<ExitCode> {
    let Some(link) = open(directory)? else { return nobody(directory, ExitCode::SUCCESS) };
    let pid = link.pid();
    let left = link.stop()?.unwrap_or_default();
    let mut text = format!("The daemon (pid {pid}) has ended.\n");
    if left.clients > 0 || left.jobs > 0 {
        writeln!(text, "Clients cut off: {}; jobs stopped: {}.", left.clients, left.jobs)?;
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The daemon of a data directory, if there is such a directory and a daemon in it.
fn open(directory: &Path) -> Result<Option<Link>> {
    match directory.is_dir() {
        true => Ok(Link::open(directory)?),
        false => Ok(None),
    }
}

fn nobody(directory: &Path, code: ExitCode) -> Result<ExitCode> {
    match Lock::held_by(directory) {
        Some(pid) => say(&format!("The daemon of {} (pid {pid}) is just starting or ending.\n", directory.display()))?,
        None => say(&format!("No daemon serves {}.\n", directory.display()))?,
    }
    Ok(code)
}

fn be(data_dir: Option<PathBuf>, detach: bool) -> Result<()> {
    if detach {
        daemon::detach()?;
    }
    let settings = Arc::new(Settings::load(overrides(data_dir)).context("reading the settings")?);
    let directory = settings.data_dir.clone();
    // Dropped after the runtime, and so after the database is closed: who waits for it can open that at once.
    let _lock = Lock::take(&directory)?;
    let identity = Identity::of(&settings);
    let logs = logs::start(&directory, &settings.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = tokio::spawn(stop_on_signal(stop.clone()));
        let program = Program::build(Arc::clone(&settings), logs.clone()).await?;
        let listener = Listener::bind(&directory)?;
        if detach {
            logs.hush();
            daemon::leave_terminal(&directory)?;
        }
        tracing::info!(pid = std::process::id(), "the daemon is ready");
        let (registry, jobs) = (Arc::clone(&program.registry), program.jobs.clone());
        let served = daemon::serve(listener, identity, registry, jobs, settings.daemon_idle, stop).await;
        signals.abort();
        program.shutdown().await;
        tracing::info!("the daemon has ended");
        anyhow::Ok(served?)
    });
    // Drops every task, and with the last of them the database.
    runtime.shutdown_timeout(LAST_TASKS);
    served
}
