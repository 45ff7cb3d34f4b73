//! The life of one job in one task: commit it, wait for a place, do the work, commit the end, tell who waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::call::{Call, JobId, Reply};
use crate::error::{Code, Problem};

use super::job::{AnyJob, Ended, Head, Job, Pending, Running, Status};
use super::output::{Kept, Spool};
use super::queue::{Active, Inner, retry_limit};
use super::store::{Inserted, with_attempts};

/// What a submitted job turned out to be.
#[derive(Debug)]
pub(super) enum Accepted {
    New,
    Existing(JobId),
}

/// Runs a job from its first commit to its last.
pub(super) async fn live<F, Fut>(
    inner: Arc<Inner>,
    active: Arc<Active>,
    head: Head,
    retry_of: Option<JobId>,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
    work: F,
) where
    F: FnOnce(Call, Spool) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let id = head.id;
    // With a free place the job is committed as running at once: one sync at the beginning instead of two.
    let free = inner.slots.clone().try_acquire_owned().ok();
    let job = Job::<Pending>::new(head);
    let job = if free.is_some() { AnyJob::Running(job.start(Timestamp::now())) } else { AnyJob::Pending(job) };
    let job = match inner.store.insert(job.clone(), retry_of).await {
        Ok(Inserted::New { attempts, root }) => with_attempts(job, attempts, root, retry_of),
        other => {
            inner.forget(id);
            let answer = match other {
                Ok(Inserted::Existing(known)) => Ok(Accepted::Existing(known)),
                Ok(_) => Err(retry_limit(retry_of)),
                Err(error) => Err(error.into()),
            };
            let _ = committed.send(answer);
            return;
        }
    };
    active.show(job.clone());
    let _ = committed.send(Ok(Accepted::New));

    let (running, place) = match job {
        AnyJob::Running(job) => (job, free),
        AnyJob::Pending(job) => {
            let place = tokio::select! {
                biased;
                () = active.cancel.cancelled() => None,
                place = inner.slots.clone().acquire_owned() => place.ok(),
            };
            let Some(place) = place else {
                let ended = job.cancel(cancelled(), Timestamp::now());
                return conclude(&inner, &active, Status::Pending, ended, None).await;
            };
            let running = job.start(Timestamp::now());
            let shown = AnyJob::Running(running.clone());
            if let Err(error) = inner.store.update(Status::Pending, shown.clone(), None).await {
                return lose(&inner, &active, id, error.into());
            }
            active.show(shown);
            (running, Some(place))
        }
        // An ended job is never submitted.
        AnyJob::Ended(_) => return lose(&inner, &active, id, Problem::internal("the job had ended before it began")),
    };

    let ended = work_on(&inner, &active, running, work).await;
    let kept = active.spool.finish().await;
    let ended = ended.with_output(kept.counts.clone());
    conclude(&inner, &active, Status::Running, ended, Some(kept)).await;
    drop(place);
}

/// Does the work and turns what comes back into the job's end.
async fn work_on<F, Fut>(inner: &Inner, active: &Active, job: Job<Running>, work: F) -> Job<Ended>
where
    F: FnOnce(Call, Spool) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let call = Call {
        job: Some(job.head.id),
        tool: job.head.tool.as_str().into(),
        caller: job.head.caller.as_str().into(),
        plugin: None,
        cancel: active.cancel.clone(),
        deadline: None,
        progress: active.progress.clone(),
    };
    let spool = active.spool.clone();
    // The state behind the closure is not looked at again after a panic.
    let work = AssertUnwindSafe(async move { work(call, spool).await }).catch_unwind();
    let result = tokio::select! {
        biased;
        result = work => result,
        () = inner.abandon.cancelled() => return AnyJob::Running(job).crash(Timestamp::now()),
    };
    let now = Timestamp::now();
    match result {
        Ok(Ok(reply)) => job.complete(reply, now),
        Ok(Err(problem)) if problem.code == Code::Cancelled && active.cancel.is_cancelled() => job.cancel(problem, now),
        Ok(Err(problem)) if matches!(problem.code, Code::CommandTimeout | Code::PluginTimeout) => {
            job.time_out(problem, now)
        }
        Ok(Err(problem)) => job.fail(problem, now),
        Err(_) => {
            tracing::error!(job = %job.head.id, tool = job.head.tool, "the work panicked");
            let problem = Problem::internal(format!("{} failed by a fault of the orchestrator", job.head.tool))
                .hint("see task_logs; please report it");
            job.fail(problem, now)
        }
    }
}

/// Commits the end, then tells it.
async fn conclude(inner: &Inner, active: &Active, before: Status, ended: Job<Ended>, kept: Option<Kept>) {
    let id = ended.head.id;
    let job = AnyJob::Ended(ended);
    match inner.store.update(before, job.clone(), kept).await {
        Ok(()) => {
            active.show(job.clone());
            inner.forget(id);
            active.done.send_replace(Some(Ok(Arc::new(job))));
        }
        Err(error) => lose(inner, active, id, error.into()),
    }
}

/// Ends a job whose state could not be committed: who waits hears of that, not of a success that is not on disk.
fn lose(inner: &Inner, active: &Active, id: JobId, cause: Problem) {
    inner.forget(id);
    let problem = Problem::internal(format!("the end of {id} could not be recorded: {}", cause.message))
        .detail("id", id.to_string())
        .hint("what it did was done; check the server and the disk of the orchestrator");
    active.done.send_replace(Some(Err(problem)));
}

fn cancelled() -> Problem {
    Problem::new(Code::Cancelled, "the job was cancelled before it began, so nothing was done")
}
