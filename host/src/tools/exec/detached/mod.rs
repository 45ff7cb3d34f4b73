//! `task_exec` with `detach`: a command that runs on its server by itself, and survives the connection and us.
//!
//! Here is when that is wanted and what is refused. How such a job is followed is in `follow`, what is removed afterwards in
//! `clean`, how many of them look at one server at a time in `rounds`.

mod clean;
mod follow;
mod rounds;

use std::sync::Arc;

use super::ExecArguments;
use super::stream::Sharing;
use crate::call::{Call, Reply};
use crate::capability::{DetachedPlace, Launch};
use crate::error::Problem;
use crate::jobs::{AnyJob, Head, Spool};
use crate::tools::Core;

use follow::{Following, Stage};

pub use rounds::Rounds;

/// Whether a call is to run detached: its caller asks for it, or the operator does for this server or command.
pub(super) fn is_wanted(core: &Core, arguments: &ExecArguments) -> Result<bool, Problem> {
    let asked = arguments.detach.unwrap_or(false);
    let endless = Sharing::of(&arguments.cmd, arguments.stream, None).is_some();
    // What never ends is stopped after a while in any case.
    let ruled = if asked || endless { None } else { rule(core, arguments)? };
    if !asked && ruled.is_none() {
        return Ok(false);
    }
    let why = match ruled {
        Some(entry) => {
            format!("{entry:?} under [detach] in orchestrator.toml makes this command a detached one, which")
        }
        None => "task_exec with detach".to_owned(),
    };
    let refused =
        |argument: &str, what: &str| Err(Problem::invalid(format!("{why} {what}")).detail("argument", argument));
    if arguments.server().is_none() {
        return refused("alias", "takes one server: call it once for each, by its alias");
    }
    if arguments.pty.unwrap_or(false) {
        return refused("pty", "has no terminal: leave pty out");
    }
    if endless {
        return refused("cmd", "takes no command that never ends and no stream: it would run for ever");
    }
    launch_of(arguments).check()?;
    Ok(true)
}

/// The operator's entry that covers the call.
fn rule(core: &Core, arguments: &ExecArguments) -> Result<Option<String>, Problem> {
    let config = &core.settings.detach;
    if config.servers.is_empty() && config.commands.is_empty() {
        return Ok(None);
    }
    for alias in core.servers.select(&arguments.alias.texts())? {
        let facts = core.servers.describe(&alias)?;
        if let Some(entry) = config.covers(&facts.alias, &facts.tags, &arguments.cmd) {
            return Ok(Some(entry.to_owned()));
        }
    }
    Ok(None)
}

fn launch_of(arguments: &ExecArguments) -> Launch {
    Launch {
        cmd: arguments.cmd.clone(),
        stdin: arguments.stdin.clone(),
        env: arguments.env.clone().unwrap_or_default().into_iter().collect(),
        workdir: arguments.workdir.clone(),
    }
}

/// Starts a detached command and follows it to its end.
pub(super) async fn run(core: Arc<Core>, arguments: ExecArguments, call: Call, spool: Spool) -> Result<Reply, Problem> {
    // Its place on the server is told by its record, which must be on disk before there is anything there anyway.
    call.recorded.wait().await?;
    let id = call.job.ok_or_else(|| Problem::internal("a detached command without a job"))?;
    let job = core.jobs.get(id).await?;
    let stage = Stage::Start(launch_of(&arguments));
    Following::new(core, job.head(), &arguments, call, spool)?.run(stage).await
}

/// Takes up what an earlier process has left: follows the detached jobs that run, cleans up after those that have ended.
pub fn reattach(core: &Arc<Core>) -> Result<(), Problem> {
    for job in core.jobs.places()? {
        match job {
            AnyJob::Running(job) => {
                let (core, head) = (Arc::clone(core), job.head.clone());
                // Whether its command was started at all is not known before the server has said so.
                let stage = if job.state.launched { Stage::Follow } else { Stage::Claim };
                let jobs = core.jobs.clone();
                jobs.resume(job, move |call, spool| async move {
                    let arguments = read(&head)?;
                    Following::new(core, &head, &arguments, call, spool)?.run(stage).await
                });
            }
            AnyJob::Ended(job) => {
                let Ok(arguments) = read(&job.head) else { continue };
                if let Some(place) = place_of(&job.head, &arguments) {
                    clean::later(core, &AnyJob::Ended(job), alias_of(&arguments), Some(place));
                }
            }
            // It never began.
            AnyJob::Pending(_) => {}
        }
    }
    Ok(())
}

/// The arguments that are kept with a job.
fn read(head: &Head) -> Result<ExecArguments, Problem> {
    serde_json::from_value(serde_json::Value::Object(head.arguments.clone())).map_err(|error| {
        Problem::internal(format!("the arguments of {} cannot be read any more: {error}", head.id))
            .hint("It may still run on its server: look for its files in ~/.cache/mcp-orchestrator/jobs there.")
    })
}

fn place_of(head: &Head, arguments: &ExecArguments) -> Option<DetachedPlace> {
    Some(DetachedPlace { name: head.place()?, sudo: arguments.sudo.unwrap_or(false) })
}

fn alias_of(arguments: &ExecArguments) -> String {
    arguments.alias.texts().concat()
}
