//! Hybrid execution: a job that ends soon is answered inline; one that does not is handed over to the background, with its
//! id, what it has printed so far, and the tool to call next. A client that follows tasks by itself gets the id alone, sooner.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Answer, Core, JobWork, Request};
use crate::call::{JobId, Reply, Report};
use crate::error::{Code, Problem};
use crate::jobs::{AnyJob, NewJob, Reports, Status, Ticket};

/// How much of a running job's output a hand-over shows of each stream, in characters.
pub const PARTIAL_OUTPUT: usize = 4_000;

/// How long a client that follows tasks waits for an inline answer. A task costs it at least one more request and the pause
/// before that, so what is done by then is cheaper told at once.
const TASK_AFTER: Duration = Duration::from_secs(1);

/// Records the job, starts it, and waits for its end as long as a client should have to.
pub async fn run(core: &Core, new: NewJob, work: JobWork, mut request: Request) -> Result<Reply, Problem> {
    let detached = work.detach;
    let ticket = core.jobs.submit(new, work.run).await?;
    request.entering = None;
    let id = ticket.id;
    if request.crowded && !ticket.has_begun() {
        return hand_over(core, id, None).await;
    }
    let patience = core.settings.sync_timeout;
    match wait(core, ticket, detached, request, patience).await? {
        Some(reply) => Ok(reply),
        None => hand_over(core, id, Some(patience)).await,
    }
}

/// The same for a client that follows tasks.
pub async fn run_as_task(core: &Core, new: NewJob, work: JobWork, mut request: Request) -> Result<Answer, Problem> {
    let detached = work.detach;
    let ticket = core.jobs.submit(new, work.run).await?;
    request.entering = None;
    let id = ticket.id;
    if request.crowded && !ticket.has_begun() {
        return Ok(Answer::Task(Box::new(core.jobs.get(id).await?)));
    }
    match wait(core, ticket, detached, request, core.settings.sync_timeout.min(TASK_AFTER)).await? {
        Some(reply) => Ok(Answer::Reply(reply)),
        None => Ok(Answer::Task(Box::new(core.jobs.get(id).await?))),
    }
}

/// Waits for the job's end, or until `limit` has passed: then it goes on, and there is no answer yet.
async fn wait(
    core: &Core,
    ticket: Ticket,
    detached: bool,
    request: Request,
    limit: Duration,
) -> Result<Option<Reply>, Problem> {
    let id = ticket.id;
    let mut reports = core.jobs.reports(id);
    let ended = ended(ticket);
    let patience = tokio::time::sleep(limit);
    tokio::pin!(ended, patience);
    loop {
        tokio::select! {
            // The end first: a job that is done is answered even if its last report came at the same moment.
            biased;
            job = &mut ended => {
                let job = job?;
                drop(reports);
                // Mostly nobody else has it any more, and an answer need not be copied.
                return answer(Arc::unwrap_or_clone(job)).map(Some);
            }
            // Clients cancel what they have lost patience with, and a detached command is one that nobody need wait for.
            () = request.cancel.cancelled(), if detached => {
                return Err(Problem::new(Code::Cancelled, format!("waiting for {id} was cancelled; the command goes on"))
                    .detail("id", id.to_string())
                    .hint("task_cancel stops it."));
            }
            () = request.cancel.cancelled() => {
                let job = core.jobs.cancel(id).await?;
                return answer(job).map(Some);
            }
            () = &mut patience => return Ok(None),
            Some(report) = next_report(&mut reports), if reports.is_some() => request.progress.report(report),
        }
    }
}

async fn ended(mut ticket: Ticket) -> Result<Arc<AnyJob>, Problem> {
    ticket.done().await
}

/// The next report of a job. `None` once there can be no more; `reports` is then `None` too.
pub async fn next_report(reports: &mut Option<Reports>) -> Option<Report> {
    let next = reports.as_mut()?.next().await;
    if next.is_none() {
        *reports = None;
    }
    next
}

/// What the caller gets of a job.
pub fn answer(job: AnyJob) -> Result<Reply, Problem> {
    let id = job.id().to_string();
    match job.into_outcome() {
        Some(Ok(mut reply)) => {
            reply.structured.insert("id".to_owned(), Value::from(id));
            Ok(reply)
        }
        Some(Err(problem)) => Err(problem.detail("id", id)),
        None => Err(Problem::new(Code::Cancelled, format!("job {id} was asked to stop and has not ended yet"))
            .detail("id", id)
            .hint("task_status tells when it has.")),
    }
}

/// What the caller gets of a job that goes on in the background, or has not begun, after so long.
async fn hand_over(core: &Core, id: JobId, waited: Option<Duration>) -> Result<Reply, Problem> {
    let status = core.jobs.get(id).await?.status();
    let after = waited.map_or_else(String::new, |waited| format!(" after {} s", waited.as_secs()));
    let state = match status {
        Status::Pending => {
            format!("Job {id} is still queued{after} and begins as soon as others have made room for it.")
        }
        _ => format!("Job {id} is still running{after} and goes on in the background."),
    };
    let mut text =
        format!("{state} Call task_wait with id \"{id}\" to wait for its end, or task_status to look at it.");
    // It may have ended just now: then waiting for it tells how.
    let status = if status == Status::Pending { status } else { Status::Running };
    let mut structured = Map::from_iter([
        ("id".to_owned(), json!(id.to_string())),
        ("state".to_owned(), json!(status.as_str())),
        ("next".to_owned(), json!("task_wait")),
    ]);
    if let Some(partial) = core.jobs.partial_output(id, PARTIAL_OUTPUT).await {
        let streams = [("stdout", partial.stdout.text), ("stderr", partial.stderr.text)];
        // A tool of a plugin prints nothing here, and may have data of these names and of another type.
        for (name, shown) in streams.into_iter().filter(|(_, shown)| !shown.is_empty()) {
            text.push_str(&format!("\n\n{name} so far:\n{shown}"));
            structured.insert(name.to_owned(), Value::from(shown));
        }
    }
    Ok(Reply { text, structured, is_error: false })
}
