//! A job as it lies on disk: one JSON object. Fields that are missing get their default and unknown ones are skipped, so that
//! records of older and newer versions can be read.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::Reply;
use crate::error::Problem;

use super::job::{AnyJob, End, Ended, Failure, Head, Job, Pending, Running, Status};
use super::output::Counts;

#[derive(Deserialize)]
struct Record {
    #[serde(flatten)]
    head: Head,
    status: Status,
    #[serde(default)]
    started: Option<Timestamp>,
    #[serde(default)]
    launched: bool,
    #[serde(default)]
    ended: Option<Timestamp>,
    #[serde(default)]
    reply: Option<Reply>,
    #[serde(default)]
    problem: Option<Problem>,
    #[serde(default)]
    output: Counts,
}

/// The same, borrowed from the job that is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    head: &'a Head,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    launched: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a Counts>,
}

/// The bytes to store.
pub(super) fn encode(job: &AnyJob) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Written {
        head: job.head(),
        status: job.status(),
        started: job.started(),
        launched: matches!(job, AnyJob::Running(job) if job.state.launched),
        ended: job.ended(),
        reply: job.reply(),
        problem: job.problem(),
        output: job.as_ended().map(|job| &job.state.output).filter(|output| !output.is_empty()),
    })
}

/// The job in `bytes`, or why there is none in them.
pub(super) fn decode(bytes: &[u8]) -> Result<AnyJob, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Record { head, status, started, launched, ended, reply, problem, output } = record;
    let missing = |what: &str| format!("a {} job without {what}", status.as_str());
    let end = match (status, reply, problem) {
        (Status::Pending, ..) => return Ok(AnyJob::Pending(Job { head, state: Pending })),
        (Status::Running, ..) => {
            let started = started.ok_or_else(|| missing("started"))?;
            return Ok(AnyJob::Running(Job { head, state: Running { started, launched } }));
        }
        (Status::Completed, Some(reply), _) => End::Completed(reply),
        (Status::Completed, None, _) => return Err(missing("reply")),
        (Status::Failed, Some(reply), _) => End::Failed(Failure::Reply(reply)),
        (Status::Failed, None, Some(problem)) => End::Failed(Failure::Problem(problem)),
        (Status::Cancelled, _, Some(problem)) => End::Cancelled(problem),
        (Status::TimedOut, _, Some(problem)) => End::TimedOut(problem),
        (Status::Crashed, _, Some(problem)) => End::Crashed(problem),
        (_, _, None) => return Err(missing("problem")),
    };
    let ended = ended.ok_or_else(|| missing("ended"))?;
    Ok(AnyJob::Ended(Job { head, state: Ended { started, ended, end, output } }))
}
