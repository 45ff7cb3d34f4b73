//! Threads of their own for moving data.
//!
//! Encrypting keeps a thread busy for as long as the line takes it. On the threads that serve commands, each of the ten or so
//! steps of a command would wait behind such a stretch: measured, a command took three times as long beside a transfer. The
//! connections of a transfer live where it runs, here, on threads that the scheduler puts behind the others.
//!
//! Not for what waits for this machine's disks: that has its own threads (`sftp`).

use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Problem;

/// How far behind others. Where nobody else wants the processor it changes nothing.
const NICE: i32 = 5;

/// The threads, from the first transfer on.
#[derive(Default)]
pub struct Bulk(OnceLock<io::Result<Runtime>>);

impl Bulk {
    /// Runs `work` there. Dropping the future ends it.
    pub async fn run<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let runtime = self.0.get_or_init(start).as_ref();
        let runtime =
            runtime.map_err(|error| Problem::internal(format!("the threads for transfers did not start: {error}")))?;
        match AbortOnDropHandle::new(runtime.spawn(work)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                // As if it had run here.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Problem::internal("the threads for transfers have ended")),
            },
        }
    }
}

fn start() -> io::Result<Runtime> {
    let yields = || {
        // On Linux that is the thread and not the process. Without it, transfers only yield less.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "transfers run with the priority of commands");
        }
    };
    Builder::new_multi_thread().thread_name("bulk").on_thread_start(yields).enable_all().build()
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // Waiting for them is not allowed on a thread of another runtime, where this may be dropped.
        if let Some(Ok(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
