//! `ssh.process`: commands that run while the guest goes on. Which of them may be started is asked in `ssh`; what a process
//! is, and how it is stopped, is the capability layer's.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wasmtime::component::{Resource, ResourceTable};

use super::ssh::Context;
use crate::capability::{Finished, Printed, Process};
use crate::plugins::bindings::orchestrator::plugin::{ssh as wit, types};

/// A longer time is as good as none, and later arithmetic with it cannot overflow.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The processes that a guest has.
#[derive(Default)]
pub struct Held {
    /// Those that it has not dropped. They go with the store.
    pub table: ResourceTable,
    /// A read was told that the call is cancelled, and the guest may answer with what it has. The next one ends the guest.
    hurried: bool,
}

impl From<Printed> for wit::Printed {
    fn from(printed: Printed) -> Self {
        wit::Printed { stdout: printed.stdout, stderr: printed.stderr, ended: printed.ended }
    }
}

impl From<Finished> for wit::Exit {
    fn from(finished: Finished) -> Self {
        wit::Exit {
            exit_code: finished.exit_code,
            exit_signal: finished.exit_signal,
            duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// As on the wire (RFC 4254, 6.10).
fn name_of(signal: wit::Signal) -> &'static str {
    match signal {
        wit::Signal::Hup => "HUP",
        wit::Signal::Int => "INT",
        wit::Signal::Quit => "QUIT",
        wit::Signal::Term => "TERM",
        wit::Signal::Kill => "KILL",
        wit::Signal::Usr1 => "USR1",
        wit::Signal::Usr2 => "USR2",
    }
}

fn patience(ms: u64) -> Duration {
    Duration::from_millis(ms).min(MAX_PATIENCE)
}

impl wit::HostProcess for Context {
    async fn read(
        &mut self,
        process: Resource<Process>,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<wit::Printed, types::Problem>> {
        if self.held.hurried {
            self.runner.go_on()?;
        }
        let process = self.held.table.get_mut(&process)?;
        let cancel: &CancellationToken = &self.runner.call.cancel;
        let waiting = self.runner.watch.wait();
        let printed = process.read(patience(timeout_ms), cancel).await;
        drop(waiting);
        self.held.hurried = cancel.is_cancelled();
        Ok(printed.map(Into::into).map_err(Into::into))
    }

    async fn signal(
        &mut self,
        process: Resource<Process>,
        signal: wit::Signal,
    ) -> wasmtime::Result<Result<bool, types::Problem>> {
        self.runner.go_on()?;
        let process = self.held.table.get_mut(&process)?;
        let waiting = self.runner.watch.wait();
        let sent = tokio::select! {
            sent = process.signal(name_of(signal)) => Some(sent),
            () = self.runner.call.cancel.cancelled() => None,
        };
        drop(waiting);
        self.runner.go_on()?;
        Ok(sent.unwrap_or(Ok(false)).map_err(Into::into))
    }

    async fn wait(
        &mut self,
        process: Resource<Process>,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<Option<wit::Exit>, types::Problem>> {
        self.runner.go_on()?;
        let process = self.held.table.get_mut(&process)?;
        let waiting = self.runner.watch.wait();
        let ended = process.wait(patience(timeout_ms), &self.runner.call.cancel).await;
        drop(waiting);
        self.runner.go_on()?;
        Ok(ended.map(|ended| ended.map(Into::into)).map_err(Into::into))
    }

    /// A guest whose call was cancelled is not held up: whoever ends the call waits for the process.
    async fn drop(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        let process = self.held.table.delete(process)?;
        let waiting = self.runner.watch.wait();
        tokio::select! {
            () = process.stop() => {}
            () = self.runner.call.cancel.cancelled() => {}
        }
        drop(waiting);
        Ok(())
    }
}
