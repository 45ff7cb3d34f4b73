//! The life of one job: commit it, lay it down until there is a place, do the work, commit the end, tell who waits.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::call::{Call, JobId, Recorded, Reply};
use crate::error::{Code, Problem};
use crate::failpoint::failpoint;
use crate::store::{Haste, StoreError};

use super::active::{Active, Begun};
use super::job::{AnyJob, Ended, Head, Job, Pending, Running, Status};
use super::output::{Kept, Spool};
use super::persist;
use super::queue::{Inner, retry_limit};
use super::roster::{Held, Place, Queued};
use super::store::{Change, Inserted};
use super::turns::Kind;
use super::work::{Handed, Laid, Work};

/// How long a job that only reads is not on disk: as long as most of them take, so that its beginning and its end are one
/// commit. It is less than a person takes to look for it.
const UNRECORDED: Duration = Duration::from_millis(100);

/// What a submitted job turned out to be.
#[derive(Debug)]
pub(super) enum Accepted {
    New,
    Existing(JobId),
}

/// Commits a job. With a free place it is done here as well, to its end; otherwise it is laid down until its turn.
pub(super) async fn live(
    inner: Arc<Inner>,
    active: Held,
    head: Head,
    kind: Kind,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
    work: Handed,
) {
    failpoint("job-admitted");
    let job = Job::<Pending>::new(head);
    // With a free place the job is committed as running at once: one sync at the beginning instead of two.
    match inner.turns.try_take(&kind) {
        Some(place) => {
            let job = job.start(Timestamp::now());
            // In a box, since the other half of this future is little, and there may be very many of it.
            at_once(inner, active, job, place, committed, work).boxed().await;
        }
        None => {
            let laid = inner.maker.lay_down(work);
            queue(inner, active, job, kind, committed, laid).await;
        }
    }
}

/// Commits a job that waits for its turn, and lays it down.
async fn queue(
    inner: Arc<Inner>,
    active: Held,
    job: Job<Pending>,
    kind: Kind,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
    laid: Laid,
) {
    let retry_of = job.head.retried_from;
    let inserted = inner.store.insert(inner.turns.haste(&kind), Arc::new(AnyJob::Pending(job)), None, retry_of).await;
    if let Err(answer) = accepted(&inner, active.id, retry_of, inserted, NOTHING_DONE) {
        let _ = committed.send(answer);
        return;
    }
    failpoint("job-recorded");
    active.lay_down(laid);
    let _ = committed.send(Ok(Accepted::New));
    failpoint("job-accepted");
    inner.turns.wait(kind, Queued { id: active.id, inner: Arc::downgrade(&inner) });
    // Whoever cancelled it before it was laid down found nothing to take.
    let unwanted = active.is_unwanted() || inner.closing.is_cancelled();
    if unwanted && let Some((active, _)) = inner.roster.take_up(active.id) {
        call_off(inner, active).await;
    }
}

/// Does a job whose turn it is, to its end.
pub(super) async fn begin(inner: Arc<Inner>, active: Arc<Active>, laid: Laid, place: Place) {
    failpoint("job-turn");
    let job = match pending(&inner, active.id).await {
        Ok(job) => job,
        Err(problem) => return lose(&inner, &active, problem),
    };
    let haste = place.haste();
    let running = job.start(Timestamp::now());
    let shown = Arc::new(AnyJob::Running(running.clone()));
    let change = Change { before: Status::Pending, job: Arc::clone(&shown), kept: None };
    if let Err(error) = persist::update(&inner, haste, Arc::new(change), |_| {}).await {
        return lose(&inner, &active, unrecorded(active.id, "start", "it was not begun", &error));
    }
    failpoint("job-started");
    let begun = equip(&inner, &active, &running.head);
    active.show(shown);
    let work = inner.maker.take_up(laid, &running.head);
    let place = kept(&running.head, place);
    let result = do_work(&inner, begun, &running.head, Recorded::default(), work).await;
    finish(&inner, &active, haste, running, result).await;
    drop(place);
}

/// Ends a job whose work was taken from it before its turn.
pub(super) async fn call_off(inner: Arc<Inner>, active: Arc<Active>) {
    match pending(&inner, active.id).await {
        Ok(job) => {
            let ended = job.cancel(cancelled(), Timestamp::now());
            conclude(&inner, &active, Haste::Now, Status::Pending, ended, None).await;
        }
        Err(problem) => lose(&inner, &active, problem),
    }
}

/// The record of a job that waits for its turn.
async fn pending(inner: &Inner, id: JobId) -> Result<Job<Pending>, Problem> {
    match persist::get(inner, id).await? {
        Some(AnyJob::Pending(job)) => Ok(job),
        _ => Err(Problem::internal(format!("the record of {id} is not that of a job that waits for its turn"))),
    }
}

/// Commits a job that has a place and does it. The work begins while its record is being committed; it has no effect before
/// that: see [`Recorded`]. What has none at all is given [`UNRECORDED`] to end, and then recorded once.
async fn at_once(
    inner: Arc<Inner>,
    active: Held,
    running: Job<Running>,
    place: Place,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
    work: Handed,
) {
    let (id, retry_of) = (active.id, running.head.retried_from);
    let haste = place.haste();
    let begun = equip(&inner, &active, &running.head);
    let Handed { run, only_reads, .. } = work;
    let (recorder, recorded) = if only_reads { Recorded::on_demand() } else { Recorded::pending() };
    let mut doing = pin!(do_work(&inner, begun, &running.head, recorded, run));
    if only_reads {
        tokio::select! {
            biased;
            done = &mut doing => return record_whole(&inner, &active, haste, running, done, committed).await,
            () = recorder.asked() => {}
            () = tokio::time::sleep(UNRECORDED) => {}
        }
    }
    let record = Arc::new(AnyJob::Running(running.clone()));
    let mut insert = pin!(async {
        // What the work has asked for leaves this machine before the disk is waited for.
        tokio::task::yield_now().await;
        inner.store.insert(haste, record, None, retry_of).await
    });
    // The work goes first: a commit may be made on this thread, and the way to a channel is then under way already.
    let mut early = None;
    let inserted = loop {
        tokio::select! {
            biased;
            result = &mut doing, if early.is_none() => early = Some(result),
            inserted = &mut insert => break inserted,
        }
    };
    let (attempts, root) = match accepted(&inner, id, retry_of, inserted, NOTHING_DONE) {
        Ok(chain) => chain,
        Err(answer) => {
            let _ = committed.send(answer);
            return;
        }
    };
    let running = running.with_attempts(attempts, root, retry_of);
    failpoint("job-recorded");
    active.show(Arc::new(AnyJob::Running(running.clone())));
    recorder.done();
    let _ = committed.send(Ok(Accepted::New));
    failpoint("job-accepted");
    let place = kept(&running.head, place);
    let result = match early {
        Some(result) => result,
        None => doing.await,
    };
    finish(&inner, &active, haste, running, result).await;
    drop(place);
}

/// Commits a job that has ended before it was on record.
async fn record_whole(
    inner: &Arc<Inner>,
    active: &Active,
    haste: Haste,
    running: Job<Running>,
    done: Done,
    committed: oneshot::Sender<Result<Accepted, Problem>>,
) {
    let (ended, kept) = wind_up(inner, active, running, done).await;
    let job = Arc::new(AnyJob::Ended(ended));
    let inserted = inner.store.insert(haste, Arc::clone(&job), Some(kept), None).await;
    if let Err(answer) = accepted(inner, active.id, None, inserted, "what it read is not told") {
        let _ = committed.send(answer);
        return;
    }
    failpoint("job-ended");
    tell(inner, active, job);
    let _ = committed.send(Ok(Accepted::New));
}

/// What became of a job that could not be recorded before it had an effect.
const NOTHING_DONE: &str = "nothing was done";

/// What the first commit came to: how often the job was tried and in which chain, or the answer for one that is not to be.
fn accepted(
    inner: &Arc<Inner>,
    id: JobId,
    retry_of: Option<JobId>,
    inserted: Result<Inserted, StoreError>,
    consequence: &str,
) -> Result<(u32, Option<JobId>), Result<Accepted, Problem>> {
    let answer = match inserted {
        Ok(Inserted::New { attempts, root }) => return Ok((attempts, root)),
        Ok(Inserted::Existing(known)) => Ok(Accepted::Existing(known)),
        Ok(Inserted::RetryLimit) => Err(retry_limit(retry_of)),
        Err(error) => {
            let cause = Problem::from(error.clone());
            let message = format!("the job could not be recorded, so {consequence}: {}", cause.message);
            let problem = Problem { message, ..cause };
            if error.is_of_the_disk() {
                inner.tasks.spawn(persist::disown(Arc::clone(inner), id, problem.clone()));
            }
            Err(problem)
        }
    };
    inner.roster.forget(id);
    Err(answer)
}

/// A detached job takes none of this machine's power for as long as it runs: others need not wait for it.
fn kept(head: &Head, place: Place) -> Option<Place> {
    head.detached.is_none().then_some(place)
}

/// Gives a job that begins what it needs at work.
fn equip(inner: &Inner, active: &Active, head: &Head) -> Begun {
    active.equip(head.detached.is_some(), || Spool::new(&inner.outputs, head.id))
}

/// Follows a detached job that an earlier process left running.
pub(super) async fn go_on(inner: Arc<Inner>, active: Arc<Active>, job: Job<Running>, work: Work) {
    let begun = active.equip(true, || Spool::resume(&inner.outputs, active.id));
    let done = do_work(&inner, begun, &job.head, Recorded::default(), work).await;
    finish(&inner, &active, Haste::Now, job, done).await;
}

async fn finish(inner: &Inner, active: &Active, haste: Haste, running: Job<Running>, done: Done) {
    if matches!(done, Done::Left) {
        // Its record stays that of a running job, by which the next process finds it.
        let problem =
            Problem::new(Code::Cancelled, format!("the orchestrator ends; {} goes on by itself", running.head.id))
                .detail("id", running.head.id.to_string())
                .hint("The next start finds it again: task_wait.");
        active.end(Err(problem));
        return;
    }
    let (ended, kept) = wind_up(inner, active, running, done).await;
    conclude(inner, active, haste, Status::Running, ended, Some(kept)).await;
}

/// The end of a job whose work is done, with what it has printed.
async fn wind_up(inner: &Inner, active: &Active, running: Job<Running>, done: Done) -> (Job<Ended>, Kept) {
    failpoint("job-worked");
    let ended = end(running, active, done);
    let spool = equip(inner, active, &ended.head).spool;
    let kept = spool.finish().await;
    (ended.with_output(kept.counts.clone()), kept)
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

/// Does the work. Of the head it keeps nothing but what the call says.
fn do_work<'a>(
    inner: &'a Inner,
    begun: Begun,
    head: &Head,
    recorded: Recorded,
    work: Work,
) -> impl Future<Output = Done> + use<'a> {
    let Begun { cancel, progress, spool, detached } = begun;
    let call = Call {
        job: Some(head.id),
        tool: head.tool.as_str().into(),
        caller: head.caller.as_str().into(),
        plugin: None,
        cancel,
        deadline: None,
        progress,
        recorded,
    };
    // The state behind the closure is not looked at again after a panic.
    let work = AssertUnwindSafe(async move { work(call, spool).await }).catch_unwind();
    async move {
        tokio::select! {
            biased;
            result = work => result.map_or(Done::Panicked, Done::Answered),
            () = inner.closing.cancelled(), if detached.is_some() => Done::Left,
            () = inner.abandon.cancelled() => Done::Abandoned,
        }
    }
}

/// The job's end.
fn end(job: Job<Running>, active: &Active, done: Done) -> Job<Ended> {
    let now = Timestamp::now();
    match done {
        Done::Abandoned | Done::Left => AnyJob::Running(job).crash(now),
        Done::Answered(Err(problem)) if active.is_lost() => job.crash(problem, now),
        Done::Answered(Ok(reply)) => job.complete(reply, now),
        Done::Answered(Err(problem)) if problem.code == Code::Cancelled && active.is_unwanted() => {
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
async fn conclude(inner: &Inner, active: &Active, haste: Haste, before: Status, ended: Job<Ended>, kept: Option<Kept>) {
    let id = ended.head.id;
    let job = Arc::new(AnyJob::Ended(ended));
    let change = Arc::new(Change { before, job: Arc::clone(&job), kept });
    let unrecorded = |error: &StoreError| unrecorded(id, "end", "what it did was done", error);
    // Who waits hears of that at once, and not of a success that is not on disk.
    let delayed = |error: &StoreError| active.end(Err(unrecorded(error)));
    if let Err(error) = persist::update(inner, haste, change, delayed).await {
        return lose(inner, active, unrecorded(&error));
    }
    failpoint("job-ended");
    tell(inner, active, job);
}

/// Tells the end that was just committed.
fn tell(inner: &Inner, active: &Active, job: Arc<AnyJob>) {
    active.show(Arc::clone(&job));
    inner.roster.forget(active.id);
    active.end(Ok(job));
}

/// Gives a job up whose state could not be committed.
fn lose(inner: &Inner, active: &Active, problem: Problem) {
    inner.roster.forget(active.id);
    active.end(Err(problem));
}

fn unrecorded(id: JobId, what: &str, done: &str, error: &StoreError) -> Problem {
    let cause = Problem::from(error.clone());
    Problem::internal(format!("the {what} of {id} could not be recorded: {}", cause.message))
        .detail("id", id.to_string())
        .hint(format!(
            "{done}; check the disk of the orchestrator: it is tried again until it succeeds, see task_status"
        ))
}

fn cancelled() -> Problem {
    Problem::new(Code::Cancelled, "the job was cancelled before it began, so nothing was done")
}
