//! A job and its life, as a state machine without I/O.
//!
//! Each state is a type of its own, so that a transition that must not happen cannot be written: only a [`Running`] job can
//! complete, and an [`Ended`] one changes no more. What is loaded from disk is an [`AnyJob`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::{JobId, Reply};
use crate::error::{Code, Problem};

use super::output::Counts;

/// How often a job may be tried again, counted over the whole chain of retries of one job.
pub const MAX_RETRIES: u32 = 3;

/// What is known about a job from its first moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub id: JobId,
    pub tool: String,
    /// The alias of the server that it is about, if it is about one.
    #[serde(default)]
    pub server: Option<String>,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// The MCP client, by its own name and version.
    #[serde(default)]
    pub caller: String,
    /// Who does the work: `core`, or the plugin's name and version.
    #[serde(default)]
    pub origin: String,
    pub created: Timestamp,
    /// 1 for the first try, one more for each retry in the chain.
    #[serde(default = "first")]
    pub attempts: u32,
    #[serde(default)]
    pub retried_from: Option<JobId>,
    /// The first job of a chain of retries, in its retries.
    #[serde(default)]
    pub root: Option<JobId>,
    /// Seconds after which a listing reminds of the job while it still runs.
    #[serde(default)]
    pub rappel: Option<u64>,
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The random part of its name on the server, if it runs there by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
}

impl Head {
    /// As a retry knows itself once it is recorded.
    pub fn with_attempts(self, attempts: u32, root: Option<JobId>, retried_from: Option<JobId>) -> Self {
        Head { attempts, root, retried_from, ..self }
    }

    /// The name on the server of a job that runs there by itself. Two orchestrators never choose the same.
    pub fn place(&self) -> Option<String> {
        self.detached.as_ref().map(|random| format!("{}-{random}", self.id))
    }
}

fn first() -> u32 {
    1
}

/// A job in state `S`.
#[derive(Clone, Debug, PartialEq)]
pub struct Job<S> {
    pub head: Head,
    pub state: S,
}

/// Committed, and waiting for its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending;

/// At work.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub started: Timestamp,
    /// The server has said that the command is there. Never for a job that is not detached.
    pub launched: bool,
}

/// Over.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Absent when the job never began.
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    pub end: End,
    /// What it printed.
    pub output: Counts,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Completed(Reply),
    Failed(Failure),
    Cancelled(Problem),
    TimedOut(Problem),
    /// The orchestrator went away while the job ran: what it did is not known.
    Crashed(Problem),
}

/// Why a job is a failed one.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The work was done and its answer is bad news, such as a non-zero exit status.
    Reply(Reply),
    /// The work could not be done.
    Problem(Problem),
}

impl Job<Pending> {
    pub fn new(head: Head) -> Self {
        Job { head, state: Pending }
    }

    pub fn start(self, now: Timestamp) -> Job<Running> {
        Job { head: self.head, state: Running { started: now, launched: false } }
    }

    pub fn cancel(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::Cancelled(problem), now)
    }

    /// The orchestrator went away before the job began.
    pub fn crash(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::Crashed(problem), now)
    }

    fn end(self, end: End, now: Timestamp) -> Job<Ended> {
        Job { head: self.head, state: Ended { started: None, ended: now, end, output: Counts::default() } }
    }
}

impl<S> Job<S> {
    /// The job as a retry knows itself once it is recorded.
    pub fn with_attempts(mut self, attempts: u32, root: Option<JobId>, retried_from: Option<JobId>) -> Self {
        self.head = self.head.with_attempts(attempts, root, retried_from);
        self
    }
}

impl Job<Running> {
    /// The server has said that the detached command is there.
    pub fn launch(mut self) -> Self {
        self.state.launched = self.head.detached.is_some();
        self
    }

    /// The work returned. A reply that is bad news makes the job a failed one.
    pub fn complete(self, reply: Reply, now: Timestamp) -> Job<Ended> {
        let end = if reply.is_error { End::Failed(Failure::Reply(reply)) } else { End::Completed(reply) };
        self.end(end, now)
    }

    pub fn fail(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::Failed(Failure::Problem(problem)), now)
    }

    pub fn cancel(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::Cancelled(problem), now)
    }

    pub fn time_out(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::TimedOut(problem), now)
    }

    pub fn crash(self, problem: Problem, now: Timestamp) -> Job<Ended> {
        self.end(End::Crashed(problem), now)
    }

    fn end(self, end: End, now: Timestamp) -> Job<Ended> {
        let started = Some(self.state.started);
        Job { head: self.head, state: Ended { started, ended: now, end, output: Counts::default() } }
    }
}

impl Job<Ended> {
    pub fn with_output(mut self, output: Counts) -> Self {
        self.state.output = output;
        self
    }

    /// Whether trying it again makes sense: it did not do what it was asked to.
    pub fn can_be_retried(&self) -> bool {
        !matches!(self.state.end, End::Completed(_))
    }
}

/// A job in whichever state it is.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyJob {
    Pending(Job<Pending>),
    Running(Job<Running>),
    Ended(Job<Ended>),
}

/// A job's state as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    Crashed,
}

impl Status {
    /// Every status, in the order of a job's life.
    pub const ALL: [Status; 7] = [
        Status::Pending,
        Status::Running,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::TimedOut,
        Status::Crashed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::TimedOut => "timed_out",
            Status::Crashed => "crashed",
        }
    }

    /// The status that is written as `text`.
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }

    pub fn is_active(self) -> bool {
        matches!(self, Status::Pending | Status::Running)
    }
}

impl AnyJob {
    pub fn head(&self) -> &Head {
        match self {
            AnyJob::Pending(job) => &job.head,
            AnyJob::Running(job) => &job.head,
            AnyJob::Ended(job) => &job.head,
        }
    }

    /// As [`Job::with_attempts`].
    pub fn with_attempts(self, attempts: u32, root: Option<JobId>, retried_from: Option<JobId>) -> Self {
        match self {
            AnyJob::Pending(job) => AnyJob::Pending(job.with_attempts(attempts, root, retried_from)),
            AnyJob::Running(job) => AnyJob::Running(job.with_attempts(attempts, root, retried_from)),
            AnyJob::Ended(job) => AnyJob::Ended(job.with_attempts(attempts, root, retried_from)),
        }
    }

    pub fn id(&self) -> JobId {
        self.head().id
    }

    pub fn status(&self) -> Status {
        match self {
            AnyJob::Pending(_) => Status::Pending,
            AnyJob::Running(_) => Status::Running,
            AnyJob::Ended(job) => match job.state.end {
                End::Completed(_) => Status::Completed,
                End::Failed(_) => Status::Failed,
                End::Cancelled(_) => Status::Cancelled,
                End::TimedOut(_) => Status::TimedOut,
                End::Crashed(_) => Status::Crashed,
            },
        }
    }

    pub fn is_active(&self) -> bool {
        self.status().is_active()
    }

    pub fn started(&self) -> Option<Timestamp> {
        match self {
            AnyJob::Pending(_) => None,
            AnyJob::Running(job) => Some(job.state.started),
            AnyJob::Ended(job) => job.state.started,
        }
    }

    pub fn ended(&self) -> Option<Timestamp> {
        self.as_ended().map(|job| job.state.ended)
    }

    pub fn as_ended(&self) -> Option<&Job<Ended>> {
        match self {
            AnyJob::Ended(job) => Some(job),
            _ => None,
        }
    }

    /// What the work answered, good or bad news.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.as_ended()?.state.end {
            End::Completed(reply) | End::Failed(Failure::Reply(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Why the work was not done.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.as_ended()?.state.end {
            End::Failed(Failure::Problem(problem))
            | End::Cancelled(problem)
            | End::TimedOut(problem)
            | End::Crashed(problem) => Some(problem),
            End::Completed(_) | End::Failed(Failure::Reply(_)) => None,
        }
    }

    /// What came of it: the work's answer, or why it was not done. `None` before its end.
    pub fn into_outcome(self) -> Option<Result<Reply, Problem>> {
        let AnyJob::Ended(job) = self else { return None };
        Some(match job.state.end {
            End::Completed(reply) | End::Failed(Failure::Reply(reply)) => Ok(reply),
            End::Failed(Failure::Problem(problem))
            | End::Cancelled(problem)
            | End::TimedOut(problem)
            | End::Crashed(problem) => Err(problem),
        })
    }

    /// How long it has been at work; `None` before it began.
    pub fn duration(&self, now: Timestamp) -> Option<Duration> {
        Some(between(self.started()?, self.ended().unwrap_or(now)))
    }

    /// The reminder that the caller asked for, once its time has passed and the job still runs.
    pub fn reminder(&self, now: Timestamp) -> Option<String> {
        let AnyJob::Running(job) = self else { return None };
        let after = job.head.rappel?;
        let running = between(job.state.started, now).as_secs();
        (running >= after).then(|| {
            format!(
                "reminder: {} has been running for {running} s (you asked to be reminded after {after} s)",
                job.head.tool
            )
        })
    }

    /// What becomes of the job at the start after the process that had it: a detached one that was at work is looked for on
    /// its server, and every other one that has not ended is crashed.
    pub fn recover(self, now: Timestamp) -> AnyJob {
        match self {
            AnyJob::Running(job) if job.head.detached.is_some() => AnyJob::Running(job),
            job => AnyJob::Ended(job.crash(now)),
        }
    }

    /// The same job as one that the orchestrator's end interrupted; an ended one stays as it is.
    pub fn crash(self, now: Timestamp) -> Job<Ended> {
        match self {
            AnyJob::Pending(job) => {
                let problem =
                    Problem::new(Code::Internal, "the orchestrator stopped before this job began, so nothing was done")
                        .retryable(true)
                        .hint("run it again with task_retry");
                job.crash(Problem { timestamp: now, ..problem }, now)
            }
            AnyJob::Running(job) => {
                let problem = Problem::new(
                    Code::Internal,
                    "the orchestrator stopped while this job ran; how far it came is not known",
                )
                .hint("check the server's state, then run it again with task_retry if that is safe");
                job.crash(Problem { timestamp: now, ..problem }, now)
            }
            AnyJob::Ended(job) => job,
        }
    }
}

/// The time from `from` to `to`, zero when the clock went back in between.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
