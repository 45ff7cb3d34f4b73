//! `task_exec_sequence`: several commands in one shell, with a result for each.

mod answer;
mod arguments;
mod sink;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::answer::{End, SequenceResult};
use self::arguments::{SequenceArguments, StepArguments};
use self::sink::{Now, Recording};
use super::reporting::Reporting;
use super::stream::Sharing;
use crate::call::{Call, Reply};
use crate::capability::{Marks, Sequence, Step};
use crate::error::Problem;
use crate::jobs::Spool;
use crate::tools::typed::Job;
use crate::tools::{Annotations, Core, Execution, Tool, ToolSpec};

pub const NAME: &str = "task_exec_sequence";

pub fn tool(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Job::tool(
        ToolSpec::core::<SequenceArguments, SequenceResult>(
            NAME,
            "Run commands in order",
            "Runs commands in one shell: cd, export and functions carry over. A result for each; stops at the first failure. \
             For one command use task_exec.",
            Execution::Job,
            Annotations::ACTS,
        ),
        move |arguments: SequenceArguments, call, spool| {
            let core = Arc::clone(&core);
            async move { run(core, arguments, call, spool).await }
        },
    )
}

async fn run(core: Arc<Core>, arguments: SequenceArguments, call: Call, spool: Spool) -> Result<Reply, Problem> {
    let timeout = super::time_limit(arguments.timeout, core.settings.command_timeout);
    let all_go_on = arguments.continue_on_error.unwrap_or(false);
    let sharing: Vec<Option<Sharing>> =
        arguments.commands.iter().map(|step| Sharing::of(step.command(), None, step.timeout())).collect();
    let steps = arguments.commands.iter().zip(&sharing).map(|(step, sharing)| Step {
        cmd: step.command().to_owned(),
        go_on: step.continue_on_error().unwrap_or(all_go_on),
        share: sharing.as_ref().map(|sharing| sharing.quota),
    });
    let marks = Marks::default();
    let sequence =
        Sequence { steps: steps.collect(), marks: marks.clone(), sudo: arguments.sudo.unwrap_or(false), timeout };
    let (now, watching) = watch::channel(None);
    let reporting = Reporting { spool: spool.clone(), progress: call.progress.clone(), started: Instant::now() };
    let mut sink = Recording::new(marks.splitter(), reporting, arguments.commands.len(), now);
    // The shell itself ends what has a share.
    let limits = arguments.commands.iter().zip(&sharing);
    let limits = limits.map(|(step, share)| if share.is_some() { None } else { step.timeout() }).collect();

    // A step past its time is ended with the shell: what it set up there could not be trusted any more.
    let ours = Call { cancel: call.cancel.child_token(), ..call.clone() };
    let (result, late) = {
        let running = core.servers.sequence(&ours, &arguments.alias, sequence, &mut sink);
        tokio::pin!(running);
        tokio::select! {
            biased;
            result = &mut running => (result, None),
            step = first_late(watching, limits) => {
                ours.cancel.cancel();
                (running.await, Some(step))
            }
        }
    };
    sink.finish().await;
    let cancelled = call.cancel.is_cancelled();
    let end = match (result, late) {
        (Ok(finished), _) => End::Ended(finished),
        (Err(problem), Some(step)) if !cancelled && answer::was_stopped(&problem) => End::Late { step, problem },
        (Err(problem), _) => End::Broken(problem),
    };
    let commands = arguments.commands.iter().map(StepArguments::command).collect();
    answer::answer(arguments.alias.clone(), commands, &sharing, sink.into_steps(), end, &spool).await
}

/// Waits until a step has used up its own time, and says which. For ever if none does.
async fn first_late(mut now: watch::Receiver<Option<Now>>, limits: Vec<Option<Duration>>) -> usize {
    loop {
        let current = *now.borrow_and_update();
        let end = current.and_then(|now| Some((now.step, now.since + (*limits.get(now.step)?)?)));
        tokio::select! {
            changed = now.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            step = async {
                match end {
                    Some((step, end)) => {
                        tokio::time::sleep_until(end.into()).await;
                        step
                    }
                    None => std::future::pending().await,
                }
            } => return step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_late_by_its_own_time_only() {
        let start = tokio::time::Instant::now();
        let (now, watching) = watch::channel(None);
        let limits = vec![None, Some(Duration::from_secs(5)), Some(Duration::from_secs(1))];
        let late = tokio::spawn(first_late(watching, limits));
        let begin = |step| now.send_replace(Some(Now { step, since: tokio::time::Instant::now().into_std() }));
        for (step, seconds) in [(0, 100), (1, 4)] {
            begin(step);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        assert!(!late.is_finished());
        begin(2);
        assert_eq!(late.await.unwrap(), 2);
        assert_eq!(start.elapsed().as_secs(), 105);
    }
}
