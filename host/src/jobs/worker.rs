//! The life of one job in one task: commit it, wait for a place, do the work, commit the end, tell who waits.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::call::{Call, JobId, Recorded, Reply};
use crate::error::{Code, Problem};
use crate::failpoint::failpoint;

use super::detached::Detachment;
use super::job::{AnyJob, Ended, Head, Job, Pending, Running, Status};
use super::output::{Kept, Spool};
use super::queue::{Active, Inner, retry_limit};
use super::store::{Inserted, with_attempts};
use super::turns::Kind;

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
    kind: Kind,
    retry_of: Option<JobId>,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
    work: F,
) where
    F: FnOnce(Call, Spool) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let id = head.id;
    failpoint("job-admitted");
    // With a free place the job is committed as running at once: one sync at the beginning instead of two.
    let free = inner.turns.try_take(&kind);
    let job = Job::<Pending>::new(head.clone());
    let job = if free.is_some() { AnyJob::Running(job.start(Timestamp::now())) } else { AnyJob::Pending(job) };
    let (recorder, recorded) = Recorded::pending();
    let doing = do_work(&inner, &active, head.clone(), recorded, work);
    tokio::pin!(doing);
    let (record, at_once) = (job.clone(), free.is_some());
    let insert = async {
        if at_once {
            // What the work has asked for leaves this machine before the disk is waited for.
            tokio::task::yield_now().await;
        }
        inner.store.insert(record, retry_of).await
    };
    tokio::pin!(insert);
    // With a free place the work begins while its record is being committed. It has no effect before that: see `Recorded`.
    // The work goes first: a commit may be made on this thread, and the way to a channel is then under way already.
    let mut early = None;
    let inserted = loop {
        tokio::select! {
            biased;
            result = &mut doing, if free.is_some() && early.is_none() => early = Some(result),
            inserted = &mut insert => break inserted,
        }
    };
    let job = match inserted {
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
    failpoint("job-recorded");
    active.show(job.clone());
    recorder.done();
    let _ = committed.send(Ok(Accepted::New));
    failpoint("job-accepted");

    let (running, place) = match job {
        AnyJob::Running(job) => (job, free),
        AnyJob::Pending(job) => {
            let place = tokio::select! {
                biased;
                () = active.cancel.cancelled() => None,
                () = inner.closing.cancelled() => None,
                place = inner.turns.take(kind) => place,
            };
            let Some(place) = place else {
                let ended = job.cancel(cancelled(), Timestamp::now());
                return conclude(&inner, &active, Status::Pending, ended, None).await;
            };
            failpoint("job-turn");
            let running = job.start(Timestamp::now());
            let shown = AnyJob::Running(running.clone());
            if let Err(error) = inner.store.update(Status::Pending, shown.clone(), None).await {
                return lose(&inner, &active, id, error.into());
            }
            failpoint("job-started");
            active.show(shown);
            (running, Some(place))
        }
        // An ended job is never submitted.
        AnyJob::Ended(_) => return lose(&inner, &active, id, Problem::internal("the job had ended before it began")),
    };

    // A detached job takes none of this machine's power for as long as it runs: others need not wait for it.
    let place = place.filter(|_| active.detached.is_none());
    let result = match early {
        Some(result) => result,
        None => doing.await,
    };
    finish(&inner, &active, running, result).await;
    drop(place);
}

/// Follows a detached job that an earlier process left running.
pub(super) async fn go_on<F, Fut>(inner: Arc<Inner>, active: Arc<Active>, job: Job<Running>, work: F)
where
    F: FnOnce(Call, Spool) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let done = do_work(&inner, &active, job.head.clone(), Recorded::default(), work).await;
    finish(&inner, &active, job, done).await;
}

async fn finish(inner: &Inner, active: &Active, running: Job<Running>, done: Done) {
    if matches!(done, Done::Left) {
        // Its record stays that of a running job, by which the next process finds it.
        let problem =
            Problem::new(Code::Cancelled, format!("the orchestrator ends; {} goes on by itself", running.head.id))
                .detail("id", running.head.id.to_string())
                .hint("The next start finds it again: task_wait.");
        active.done.send_replace(Some(Err(problem)));
        return;
    }
    failpoint("job-worked");
    let ended = end(running, active, done);
    let kept = active.spool.finish().await;
    let ended = ended.with_output(kept.counts.clone());
    conclude(inner, active, Status::Running, ended, Some(kept)).await;
}

/// What came of the work.
enum Done {
    Answered(Result<Reply, Problem>),
    Panicked,
    /// The process ends, and does not wait for it any longer.
    Abandoned,
    /// The process ends, and the work goes on without it.
    Left,
}

/// Does the work.
async fn do_work<F, Fut>(inner: &Inner, active: &Active, head: Head, recorded: Recorded, work: F) -> Done
where
    F: FnOnce(Call, Spool) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let call = Call {
        job: Some(head.id),
        tool: head.tool.as_str().into(),
        caller: head.caller.as_str().into(),
        plugin: None,
        cancel: active.cancel.clone(),
        deadline: None,
        progress: active.progress.clone(),
        recorded,
    };
    let spool = active.spool.clone();
    // The state behind the closure is not looked at again after a panic.
    let work = AssertUnwindSafe(async move { work(call, spool).await }).catch_unwind();
    tokio::select! {
        biased;
        result = work => result.map_or(Done::Panicked, Done::Answered),
        () = inner.closing.cancelled(), if active.detached.is_some() => Done::Left,
        () = inner.abandon.cancelled() => Done::Abandoned,
    }
}

/// The job's end.
fn end(job: Job<Running>, active: &Active, done: Done) -> Job<Ended> {
    let now = Timestamp::now();
    match done {
        Done::Abandoned | Done::Left => AnyJob::Running(job).crash(now),
        Done::Answered(Err(problem)) if active.detached.as_ref().is_some_and(Detachment::is_lost) => {
            job.crash(problem, now)
        }
        Done::Answered(Ok(reply)) => job.complete(reply, now),
        Done::Answered(Err(problem)) if problem.code == Code::Cancelled && active.cancel.is_cancelled() => {
            job.cancel(problem, now)
        }
        Done::Answered(Err(problem)) if matches!(problem.code, Code::CommandTimeout | Code::PluginTimeout) => {
            job.time_out(problem, now)
        }
        Done::Answered(Err(problem)) => job.fail(problem, now),
        Done::Panicked => {
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
            failpoint("job-ended");
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
