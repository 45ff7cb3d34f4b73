//! The queue's tools: what runs, what became of a job, waiting for it, its whole output, stopping it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::{JobView, line};
use super::hybrid::PARTIAL_OUTPUT;
use super::typed::Direct;
use super::{Annotations, Core, Execution, Tool, ToolSpec};
use crate::call::{JobId, Reply};
use crate::capability::Stream;
use crate::error::{Code, Problem};
use crate::jobs::output::Page;
use crate::jobs::{AnyJob, Filter, Status};

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![queue(core), status(core), wait(core), output(core), cancel(core)]
}

/// Reads a job's id as a model writes it.
pub fn parse_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|()| {
        let shown: String = text.chars().take(64).collect();
        Problem::new(Code::TaskNotFound, format!("there is no job {shown:?}: ids look like j01abc2def3gh4"))
            .detail("id", shown)
            .hint("task_history lists the jobs that are known.")
    })
}

#[derive(Deserialize, JsonSchema)]
struct QueueArguments {
    /// One state.
    status: Option<Status>,
    /// Only this server.
    alias: Option<String>,
    /// Default 20.
    limit: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
pub struct Jobs {
    pub jobs: Vec<JobView>,
}

fn queue(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<QueueArguments, Jobs>(
            "task_queue",
            "List jobs in the queue",
            "Active and pending jobs first, then recent ones.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: QueueArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let filter = Filter {
                    server: arguments.alias,
                    status: arguments.status,
                    limit: arguments.limit.unwrap_or(20).clamp(1, 200),
                    ..Filter::default()
                };
                let jobs = active_first(core.jobs.active(&filter).await?, core.jobs.list(&filter).await?, &filter);
                Ok(list_reply(&jobs, "The queue is empty."))
            }
        },
    )
}

/// Running jobs, then pending ones, then the newest of the others.
fn active_first(mut jobs: Vec<AnyJob>, listed: Vec<AnyJob>, filter: &Filter) -> Vec<AnyJob> {
    let known: HashSet<JobId> = jobs.iter().map(AnyJob::id).collect();
    jobs.extend(listed.into_iter().filter(|job| !known.contains(&job.id())));
    jobs.truncate(filter.limit);
    jobs
}

/// A list of jobs, a line each.
pub fn list_reply(jobs: &[AnyJob], none: &str) -> Reply {
    let views: Vec<JobView> = jobs.iter().map(|job| JobView::new(job, false)).collect();
    let text = match views.is_empty() {
        true => none.to_owned(),
        false => views.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    Reply::new(text, &Jobs { jobs: views })
}

#[derive(Deserialize, JsonSchema)]
struct IdArguments {
    /// The job.
    id: String,
}

fn status(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<IdArguments, JobView>(
            "task_status",
            "Look at a job",
            "One job in full: status, times, result or error, reminder. Does not wait.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: IdArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let job = core.jobs.get(parse_id(&arguments.id)?).await?;
                Ok(job_reply(&core, &job).await)
            }
        },
    )
}

/// One job: its line, then what it said. What a running one has printed so far is shown too.
async fn job_reply(core: &Core, job: &AnyJob) -> Reply {
    let mut view = JobView::new(job, true);
    let mut text = line(&view);
    if let Some(note) = core.jobs.note(job.id()) {
        text.push_str(&format!("\n  {note}"));
        view.note = Some(note);
    }
    if let Some(said) = view.said() {
        text.push('\n');
        text.push_str(&said);
    }
    if job.status() == Status::Running
        && let Some(partial) = core.jobs.partial_output(job.id(), PARTIAL_OUTPUT).await
    {
        for (name, shown) in [("stdout", &partial.stdout.text), ("stderr", &partial.stderr.text)] {
            if !shown.is_empty() {
                text.push_str(&format!("\n{name} so far:\n{shown}"));
            }
        }
        view.stdout_so_far = Some(partial.stdout.text);
        view.stderr_so_far = Some(partial.stderr.text);
    }
    Reply::new(text, &view)
}

#[derive(Deserialize, JsonSchema)]
struct WaitArguments {
    /// The job.
    id: String,
    /// Seconds at most. Default 30.
    timeout: Option<u64>,
}

fn wait(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<WaitArguments, JobView>(
            "task_wait",
            "Wait for a job",
            "Waits for a job's end, or the timeout, and returns it as task_status does. Call again while it runs.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: WaitArguments, call| {
            let core = Arc::clone(&core);
            async move {
                let id = parse_id(&arguments.id)?;
                let limit = arguments
                    .timeout
                    .map_or(core.settings.sync_timeout, Duration::from_secs)
                    .min(core.settings.max_wait);
                let mut reports = core.jobs.reports(id);
                let waiting = core.jobs.wait(id, limit, &call.cancel);
                tokio::pin!(waiting);
                let job = loop {
                    tokio::select! {
                        biased;
                        job = &mut waiting => break job?,
                        report = super::hybrid::next_report(&mut reports), if reports.is_some() => {
                            if let Some(report) = report { call.progress.report(report) }
                        }
                    }
                };
                let mut reply = job_reply(&core, &job).await;
                if job.is_active() {
                    let note = format!(
                        "Not ended after {} s. Call task_wait again, or task_cancel to stop it.\n",
                        limit.as_secs()
                    );
                    reply.text.insert_str(0, &note);
                }
                Ok(reply)
            }
        },
    )
}

#[derive(Deserialize, JsonSchema)]
struct OutputArguments {
    /// The job.
    id: String,
    /// stdout (default) or stderr.
    stream: Option<StreamName>,
    /// Byte to start at. Default 0.
    offset: Option<u64>,
    /// Bytes at most. Default 20000.
    limit: Option<usize>,
    /// Only the last so many lines.
    tail: Option<usize>,
    /// Only lines that match this regular expression.
    grep: Option<String>,
}

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StreamName {
    Stdout,
    Stderr,
}

#[derive(Serialize, JsonSchema)]
struct OutputResult {
    text: String,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_bytes: Option<u64>,
}

impl From<Page> for OutputResult {
    fn from(page: Page) -> Self {
        OutputResult { text: page.text, offset: page.offset, next_offset: page.next, total_bytes: Some(page.len) }
    }
}

fn output(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<OutputArguments, OutputResult>(
            "task_output",
            "Read a job's output",
            "Pages through a job's full output where a result showed only a part.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: OutputArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let id = parse_id(&arguments.id)?;
                let stream = match arguments.stream {
                    Some(StreamName::Stderr) => Stream::Stderr,
                    _ => Stream::Stdout,
                };
                let limit = arguments.limit.unwrap_or(20_000).clamp(1, 200_000);
                let offset = arguments.offset.unwrap_or(0);
                let output = core.jobs.output(id).await?;
                let result = match (&arguments.grep, arguments.tail) {
                    (Some(pattern), _) => {
                        let found = output.grep(stream, pattern, offset, limit).await?;
                        let lines: Vec<&str> = found.lines.iter().map(|line| line.text.as_str()).collect();
                        OutputResult { text: lines.join("\n"), offset, next_offset: found.next, total_bytes: None }
                    }
                    (None, Some(lines)) => output.tail(stream, lines, limit).await?.into(),
                    (None, None) => output.page(stream, offset, limit).await?.into(),
                };
                let mut text = result.text.clone();
                if text.is_empty() {
                    text.push_str("(nothing)");
                }
                if let Some(next) = result.next_offset {
                    text.push_str(&format!("\n[there is more: go on with offset {next}]"));
                }
                Ok(Reply::new(text, &result))
            }
        },
    )
}

fn cancel(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<IdArguments, JobView>(
            "task_cancel",
            "Stop a job",
            "Stops a pending or running job: INT, TERM, KILL to the remote process; says what was confirmed.",
            Execution::Direct,
            Annotations::REMOVES,
        ),
        move |arguments: IdArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let job = core.jobs.cancel(parse_id(&arguments.id)?).await?;
                Ok(job_reply(&core, &job).await)
            }
        },
    )
}
