//! What was run: `task_history`, `task_retry`, `queue_stats`, and how a job is shown everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::queue::{Jobs, list_reply, parse_id};
use super::typed::Direct;
use super::{Annotations, Core, Execution, Request, Tool, ToolSpec};
use crate::call::{Call, Reply};
use crate::error::Problem;
use crate::jobs::{self, AnyJob, Filter, QueueStats, Status};

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![history(core), retry(core), stats(core)]
}

/// A job as a caller sees it.
#[derive(Serialize, JsonSchema)]
pub struct JobView {
    id: String,
    #[schemars(skip)]
    tool: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    status: Status,
    #[schemars(skip)]
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[schemars(skip)]
    attempts: u32,
    #[schemars(skip)]
    caller: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retried_from: Option<String>,
    /// Set when the job still runs after its `rappel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reminder: Option<String>,
    /// What there is to say of a running detached job.
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[schemars(skip)]
    arguments: Map<String, Value>,
    /// The tool's own structured result.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout_so_far: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_so_far: Option<String>,
    #[serde(skip)]
    said: Option<String>,
}

impl JobView {
    /// With `full`, what the job answered too.
    pub fn new(job: &AnyJob, full: bool) -> Self {
        let head = job.head();
        let arguments = head.arguments.iter().map(|(name, value)| (name.clone(), shown(name, value, full))).collect();
        let mut view = JobView {
            id: head.id.to_string(),
            tool: head.tool.clone(),
            alias: head.server.clone(),
            status: job.status(),
            created: head.created.to_string(),
            started: job.started().map(|at| at.to_string()),
            ended: job.ended().map(|at| at.to_string()),
            duration_ms: job.duration(Timestamp::now()).map(|time| time.as_millis().try_into().unwrap_or(u64::MAX)),
            attempts: head.attempts,
            caller: head.caller.clone(),
            retried_from: head.retried_from.map(|id| id.to_string()),
            reminder: job.reminder(Timestamp::now()),
            note: None,
            arguments,
            result: None,
            error: None,
            stdout_so_far: None,
            stderr_so_far: None,
            said: None,
        };
        if let Some(reply) = job.reply() {
            view.said = Some(reply.text.clone());
            view.result = full.then(|| reply.structured.clone());
        }
        if let Some(problem) = job.problem() {
            view.said = Some(problem.text());
            view.error = Some(problem.structured());
        }
        view
    }

    /// What the job answered, in words.
    pub fn said(&self) -> Option<String> {
        self.said.clone()
    }
}

/// An argument as it is shown: what often carries a secret only by its size or its names, and in a list only the beginning
/// of what is long.
fn shown(name: &str, value: &Value, full: bool) -> Value {
    match (name, value) {
        ("stdin", Value::String(text)) => Value::from(format!("[{} bytes]", text.len())),
        ("env", Value::Object(variables)) => {
            variables.keys().map(|name| (name.clone(), Value::from("[not shown]"))).collect()
        }
        (_, Value::String(text)) if !full && text.chars().count() > 200 => {
            Value::from(format!("{}…", text.chars().take(200).collect::<String>()))
        }
        (_, Value::Array(items)) if !full => items.iter().map(|item| shown("", item, full)).collect(),
        (_, Value::Object(members)) if !full => {
            members.iter().map(|(name, value)| (name.clone(), shown("", value, full))).collect()
        }
        (_, other) => other.clone(),
    }
}

/// A job on one line, its reminder on a second.
pub fn line(view: &JobView) -> String {
    let mut line = format!("{}  {}  {}", view.id, view.status.as_str(), view.tool);
    if let Some(alias) = &view.alias {
        line.push_str(&format!(" on {alias}"));
    }
    let first = |text: &str| -> String { text.lines().next().unwrap_or_default().chars().take(80).collect() };
    match (view.arguments.get("cmd"), view.arguments.get("commands")) {
        (Some(Value::String(cmd)), _) => line.push_str(&format!(": {}", first(cmd))),
        (_, Some(Value::Array(steps))) => {
            let step = steps.first().map(|step| step.get("command").unwrap_or(step));
            line.push_str(&format!(": {}", first(step.and_then(Value::as_str).unwrap_or_default())));
            if steps.len() > 1 {
                line.push_str(&format!(" (and {} more)", steps.len() - 1));
            }
        }
        _ => {}
    }
    if let Some(duration) = view.duration_ms {
        line.push_str(&format!("  {}", human_ms(duration)));
    }
    line.push_str(&format!("  {}", view.ended.as_ref().or(view.started.as_ref()).unwrap_or(&view.created)));
    if let Some(from) = &view.retried_from {
        line.push_str(&format!("  (retry of {from})"));
    }
    if let Some(reminder) = &view.reminder {
        line.push_str(&format!("\n  {reminder}"));
    }
    line
}

/// Milliseconds as a person reads them.
fn human_ms(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1000),
        _ => format!("{} min", ms / 60_000),
    }
}

#[derive(Deserialize, JsonSchema)]
struct HistoryArguments {
    /// Only this server.
    alias: Option<String>,
    /// Only this tool.
    tool: Option<String>,
    /// One state.
    status: Option<Status>,
    /// ISO 8601.
    since: Option<String>,
    /// Default 20.
    limit: Option<usize>,
}

fn history(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<HistoryArguments, Jobs>(
            "task_history",
            "What was run",
            "Jobs newest first, also of earlier sessions.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: HistoryArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let since = match &arguments.since {
                    None => None,
                    Some(text) => Some(text.parse::<Timestamp>().map_err(|error| {
                        Problem::invalid(format!("task_history: argument \"since\": {error}"))
                            .detail("argument", "since")
                            .hint("Write it like 2026-01-31T08:00:00Z.")
                    })?),
                };
                let filter = Filter {
                    server: arguments.alias,
                    tool: arguments.tool,
                    status: arguments.status,
                    since,
                    limit: arguments.limit.unwrap_or(20).clamp(1, 200),
                };
                let jobs = core.jobs.list(&filter).await?;
                Ok(list_reply(&jobs, "No job matches."))
            }
        },
    )
}

#[derive(Deserialize, JsonSchema)]
struct RetryArguments {
    /// The job.
    id: String,
}

#[derive(Serialize, JsonSchema)]
struct RetryResult {
    retried_from: String,
    /// The new job's structured result.
    result: Map<String, Value>,
}

fn retry(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<RetryArguments, RetryResult>(
            "task_retry",
            "Run a failed job again",
            "Repeats a job that failed, crashed, timed out or was cancelled; at most 3 times. Look first whether it had \
             an effect.",
            Execution::Direct,
            Annotations::ACTS,
        ),
        move |arguments: RetryArguments, call| {
            let core = Arc::clone(&core);
            async move { retry_job(&core, &arguments.id, call).await }
        },
    )
}

async fn retry_job(core: &Core, id: &str, call: Call) -> Result<Reply, Problem> {
    let id = parse_id(id)?;
    let new = core.jobs.retry(id).await?;
    let request = Request {
        caller: call.caller.clone(),
        cancel: call.cancel.clone(),
        progress: call.progress.clone(),
        entering: None,
        crowded: false,
        follows_tasks: false,
    };
    let reply = core.registry()?.retry(new, request).await?;
    let result = RetryResult { retried_from: id.to_string(), result: reply.structured };
    Ok(Reply::new(format!("Retry of {id}:\n{}", reply.text), &result).error(reply.is_error))
}

#[derive(Deserialize, JsonSchema)]
struct NoArguments {}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StatsResult {
    total: u64,
    by_status: BTreeMap<Status, u64>,
    /// By tool.
    by_type: BTreeMap<String, u64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_duration: Option<u64>,
    /// Percent of the ended jobs that completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    success_rate: Option<f64>,
    /// By tool.
    durations: BTreeMap<String, Durations>,
    by_server: BTreeMap<String, Durations>,
    /// Crashed jobs that can be retried.
    crashed_retryable: Vec<String>,
}

/// How long jobs took, in milliseconds.
#[derive(Serialize, JsonSchema)]
struct Durations {
    count: usize,
    p50: u64,
    p95: u64,
}

fn stats(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<NoArguments, StatsResult>(
            "queue_stats",
            "Queue statistics",
            "Counts by status and tool, success rate, durations, crashed jobs to retry.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |NoArguments {}, _call| {
            let core = Arc::clone(&core);
            async move {
                let stats = core.jobs.stats().await?;
                Ok(Reply::new(stats_text(&stats), &StatsResult::from(stats)))
            }
        },
    )
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

impl From<QueueStats> for StatsResult {
    fn from(stats: QueueStats) -> Self {
        let durations = |found: BTreeMap<String, jobs::Durations>| {
            let figures =
                |found: jobs::Durations| Durations { count: found.count, p50: ms(found.p50), p95: ms(found.p95) };
            found.into_iter().map(|(name, found)| (name, figures(found))).collect()
        };
        StatsResult {
            total: stats.total,
            by_status: stats.by_status,
            by_type: stats.by_type,
            avg_duration: stats.avg_duration.map(ms),
            success_rate: stats.success_rate.map(|rate| (rate * 1000.0).round() / 10.0),
            durations: durations(stats.by_tool),
            by_server: durations(stats.by_server),
            crashed_retryable: stats.retryable_crashed.iter().map(ToString::to_string).collect(),
        }
    }
}

/// How many servers the text tells of; the structure has all.
const SERVERS_SHOWN: usize = 20;

fn stats_text(stats: &QueueStats) -> String {
    if stats.total == 0 {
        return "No job has run yet.".to_owned();
    }
    let by_status: Vec<String> =
        stats.by_status.iter().map(|(status, count)| format!("{count} {}", status.as_str())).collect();
    let mut text = format!("{} jobs: {}", stats.total, by_status.join(", "));
    if let Some(rate) = stats.success_rate {
        text.push_str(&format!("\n{:.1} % of the last {} completed", rate * 100.0, stats.sample));
    }
    let on_servers =
        stats.by_server.iter().map(|(alias, figures)| (format!("on {alias}"), figures)).take(SERVERS_SHOWN);
    for (name, figures) in stats.by_tool.iter().map(|(tool, figures)| (tool.clone(), figures)).chain(on_servers) {
        let (p50, p95) = (human_ms(ms(figures.p50)), human_ms(ms(figures.p95)));
        text.push_str(&format!("\n{name}: {} jobs, p50 {p50}, p95 {p95}", figures.count));
    }
    if !stats.retryable_crashed.is_empty() {
        let ids: Vec<String> = stats.retryable_crashed.iter().take(10).map(ToString::to_string).collect();
        text.push_str(&format!("\ncrashed, and can be retried with task_retry: {}", ids.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_often_carries_a_secret_is_not_shown() {
        assert_eq!(shown("stdin", &json!("hunter2\n"), true), json!("[8 bytes]"));
        assert_eq!(shown("env", &json!({"TOKEN": "hunter2"}), true), json!({"TOKEN": "[not shown]"}));
        assert_eq!(shown("cmd", &json!("id"), false), json!("id"));
        let long = "x".repeat(300);
        assert_eq!(shown("cmd", &json!(long), true), json!(long));
        assert_eq!(shown("cmd", &json!(long), false).as_str().map(|text| text.chars().count()), Some(201));
    }
    #[test]
    fn what_is_long_is_cut_in_lists_too() {
        let long = "x".repeat(300);
        let cut = format!("{}…", "x".repeat(200));
        let steps = json!(["id", long, {"command": long, "timeout": 5}]);
        assert_eq!(shown("commands", &steps, false), json!(["id", cut, {"command": cut, "timeout": 5}]));
        assert_eq!(shown("commands", &steps, true), steps);
    }
}
