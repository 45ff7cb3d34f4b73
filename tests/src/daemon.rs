//! The daemon behind a data directory, as the tests see it: asked over the command line, ended when the test is over.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::binary;
use crate::place::Place;
use crate::wait;

/// Stops the daemon of a place when it is dropped, also when the test has failed. To be made after the place, so that there
/// still is one to stop it in.
pub struct Daemon {
    binary: PathBuf,
    data: PathBuf,
}

impl Daemon {
    pub fn of(place: &Place) -> Daemon {
        Daemon::in_directory(place.data())
    }

    pub fn in_directory(data: impl Into<PathBuf>) -> Daemon {
        Daemon { binary: binary(), data: data.into() }
    }

    /// With another program than the one under test.
    pub fn binary(mut self, binary: &Path) -> Daemon {
        self.binary = binary.to_owned();
        self
    }

    /// Runs `daemon VERB` to its end.
    pub fn ask(&self, verb: &str) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.env_clear().arg("--data-dir").arg(&self.data).args(["daemon", verb]);
        command.output().with_context(|| format!("running daemon {verb}"))
    }

    /// The process of the running daemon.
    pub fn pid(&self) -> Result<u32> {
        let status = self.ask("status")?;
        ensure!(status.status.success(), "no daemon runs: {status:?}");
        let noted = std::fs::read_to_string(self.data.join("daemon.lock"))?;
        noted.trim().parse().with_context(|| format!("{noted:?} is no pid"))
    }

    /// Sends the daemon a signal and waits until it is gone.
    pub async fn kill(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = self.pid()?;
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("not a pid")?;
        rustix::process::kill_process(process, signal)?;
        self.gone(pid).await
    }

    pub async fn gone(&self, pid: u32) -> Result<()> {
        let alive = || Path::new(&format!("/proc/{pid}/exe")).exists();
        wait::until(&format!("the daemon {pid} to be gone"), Duration::from_secs(20), || !alive()).await
    }

    /// Every daemon process of this data directory.
    pub fn processes(&self) -> Vec<u32> {
        wait::processes_with(&format!("{}\0daemon\0run", self.data.display()))
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("logs/orchestrator.jsonl")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        match self.ask("stop") {
            Ok(output) if output.status.success() => {}
            other => eprintln!("the daemon was not stopped: {other:?}"),
        }
    }
}
