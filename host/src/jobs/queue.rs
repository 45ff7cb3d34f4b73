//! The queue as the rest of the program sees it: hand in work, look at it, wait for it, stop it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::call::{Call, JobId, Reply, Report};
use crate::capability::Stream;
use crate::config::Settings;
use crate::error::{Code, Problem};
use crate::store::{Store, StoreError};

use super::active::Reports;
use super::job::{AnyJob, Head, MAX_RETRIES, Status};
use super::output::{Counts, Output, Rendered, Spool, StreamCounts, file_name};
use super::recovery::{Found, Recovery};
use super::roster::{Held, Queued, Roster};
use super::store::{Filter, JobStore};
use super::turns::{Kind, Limits, Turns};
use super::work::{Handed, Maker, Work};
use super::{ids, keeper, output, stats, worker};

/// How long [`Jobs::cancel`] waits for the end: interrupt, terminate and kill on a server take a few seconds.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// How many jobs that wait are ended at a time when the queue closes: as many as share a commit.
const AT_ONCE: usize = 256;

/// The queue. Clones share it.
#[derive(Clone, Debug)]
pub struct Jobs(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: JobStore,
    pub(super) outputs: PathBuf,
    ids: ids::Ids,
    max_queue: usize,
    pub(super) turns: Turns<Queued>,
    /// What is pending or running in this process.
    pub(super) roster: Roster,
    pub(super) maker: Maker,
    pub(super) tasks: TaskTracker,
    /// No new jobs once this fires.
    pub(super) closing: CancellationToken,
    /// Running work is dropped once this fires.
    pub(super) abandon: CancellationToken,
    /// What an earlier process left unended was found then, and has ids up to this one.
    found: (Timestamp, u64),
    pub(super) recovery: Recovery,
    /// `None` once it was waited for.
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// A job that is to be.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    pub tool: String,
    pub server: Option<String>,
    /// Where it is about several: each of them is as busy with it as with a job of its own.
    pub servers: Vec<String>,
    /// Without secrets: they are stored and shown.
    pub arguments: Map<String, Value>,
    pub caller: String,
    /// `core`, or the plugin's name and version.
    pub origin: String,
    /// Seconds.
    pub rappel: Option<u64>,
    /// A second call of the tool with the same key gets the first one's job instead of another one.
    pub idempotency_key: Option<String>,
    /// The job that this one tries again.
    pub retry_of: Option<JobId>,
    /// It runs on its server by itself, and is found again there after this process.
    pub detach: bool,
    /// Long work on much at once: it waits for what somebody waits for.
    pub bulk: bool,
    /// Its work is more than the tool and these arguments tell, so it cannot be made again from the record.
    pub withheld: bool,
    /// Its work has no effect that would have to be on record before it: it is recorded with its end where that comes at once.
    pub only_reads: bool,
}

/// A committed job, to be waited for. Dropping it leaves the job alone.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub id: JobId,
    /// The job was there before: the idempotency key was used already.
    pub existing: bool,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Ahead(Held),
    Past(Arc<AnyJob>),
}

impl Ticket {
    /// Whether the job has begun.
    pub fn has_begun(&self) -> bool {
        match &self.end {
            End::Ahead(active) => active.begun().is_some(),
            End::Past(_) => true,
        }
    }

    /// Waits for the end.
    pub async fn done(&mut self) -> Result<Arc<AnyJob>, Problem> {
        match &self.end {
            End::Ahead(active) => active.ended().await,
            End::Past(job) => Ok(Arc::clone(job)),
        }
    }
}

impl Jobs {
    /// Starts the queue: what an earlier process left unended is crashed from then on. Committing that, where it is very much,
    /// and forgetting old jobs go on in the background.
    pub async fn start(store: Store, settings: &Settings) -> Result<Jobs, StoreError> {
        let outputs = settings.data_dir.join("outputs");
        create_private(&outputs)?;
        let directory = outputs.clone();
        let (store, now) = (JobStore::new(store), Timestamp::now());
        let Found { recovery, unended, last } =
            Recovery::begin(&store, now, move |id| counts_of_files(&directory, id)).await?;
        if unended > 0 {
            tracing::warn!(
                jobs = unended,
                "jobs that an earlier process left unended are crashed, but for detached ones"
            );
        }
        let found = (now, last);
        // Files of jobs that were all forgotten have greater ids than any job that is left, and none is from after this moment.
        let last = last.max(ids::floor(now));
        let closing = CancellationToken::new();
        let keeper = keeper::start(
            store.clone(),
            outputs.clone(),
            settings.history_retention,
            last,
            recovery.clone(),
            closing.clone(),
        );
        let active = super::detached::found(&store, &outputs)?;
        Ok(Jobs(Arc::new(Inner {
            store,
            outputs,
            ids: ids::Ids::after(last),
            max_queue: settings.max_queue_size,
            turns: Turns::new(Limits { all: settings.max_running_jobs, per_server: settings.max_jobs_per_server }),
            roster: Roster::of(active),
            maker: Maker::default(),
            tasks: TaskTracker::new(),
            closing,
            abandon: CancellationToken::new(),
            found,
            recovery,
            keeper: Mutex::new(Some(keeper)),
        })))
    }

    /// Says how the work of a job is made again from its record, so that nothing of it need be kept while it waits for its turn.
    /// What is made must do what the work that was handed in would have done. Until this is said, work is kept.
    pub fn make_again_by(&self, make: impl Fn(&Head) -> Result<Work, Problem> + Send + Sync + 'static) {
        self.0.maker.learn(make);
    }

    /// Commits the job, then runs `work` in a task of its own as soon as there is a place for it.
    ///
    /// Returns when the job is committed, which for one that only reads may be at its end. From then on it goes its way, whether
    /// or not anybody waits.
    /// `work` should end soon after its call is cancelled; what it then returns decides how the job ended: a
    /// [`Code::Cancelled`] as cancelled, a [`Code::CommandTimeout`] or [`Code::PluginTimeout`] as timed out.
    ///
    /// Fails with [`Code::QueueFull`], [`Code::RetryLimitExceeded`], [`Code::InvalidArgument`] when an idempotency key is used
    /// again with other arguments, and [`Code::Internal`] when the database does.
    pub async fn submit<F, Fut>(&self, new: NewJob, work: F) -> Result<Ticket, Problem>
    where
        F: FnOnce(Call, Spool) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let arguments = new.idempotency_key.is_some().then(|| new.arguments.clone());
        let kind = Kind::of(&new);
        // How often a retry was tried is known only once it is recorded.
        let (recorded, only_reads) = (!new.withheld, new.only_reads && new.retry_of.is_none());
        let (head, active) = self.0.admit(new)?;
        let (id, end) = (head.id, End::Ahead(active.clone()));
        let run: Work = Box::new(move |call, spool| work(call, spool).boxed());
        let work = Handed { run, recorded, only_reads };
        // The job's own task commits it too, so that a caller who goes away in between leaves nothing half done.
        let (committed, is_committed) = oneshot::channel();
        self.0.tasks.spawn(worker::live(self.0.clone(), active, head, kind, committed, work));
        match is_committed.await {
            Ok(Ok(worker::Accepted::New)) => Ok(Ticket { id, existing: false, end }),
            Ok(Ok(worker::Accepted::Existing(known))) => self.existing(known, arguments.unwrap_or_default()).await,
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::internal("the job was lost before it was committed")),
        }
    }

    async fn existing(&self, id: JobId, arguments: Map<String, Value>) -> Result<Ticket, Problem> {
        let job = self.get(id).await?;
        if job.head().arguments != arguments {
            return Err(Problem::invalid(format!(
                "idempotencyKey was used before by {id} with other arguments: use a new key for another call"
            )));
        }
        let end = self.0.roster.hold(id).map_or_else(|| End::Past(Arc::new(job)), End::Ahead);
        Ok(Ticket { id, existing: true, end })
    }

    /// The job, as it was last committed.
    pub async fn get(&self, id: JobId) -> Result<AnyJob, Problem> {
        self.0.load(id)
    }

    /// Waits for the job's end, at most for `limit`; then returns it as it is, ended or not.
    /// Fails with [`Code::Cancelled`] when `cancel` fires, which stops the waiting and not the job.
    pub async fn wait(&self, id: JobId, limit: Duration, cancel: &CancellationToken) -> Result<AnyJob, Problem> {
        let Some(active) = self.0.roster.hold(id) else { return self.0.load(id) };
        tokio::select! {
            biased;
            outcome = active.ended() => outcome.map(|job| AnyJob::clone(&job)),
            () = cancel.cancelled() => Err(Problem::new(
                Code::Cancelled,
                format!("waiting for {id} was cancelled; the job itself goes on"),
            )),
            () = tokio::time::sleep(limit) => self.0.load(id),
        }
    }

    /// Asks the job to stop and waits briefly for its confirmed end. It may still be running in the answer, when the work
    /// did not stop in time. An ended job is returned as it is.
    pub async fn cancel(&self, id: JobId) -> Result<AnyJob, Problem> {
        self.ask_to_stop(id);
        self.wait(id, CANCEL_WAIT, &CancellationToken::new()).await
    }

    /// Asks the job to stop and does not wait. Nothing happens to one that has ended.
    pub fn ask_to_stop(&self, id: JobId) {
        if let Some(active) = self.0.roster.find(id) {
            active.cancel();
        }
        // One that waits for its turn has nobody else to see that.
        if let Some((active, _)) = self.0.roster.take_up(id) {
            self.0.tasks.spawn(worker::call_off(Arc::clone(&self.0), active));
        }
    }

    /// The newest jobs that match, newest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<AnyJob>, Problem> {
        match filter.status {
            Some(Status::Running) => {
                let mut running = self.0.roster.running(filter);
                running.reverse();
                running.truncate(filter.limit());
                return Ok(running);
            }
            Some(Status::Pending) => {
                let ids = self.0.roster.pending().into_iter().rev().collect();
                return Ok(self.0.store.first_of(ids, filter.clone()).await?);
            }
            _ => {}
        }
        // Before the database is read: a job that ends in between is then active here and ended there, never the reverse.
        let alive = self.0.roster.ids();
        let jobs = self.0.store.list(filter.clone()).await?;
        let seen = |job: AnyJob| {
            let alive = alive.contains(&job.id());
            self.0.as_seen(job, alive)
        };
        Ok(jobs.into_iter().map(seen).filter(|job| filter.matches(job)).collect())
    }

    /// What is running, then what is pending, each oldest first.
    pub async fn active(&self, filter: &Filter) -> Result<Vec<AnyJob>, Problem> {
        // In this order: what begins in between is in neither, which a look a moment later would tell too.
        let (pending, mut jobs) = (self.0.roster.pending(), self.0.roster.running(filter));
        if jobs.len() < filter.limit() && filter.status.is_none_or(|status| status == Status::Pending) {
            let known: HashSet<JobId> = jobs.iter().map(AnyJob::id).collect();
            let limit = filter.limit() - jobs.len();
            let ids = pending.into_iter().filter(|id| !known.contains(id)).collect();
            jobs.extend(self.0.store.first_of(ids, Filter { limit, ..filter.clone() }).await?);
        }
        jobs.truncate(filter.limit());
        Ok(jobs)
    }

    /// How many jobs are pending or running.
    pub fn count(&self) -> usize {
        self.0.roster.len()
    }

    /// The oldest of them.
    pub fn oldest(&self) -> Option<JobId> {
        self.0.roster.oldest()
    }

    /// What a pending or running job says of how far it has come, from now on.
    pub fn reports(&self, id: JobId) -> Option<Reports> {
        self.0.roster.hold(id).map(Reports::of)
    }

    /// What it has said last.
    pub fn last_report(&self, id: JobId) -> Option<Report> {
        self.0.roster.find(id)?.begun()?.progress.subscribe().borrow().clone()
    }

    /// What a running job has printed so far, in at most `limit` characters.
    pub async fn partial_output(&self, id: JobId, limit: usize) -> Option<Rendered> {
        let output = self.0.roster.find(id)?.begun()?.spool.output();
        output.render(limit).await.ok()
    }

    /// What the job has printed, whether it runs or has ended.
    pub async fn output(&self, id: JobId) -> Result<Output, Problem> {
        if self.0.roster.contains(id) {
            let active = self.0.roster.find(id);
            let spool = active.and_then(|active| Some(active.begun()?.spool.clone()));
            return Ok(spool.unwrap_or_else(|| Spool::new(&self.0.outputs, id)).output());
        }
        let job = self.0.load(id)?;
        let counts = job.as_ended().map(|job| job.state.output.clone()).unwrap_or_default();
        let source = |stream| -> Result<output::Source, Problem> {
            if let Some(bytes) = self.0.store.inline_output(id, stream)? {
                return Ok(output::Source::Bytes(bytes.into()));
            }
            output::Source::file(self.0.outputs.join(file_name(id, stream)))
                .map_err(|error| Problem::internal(format!("the output of {id} could not be opened: {error}")))
        };
        Ok(Output::new(id, source(Stream::Stdout)?, source(Stream::Stderr)?, counts))
    }

    /// The job that tries `id` again, to be submitted with the same tool's work.
    /// Fails with [`Code::InvalidArgument`] for one that runs or was completed.
    pub async fn retry(&self, id: JobId) -> Result<NewJob, Problem> {
        let job = self.0.load(id)?;
        if !job.as_ended().is_some_and(super::Job::can_be_retried) {
            return Err(Problem::invalid(format!(
                "{id} is {}: only a job that failed, crashed, timed out or was cancelled can be retried",
                job.status().as_str()
            )));
        }
        let head = job.head().clone();
        Ok(NewJob {
            tool: head.tool,
            server: head.server,
            arguments: head.arguments,
            caller: head.caller,
            origin: head.origin,
            rappel: head.rappel,
            retry_of: Some(id),
            detach: head.detached.is_some(),
            ..NewJob::default()
        })
    }

    /// Counts, durations and what can be retried.
    pub async fn stats(&self) -> Result<stats::QueueStats, Problem> {
        let mut stats = stats::collect(&self.0.store).await?;
        if self.0.recovery.is_unfinished() {
            let running = self.0.roster.running(&Filter::default()).len();
            stats.crash_all_but(self.0.roster.pending().len() as u64, running as u64);
        }
        Ok(stats)
    }

    /// How many jobs may be pending or running.
    pub fn capacity(&self) -> usize {
        self.0.max_queue
    }

    /// Takes no more jobs, cancels what is pending or running, waits up to `grace` for it to end, and ends as crashed what
    /// did not: its end on the server is then not known.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.closing.cancel();
        for active in self.0.roster.present() {
            // A detached job that runs is left to itself: see `worker`.
            if active.begun().is_none_or(|begun| begun.detached.is_none()) {
                active.cancel();
            }
        }
        let waiting = self.0.roster.take_up_all();
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let call_off = |active| worker::call_off(Arc::clone(&inner), active);
            stream::iter(waiting).for_each_concurrent(AT_ONCE, call_off).await;
        });
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            self.0.abandon.cancel();
            self.0.tasks.wait().await;
        }
        let keeper = self.0.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // It sees that the queue is closing; a panic of its own is in the log.
            let _ = keeper.await;
        }
    }
}

impl Inner {
    /// Takes a place in the queue for a new job.
    fn admit(&self, new: NewJob) -> Result<(Head, Held), Problem> {
        let active = self.roster.admit(|count| self.refusal(count), || self.ids.next())?;
        let head = Head {
            id: active.id,
            tool: new.tool,
            server: new.server,
            arguments: new.arguments,
            caller: new.caller,
            origin: new.origin,
            created: Timestamp::now(),
            attempts: 1,
            retried_from: new.retry_of,
            root: None,
            rappel: new.rappel,
            idempotency_key: new.idempotency_key,
            detached: new.detach.then(|| format!("{:016x}", rand::random::<u64>())),
        };
        Ok((head, active))
    }

    /// Why there is no place in the queue, which holds `count` jobs.
    fn refusal(&self, count: usize) -> Option<Problem> {
        if self.closing.is_cancelled() {
            let problem = Problem::new(Code::QueueFull, "the orchestrator is shutting down and takes no more jobs")
                .retryable(true);
            return Some(problem);
        }
        (count >= self.max_queue).then(|| {
            Problem::new(
                Code::QueueFull,
                format!("{count} jobs are pending or running, which is the limit (MAX_QUEUE_SIZE)"),
            )
            .detail("limit", self.max_queue)
            .retryable(true)
            .hint("wait for some to end (task_queue, task_wait), cancel some (task_cancel), or raise MAX_QUEUE_SIZE")
        })
    }

    fn load(&self, id: JobId) -> Result<AnyJob, Problem> {
        // Before the database is read, as in a listing.
        let alive = self.roster.contains(id);
        if let Some(job) = self.roster.find(id).and_then(|active| active.committed()) {
            return Ok(job);
        }
        match self.store.get(id)? {
            Some(job) => Ok(self.as_seen(job, alive)),
            None => Err(Problem::new(Code::TaskNotFound, format!("there is no job {id}"))
                .detail("id", id.to_string())
                .hint("see task_queue and task_history for the jobs that there are")),
        }
    }

    /// A loaded job as it is told: one that nobody runs any more is not running, even if its end is not committed yet or could
    /// not be.
    pub(super) fn as_seen(&self, job: AnyJob, is_alive: bool) -> AnyJob {
        if is_alive || !job.is_active() {
            return job;
        }
        let (id, (found, last)) = (job.id(), self.found);
        let ended = job.crash(if id.0 <= last { found } else { Timestamp::now() });
        AnyJob::Ended(ended.with_output(counts_of_files(&self.outputs, id)))
    }
}

/// The error of a chain of retries that is too long.
pub(super) fn retry_limit(job: Option<JobId>) -> Problem {
    let job = job.map_or_else(|| "this job".to_owned(), |id| format!("job {id}"));
    Problem::new(Code::RetryLimitExceeded, format!("{job} was retried {MAX_RETRIES} times already"))
        .detail("limit", MAX_RETRIES)
        .hint("Find out why it fails (task_status, task_output), then call the tool anew.")
}

fn create_private(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| StoreError::io("create", directory, error))
}

/// What an interrupted job has in files.
fn counts_of_files(directory: &Path, id: JobId) -> Counts {
    let count = |stream| {
        let len = std::fs::metadata(directory.join(file_name(id, stream))).map_or(0, |file| file.len());
        StreamCounts { total: len, kept: len }
    };
    Counts { stdout: count(Stream::Stdout), stderr: count(Stream::Stderr) }
}
