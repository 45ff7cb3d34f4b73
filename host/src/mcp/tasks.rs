//! Jobs as MCP tasks: the extension `io.modelcontextprotocol/tasks` (SEP-2663) over the queue, under the same ids.
//!
//! A task is no thing of its own: every question about one is answered from the job, so it is still there after a restart,
//! for any client, and for as long as the history is kept.

use std::time::Duration;

use jiff::Timestamp;
use rmcp::ErrorData;
use rmcp::model::{DetailedTask, Task, TaskPayload};
use serde_json::{Map, Value};

use super::render;
use crate::call::Report;
use crate::error::{Code, Problem};
use crate::jobs::{AnyJob, Status};
use crate::tools::Registry;

/// How often a client is asked to look, in milliseconds: every tenth of the time that the job has taken, within these bounds.
const POLL_FROM: u64 = 500;
const POLL_TO: u64 = 5_000;

/// What a job is doing and since when, in the words of the extension.
pub fn task(job: &AnyJob, report: Option<Report>, retention: Duration, now: Timestamp) -> Task {
    let created = job.head().created;
    let updated = job.ended().or(job.started()).unwrap_or(created);
    let status = payload(job).status();
    let mut task = Task::new(job.id().to_string(), status, created.to_string(), updated.to_string())
        .with_status_message(message(job, report, now));
    match job.ended() {
        // Counted from the creation, as the extension wants it.
        Some(ended) => task.ttl_ms = Some(millis(between(created, ended)).saturating_add(millis(retention))),
        // It is never forgotten before its end, whenever that is: there is no limit yet.
        None => task.poll_interval_ms = Some((millis(between(created, now)) / 10).clamp(POLL_FROM, POLL_TO)),
    }
    task
}

/// The same with what came of the job.
pub fn detailed(job: &AnyJob, report: Option<Report>, retention: Duration, now: Timestamp) -> DetailedTask {
    DetailedTask::new(task(job, report, retention, now), payload(job))
}

/// Work that was done and work that could not be done both end in a tool's result, which says so; only a job whose result
/// nobody will ever know is a failed task.
fn payload(job: &AnyJob) -> TaskPayload {
    match job.status() {
        Status::Pending | Status::Running => TaskPayload::Working,
        Status::Cancelled => TaskPayload::Cancelled,
        Status::Completed | Status::Failed | Status::TimedOut => {
            let result = Registry::outcome(job.clone()).map_or_else(|problem| render::problem(&problem), render::reply);
            TaskPayload::Completed { result: object(serde_json::to_value(result)) }
        }
        Status::Crashed => {
            let problem = job.problem().cloned().unwrap_or_else(|| Problem::internal("the job crashed"));
            let error = ErrorData::internal_error(problem.text(), Some(problem.structured()));
            TaskPayload::Failed { error: object(serde_json::to_value(error)) }
        }
    }
}

/// One sentence on where the job stands.
fn message(job: &AnyJob, report: Option<Report>, now: Timestamp) -> String {
    let tool = &job.head().tool;
    match job {
        AnyJob::Pending(_) => format!("{tool} waits for its turn"),
        AnyJob::Running(running) => {
            let said = report.and_then(|report| report.message).map(|said| format!(": {said}")).unwrap_or_default();
            format!("{tool} has been running for {} s{said}", between(running.state.started, now).as_secs())
        }
        AnyJob::Ended(_) => match job.problem() {
            Some(problem) => problem.message.clone(),
            None => format!("{tool} is {}", job.status().as_str()),
        },
    }
}

/// A task that is not there is a wrong parameter in MCP.
pub fn refused(problem: &Problem) -> ErrorData {
    match problem.code {
        Code::TaskNotFound => ErrorData::invalid_params(problem.text(), Some(problem.structured())),
        _ => ErrorData::internal_error(problem.text(), Some(problem.structured())),
    }
}

fn object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Zero when the clock went back in between.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::{JobId, Reply};
    use crate::jobs::{Head, Job};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    fn pending() -> Job<crate::jobs::Pending> {
        let head = json!({"id": JobId(7), "tool": "task_exec", "created": at(0)});
        Job::new(serde_json::from_value::<Head>(head).unwrap())
    }

    /// What a client reads ninety seconds after the job was created.
    fn check(job: AnyJob, expected: Value) {
        let report = Some(Report { message: Some("half way".to_owned()), ..Report::default() });
        let detailed = detailed(&job, report, Duration::from_secs(3600), at(90));
        let mut seen = serde_json::to_value(detailed).unwrap();
        let seen = seen.as_object_mut().unwrap();
        assert_eq!(seen.remove("taskId"), Some(json!(JobId(7))));
        assert_eq!(seen.remove("createdAt"), Some(json!(at(0))));
        assert_eq!(Value::Object(std::mem::take(seen)), expected);
    }

    #[test]
    fn a_job_that_has_not_ended_is_at_work_and_has_no_limit_yet() {
        check(
            AnyJob::Pending(pending()),
            json!({"status": "working", "statusMessage": "task_exec waits for its turn", "ttlMs": null,
                "lastUpdatedAt": at(0), "pollIntervalMs": 5000}),
        );
        check(
            AnyJob::Running(pending().start(at(80))),
            json!({"status": "working", "statusMessage": "task_exec has been running for 10 s: half way", "ttlMs": null,
                "lastUpdatedAt": at(80), "pollIntervalMs": 5000}),
        );
    }

    #[test]
    fn an_ended_job_has_the_result_that_its_call_would_have_had() {
        let reply = |is_error| Reply { text: "said".to_owned(), is_error, ..Reply::default() };
        let result = |is_error| {
            json!({"resultType": "complete", "content": [{"type": "text", "text": "said"}], "isError": is_error,
                "structuredContent": {"id": JobId(7)}})
        };
        let ended = |status: &str, result| {
            json!({"status": "completed", "statusMessage": format!("task_exec is {status}"), "ttlMs": 3_620_000,
                "lastUpdatedAt": at(20), "result": result})
        };
        let running = || pending().start(at(10));
        check(AnyJob::Ended(running().complete(reply(false), at(20))), ended("completed", result(false)));
        check(AnyJob::Ended(running().complete(reply(true), at(20))), ended("failed", result(true)));
    }

    #[test]
    fn a_problem_is_a_result_a_cancelled_job_a_cancelled_task_and_a_crashed_one_a_failed_one() {
        let status = |job: Job<crate::jobs::Ended>| {
            let task = detailed(&AnyJob::Ended(job), None, Duration::ZERO, at(90));
            serde_json::to_value(task).unwrap()
        };
        let running = || pending().start(at(10));
        let timed_out = status(running().time_out(Problem::new(Code::CommandTimeout, "too slow"), at(20)));
        assert_eq!(timed_out["status"], "completed");
        assert_eq!(timed_out["result"]["structuredContent"]["code"], "COMMAND_TIMEOUT");
        let cancelled = status(pending().cancel(Problem::new(Code::Cancelled, "not wanted"), at(20)));
        assert_eq!((&cancelled["status"], &cancelled["statusMessage"]), (&json!("cancelled"), &json!("not wanted")));
        let crashed = status(AnyJob::Running(running()).crash(at(20)));
        assert_eq!((&crashed["status"], &crashed["error"]["code"]), (&json!("failed"), &json!(-32603)));
    }

    #[test]
    fn a_clock_that_went_back_makes_no_negative_times() {
        let task = task(&AnyJob::Running(pending().start(at(0))), None, Duration::ZERO, at(-50));
        assert_eq!(task.poll_interval_ms, Some(POLL_FROM));
    }
}
