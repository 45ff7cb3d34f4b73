//! `task_exec`: a shell command on a server, or on many at once (`many`). Its siblings are `sequence` and `interactive`.

mod stream;
mod endless;
mod words;
mod many;
mod sequence;
mod interactive;
mod detached;
mod reporting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::many::ManyResult;
use self::reporting::Reporting;
use self::stream::{Share, Sharing};
use super::one_or_more::OneOrMore;
use super::typed::decode;
use super::{Annotations, Core, Execution, JobWork, Tool, ToolSpec, Work};
use crate::call::{Call, Reply};
use crate::capability::{Finished, Shell, is_selector};
use crate::error::Problem;
use crate::jobs::Spool;

/// How much of the two streams together is shown inline, in characters.
const INLINE_OUTPUT: usize = 20_000;

pub use detached::{Rounds, reattach};

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![Exec::tool(core), sequence::tool(core), interactive::tool(core)]
}

#[derive(Deserialize, JsonSchema)]
struct ExecArguments {
    /// As in server_list; or a list, "all", "tag:NAME".
    alias: OneOrMore,
    /// For the login shell.
    cmd: String,
    /// Seconds; 0 = no limit. Default 300.
    timeout: Option<u64>,
    /// Standard input.
    stdin: Option<String>,
    /// {NAME: value}; not for secrets.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    env: Option<std::collections::BTreeMap<String, String>>,
    /// Start there.
    workdir: Option<String>,
    /// Through sudo.
    sudo: Option<bool>,
    /// In a terminal.
    pty: Option<bool>,
    /// Seconds until a reminder.
    rappel: Option<u64>,
    /// Runs on by itself if the connection or this program ends.
    detach: Option<bool>,
    /// Stop after {seconds: 10, lines: 100}; always for what never ends, like tail -f.
    stream: Option<Share>,
    /// The same key does not run again.
    #[serde(rename = "idempotencyKey")]
    idempotency_key: Option<String>,
}

/// Without what its values are, which the description makes plain: a model pays for it with every request.
fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

impl ExecArguments {
    fn check(&self) -> Result<(), Problem> {
        if self.alias.texts().is_empty() {
            return Err(Problem::invalid("task_exec: argument \"alias\" is an empty list: name at least one server")
                .detail("argument", "alias"));
        }
        if self.cmd.trim().is_empty() {
            return Err(Problem::invalid("task_exec: argument \"cmd\" is empty").detail("argument", "cmd"));
        }
        if self.cmd.contains('\0') {
            return Err(Problem::invalid("task_exec: argument \"cmd\" holds a NUL character, which no shell can read")
                .detail("argument", "cmd"));
        }
        self.stream.map_or(Ok(()), |share| share.check("task_exec"))
    }

    /// The one server that is meant, where that can be told without looking.
    fn server(&self) -> Option<String> {
        self.alias.single().filter(|alias| !is_selector(alias)).map(str::to_owned)
    }

    fn servers(&self) -> Vec<String> {
        self.alias.texts()
    }
}

/// What `task_exec` answers for one server.
#[derive(Serialize, JsonSchema)]
struct ExecResult {
    alias: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    stdout: String,
    stderr: String,
    #[schemars(skip)]
    stdout_bytes: u64,
    #[schemars(skip)]
    stderr_bytes: u64,
    #[schemars(skip)]
    truncated: bool,
    #[schemars(skip)]
    duration_ms: u64,
    /// Why the command was stopped, though nothing went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

/// Both shapes of an answer as clients are told of them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used: the two halves are written by themselves")]
struct Answer {
    #[schemars(flatten)]
    one: ExecResult,
    #[schemars(flatten)]
    many: ManyResult,
}

/// Not a [`Job`](super::typed::Job) only because the operator has a say in whether it is detached.
struct Exec {
    spec: ToolSpec,
    core: Arc<Core>,
}

impl Exec {
    fn tool(core: &Arc<Core>) -> Box<dyn Tool> {
        let spec = ToolSpec::core::<ExecArguments, Answer>(
            "task_exec",
            "Run a command",
            "Runs a shell command on one or many servers. A long one goes on in the background: task_wait. Each call is a \
             new shell: see task_exec_sequence. For prompts: task_exec_interactive.",
            Execution::Job,
            Annotations::ACTS,
        );
        Box::new(Exec { spec, core: Arc::clone(core) })
    }
}

impl Tool for Exec {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn prepare(&self, recorded: Map<String, Value>) -> Result<Work, Problem> {
        let arguments = decode::<ExecArguments>(&self.spec, recorded.clone())?;
        arguments.check()?;
        let detach = detached::is_wanted(&self.core, &arguments)?;
        let core = Arc::clone(&self.core);
        Ok(Work::Job(JobWork {
            arguments: recorded,
            server: arguments.server(),
            servers: arguments.servers(),
            rappel: arguments.rappel,
            idempotency_key: arguments.idempotency_key.clone(),
            detach,
            withheld: false,
            only_reads: false,
            run: Box::new(move |call, spool| {
                async move {
                    // As it was recorded: the operator's rules may say otherwise when it is its turn.
                    match call.job.is_some_and(|id| core.jobs.is_detached(id)) {
                        true => detached::run(core, arguments, call, spool).await,
                        false => run(core, arguments, call, spool).await,
                    }
                }
                .boxed()
            }),
        }))
    }
}

/// The argument `timeout`: seconds, 0 for none, absent for what is usual.
fn time_limit(seconds: Option<u64>, usual: Option<Duration>) -> Option<Duration> {
    match seconds {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => usual,
    }
}

async fn run(core: Arc<Core>, arguments: ExecArguments, call: Call, spool: Spool) -> Result<Reply, Problem> {
    let timeout = time_limit(arguments.timeout, core.settings.command_timeout);
    let sharing = Sharing::of(&arguments.cmd, arguments.stream, timeout);
    let timeout = sharing.as_ref().map_or(timeout, |sharing| sharing.limit(timeout));
    let shell = Shell {
        cmd: arguments.cmd,
        stdin: arguments.stdin.map(String::into_bytes),
        env: arguments.env.unwrap_or_default().into_iter().collect(),
        workdir: arguments.workdir,
        sudo: arguments.sudo.unwrap_or(false),
        pty: arguments.pty.unwrap_or_else(|| sharing.as_ref().is_some_and(Sharing::needs_terminal)),
        timeout,
        quota: sharing.as_ref().map(|sharing| sharing.quota),
    };
    match arguments.alias {
        OneOrMore::One(alias) if !is_selector(&alias) => one(&core, alias, shell, sharing.as_ref(), call, spool).await,
        targets => many::run(core, &targets.texts(), shell, sharing.as_ref(), call, spool).await,
    }
}

async fn one(
    core: &Core,
    alias: String,
    shell: Shell,
    sharing: Option<&Sharing>,
    call: Call,
    spool: Spool,
) -> Result<Reply, Problem> {
    let mut sink = Reporting { spool: spool.clone(), progress: call.progress.clone(), started: Instant::now() };
    let sudo = shell.sudo;
    let finished = core.servers.shell(&call, &alias, shell, &mut sink).await?;
    reply_of(alias, finished, sharing, &spool, sudo).await
}

/// What is told of a command on one server, whose output is in `spool`.
async fn reply_of(
    alias: String,
    finished: Finished,
    sharing: Option<&Sharing>,
    spool: &Spool,
    sudo: bool,
) -> Result<Reply, Problem> {
    let counts = spool.counts();
    let shown = spool.output().render(INLINE_OUTPUT).await?;
    let ok = is_good(&finished);
    let stopped = note(&finished, sharing);
    let mut text = render(&finished, stopped.as_deref(), &shown.stdout.text, &shown.stderr.text);
    if sudo && !ok && shown.stderr.text.contains("a password is required") {
        text.push_str(&format!(
            "\nsudo needs a password and none is known: server_add, alias {alias:?}, sets it (password), or \
             task_exec_interactive types it at the prompt."
        ));
    }
    let result = ExecResult {
        alias,
        exit_code: finished.exit_code,
        signal: finished.exit_signal,
        truncated: shown.stdout.omitted > 0 || shown.stderr.omitted > 0,
        stdout: shown.stdout.text,
        stderr: shown.stderr.text,
        stdout_bytes: counts.stdout.total,
        stderr_bytes: counts.stderr.total,
        duration_ms: finished.duration.as_millis().try_into().unwrap_or(u64::MAX),
        stopped,
    };
    Ok(Reply::new(text, &result).error(!ok))
}

/// Whether the command did what it was run for. One that was stopped on purpose did, once its end is certain.
fn is_good(finished: &Finished) -> bool {
    finished.stopped.as_ref().map_or(finished.exit_code == Some(0), |stopped| stopped.stop.confirmed)
}

fn note(finished: &Finished, sharing: Option<&Sharing>) -> Option<String> {
    Some(sharing?.note(finished.stopped.as_ref()?))
}

/// A stop or the exit code first where it is not 0, then what was printed; a stream's name only where there are two.
fn render(finished: &Finished, stopped: Option<&str>, stdout: &str, stderr: &str) -> String {
    let mut parts = Vec::new();
    match (&finished.exit_signal, finished.exit_code) {
        _ if stopped.is_some() => parts.extend(stopped.map(str::to_owned)),
        (Some(signal), _) => parts.push(format!("ended by signal {signal}")),
        (None, Some(0)) => {}
        (None, Some(code)) => parts.push(format!("exit code {code}")),
        (None, None) => parts.push("ended without an exit code".to_owned()),
    }
    if !stdout.is_empty() {
        parts.push(stdout.to_owned());
    }
    if !stderr.is_empty() {
        parts.push(format!("stderr:\n{stderr}"));
    }
    if parts.is_empty() {
        parts.push("exit code 0, no output".to_owned());
    }
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: Option<u32>, signal: Option<&str>, stdout: &str, stderr: &str, expected: &str) {
        let signal = signal.map(str::to_owned);
        let duration = Duration::from_millis(5);
        let finished = Finished { exit_code: code, exit_signal: signal, duration, stopped: None };
        assert_eq!(render(&finished, None, stdout, stderr), expected);
    }

    #[test]
    fn bad_news_comes_first() {
        check(Some(0), None, "hi\n", "", "hi\n");
        check(Some(0), None, "", "", "exit code 0, no output");
        check(Some(3), None, "", "", "exit code 3");
        check(Some(3), None, "a", "b", "exit code 3\na\nstderr:\nb");
        check(Some(0), None, "a\n", "b\n", "a\nstderr:\nb\n");
        check(None, Some("KILL"), "a", "", "ended by signal KILL\na");
        check(None, None, "", "", "ended without an exit code");
    }
}
