//! What a detached job has left on its server is removed once its end is on disk, and not before: until then it is the only
//! record of that end. What cannot be removed is tried again, also by the next process, and `system_diagnostics` tells of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::call::{Call, JobId};
use crate::capability::{DetachedPlace, State};
use crate::error::{Code, Problem};
use crate::jobs::{AnyJob, Status};
use crate::tools::Core;

/// How long the end of a job may take to be committed.
const COMMIT: Duration = Duration::from_secs(600);
/// The pauses between tries; the last one is repeated.
const PAUSES: [u64; 5] = [5, 30, 120, 600, 1800];
/// How long a start that was called off may still be on its way. Its directory is what stops it.
const LATE: Duration = Duration::from_secs(600);

/// Cleans up after a job that has ended, or is about to, in the background. Without a place nothing has reached the server.
pub(super) fn later(core: &Arc<Core>, job: &AnyJob, alias: String, place: Option<DetachedPlace>) {
    let (owner, id) = (Arc::clone(core), job.id());
    core.jobs.in_background(async move { clean(&owner, id, &alias, place.as_ref()).await });
}

async fn clean(core: &Core, id: JobId, alias: &str, place: Option<&DetachedPlace>) {
    // An end that is not on disk is left for the next process to find.
    let Ok(job) = core.jobs.wait(id, COMMIT, &CancellationToken::new()).await else { return };
    if job.is_active() {
        return;
    }
    let ran_to_its_end = job.reply().is_some();
    if job.status() == Status::Crashed {
        let since = job.ended().map(|ended| Timestamp::now().duration_since(ended));
        let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
        tokio::time::sleep(LATE.saturating_sub(since)).await;
    }
    let call = Call { job: Some(id), ..Call::new("task_exec", &job.head().caller) };
    for pause in PAUSES.into_iter().chain(std::iter::repeat(1800)) {
        let removed = match place {
            Some(place) => remove(core, &call, alias, place, ran_to_its_end).await,
            None => Ok(()),
        };
        let problem = match removed {
            Ok(()) => {
                if let Err(problem) = core.jobs.cleaned(id).await {
                    tracing::warn!(job = %id, %problem, "that a detached job left nothing behind could not be recorded");
                }
                return;
            }
            Err(problem) => problem,
        };
        if problem.code == Code::ServerNotFound {
            // Nobody knows the way any more.
            tracing::warn!(job = %id, server = alias, "a detached job's files stay on a server that was removed here");
            let _ = core.jobs.cleaned(id).await;
            return;
        }
        tracing::warn!(job = %id, server = alias, %problem, "a detached job's files could not be removed yet");
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

/// Stops what may still run, which its caller has given up, and removes the files.
async fn remove(core: &Core, call: &Call, alias: &str, place: &DetachedPlace, ended: bool) -> Result<(), Problem> {
    if !ended && let State::Alive { sent } = core.servers.detached_stop(call, alias, place).await? {
        return Err(Problem::internal(format!("the command was sent {sent} and still runs")));
    }
    core.servers.detached_clean(call, alias, place).await
}
