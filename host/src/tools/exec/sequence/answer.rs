//! What came of a sequence, for the caller: the step that went wrong first, then every step.

use std::ops::Range;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::sink::Recorded;
use crate::call::Reply;
use crate::capability::{Finished, Stream};
use crate::error::{Code, Problem};
use crate::jobs::Spool;
use crate::tools::exec::stream::Sharing;
use crate::tools::exec::{INLINE_OUTPUT, render};

/// How the shell ended.
#[derive(Debug)]
pub enum End {
    Ended(Finished),
    /// It was stopped with the step that had used up its own time.
    Late {
        step: usize,
        problem: Problem,
    },
    /// The connection, the time of all or the caller ended it.
    Broken(Problem),
}

/// What `task_exec_sequence` answers.
#[derive(Serialize, JsonSchema)]
pub struct SequenceResult {
    alias: String,
    /// In the order in which they were given.
    steps: Vec<StepResult>,
    /// How many were not run.
    #[schemars(skip)]
    not_run: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StepResult {
    command: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    stdout: String,
    stderr: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    duration_ms: u64,
    /// The shell ended in it, by `exit` or `set -e`.
    #[serde(skip)]
    ended_shell: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Failed,
    /// It never ends by itself, and was stopped once it had its share.
    Stopped,
    TimedOut,
    /// It ran when the whole was broken off.
    Interrupted,
    NotRun,
}

/// The step was ended because somebody asked for it, which is how a late one is ended.
pub fn was_stopped(problem: &Problem) -> bool {
    problem.code == Code::Cancelled
}

pub async fn answer(
    alias: String,
    commands: Vec<&str>,
    sharing: &[Option<Sharing>],
    recorded: Vec<Recorded>,
    end: End,
    spool: &Spool,
) -> Result<Reply, Problem> {
    let output = spool.output();
    let lengths: Vec<u64> = recorded.iter().flat_map(|step| [length(&step.stdout), length(&step.stderr)]).collect();
    let limit = usize::try_from(fair_share(&lengths, INLINE_OUTPUT as u64)).unwrap_or(INLINE_OUTPUT);
    let mut steps = Vec::new();
    for (number, (command, recorded)) in commands.iter().zip(recorded).enumerate() {
        let stdout = output.render_part(Stream::Stdout, recorded.stdout.clone(), limit).await?;
        let stderr = output.render_part(Stream::Stderr, recorded.stderr.clone(), limit).await?;
        let stopped = sharing.get(number).and_then(Option::as_ref).map(|sharing| sharing.note_of_child());
        let mut step = StepResult {
            command: (*command).to_owned(),
            status: Status::NotRun,
            exit_code: None,
            signal: None,
            stopped: None,
            truncated: stdout.omitted + stderr.omitted > 0,
            stdout: stdout.text,
            stderr: stderr.text,
            duration_ms: 0,
            ended_shell: false,
        };
        judge(&mut step, number, &recorded, stopped, &end);
        steps.push(step);
    }
    let before = match steps.first() {
        // What the shell said before the first step tells why there was none.
        Some(first) if first.status == Status::NotRun => {
            let all = output.render(INLINE_OUTPUT).await?;
            Some([all.stdout.text, all.stderr.text].concat())
        }
        _ => None,
    };
    finish(alias, steps, end, before)
}

/// How a step ended, from its own marks or, where the shell ended with it, from the shell's end.
fn judge(step: &mut StepResult, number: usize, recorded: &Recorded, stopped: Option<String>, end: &End) {
    let Some(began) = recorded.began else { return };
    step.duration_ms = millis(recorded.ended.map_or_else(|| began.elapsed(), |ended| ended.after));
    match (recorded.ended, end) {
        (Some(ended), _) if ended.stopped => {
            step.status = Status::Stopped;
            step.stopped = stopped;
        }
        (Some(ended), _) => {
            step.status = if ended.code == 0 { Status::Ok } else { Status::Failed };
            step.exit_code = Some(ended.code);
        }
        (None, End::Ended(finished)) => {
            step.status = if finished.exit_code == Some(0) { Status::Ok } else { Status::Failed };
            step.exit_code = finished.exit_code;
            step.signal = finished.exit_signal.clone();
            step.ended_shell = true;
        }
        (None, End::Late { step: late, .. }) if *late == number => step.status = Status::TimedOut,
        (None, _) => step.status = Status::Interrupted,
    }
}

fn finish(alias: String, steps: Vec<StepResult>, end: End, before: Option<String>) -> Result<Reply, Problem> {
    let total = steps.len();
    let not_run = steps.iter().filter(|step| step.status == Status::NotRun).count();
    let good = |step: &StepResult| matches!(step.status, Status::Ok | Status::Stopped);
    let ok = steps.iter().all(good);
    let mut text = match steps.iter().position(|step| !good(step)) {
        None => format!("all {total} steps ok\n"),
        Some(number) => headline(number, &steps, &end),
    };
    if let Some(before) = before.filter(|text| !text.is_empty()) {
        text.push_str(before.trim_end_matches('\n'));
        text.push('\n');
    }
    for (number, step) in (1..).zip(steps.iter().filter(|step| step.status != Status::NotRun)) {
        text.push_str(&section(number, step));
    }
    if let End::Broken(problem) = end {
        let message = format!("{} ({})", problem.message, text.lines().next().unwrap_or_default());
        let steps = serde_json::to_value(&steps).unwrap_or_default();
        return Err(Problem { message, ..problem }.detail("steps", steps));
    }
    Ok(Reply::new(text, &SequenceResult { alias, steps, not_run }).error(!ok))
}

/// The first bad step, and what became of those behind it.
fn headline(number: usize, steps: &[StepResult], end: &End) -> String {
    let total = steps.len();
    let Some(step) = steps.get(number) else { return String::new() };
    let mut text = match step.status {
        Status::NotRun if number == 0 => format!("no step of {total} was run: the shell ended before"),
        Status::NotRun => format!("step {number} of {total} ended the shell"),
        Status::TimedOut => {
            let sure = match end {
                End::Late { problem, .. } => problem.details.get("end_confirmed") == Some(&true.into()),
                _ => false,
            };
            let sure = if sure { "" } else { " (its end was not confirmed: it may still be running)" };
            format!(
                "step {} of {total} did not end within its timeout and was stopped{sure}, the shell with it",
                number + 1
            )
        }
        Status::Interrupted => format!("step {} of {total} was running", number + 1),
        _ => match (&step.signal, step.exit_code) {
            (Some(signal), _) => format!("step {} of {total} was ended by signal {signal}", number + 1),
            (None, Some(code)) => format!("step {} of {total} failed with exit code {code}", number + 1),
            (None, None) => format!("step {} of {total} ended without an exit code", number + 1),
        },
    };
    let behind: Vec<usize> =
        (1..).zip(steps).filter(|(_, step)| step.status == Status::NotRun).map(|(number, _)| number).collect();
    if step.ended_shell && !behind.is_empty() {
        text.push_str(" and ended the shell");
    }
    if let (Some(first), Some(last)) = (behind.first(), behind.last())
        && (number > 0 || step.status != Status::NotRun)
    {
        text.push_str(&if first == last {
            format!("; step {first} was not run")
        } else {
            format!("; steps {first} to {last} were not run")
        });
    }
    text.push('\n');
    text
}

fn section(number: usize, step: &StepResult) -> String {
    let first = step.command.lines().next().unwrap_or_default();
    let mut command: String = first.chars().take(80).collect();
    if command.len() < step.command.trim_end().len() {
        command.push('…');
    }
    let note = match step.status {
        Status::TimedOut => Some("stopped: its timeout was over"),
        Status::Interrupted => Some("broken off"),
        _ => step.stopped.as_deref(),
    };
    let finished = Finished {
        exit_code: step.exit_code,
        exit_signal: step.signal.clone(),
        duration: Duration::from_millis(step.duration_ms),
        stopped: None,
    };
    let said = render(&finished, note, &step.stdout, &step.stderr);
    format!("== {number}: {command} ==\n{}\n", said.trim_end_matches('\n'))
}

/// How long each part may be so that all of them together stay within `limit`; what the short ones leave goes to the long ones.
fn fair_share(lengths: &[u64], limit: u64) -> u64 {
    let mut sorted: Vec<u64> = lengths.to_vec();
    sorted.sort_unstable();
    let (mut left, mut many) = (limit, sorted.len() as u64);
    for length in sorted {
        let share = left / many.max(1);
        if length > share {
            return share;
        }
        left -= length;
        many -= 1;
    }
    limit
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::exec::sequence::sink::Ended;
    use std::time::Instant;

    fn recorded(code: Option<u32>) -> Recorded {
        let ended = code.map(|code| Ended { code, stopped: false, after: Duration::from_millis(5) });
        Recorded { began: Some(Instant::now()), ended, ..Recorded::default() }
    }

    fn ended(code: u32) -> End {
        End::Ended(Finished { exit_code: Some(code), exit_signal: None, duration: Duration::ZERO, stopped: None })
    }

    fn late(step: usize, confirmed: bool) -> End {
        let problem = Problem::new(Code::Cancelled, "cancelled").detail("end_confirmed", confirmed);
        End::Late { step, problem }
    }

    /// The first line, and whether it is bad news. `None` is a step that never began.
    fn check(steps: &[Option<Option<u32>>], end: End, expected: &str, error: bool) {
        let results = steps.iter().enumerate().map(|(number, step)| {
            let mut result = StepResult {
                command: "x".to_owned(),
                status: Status::NotRun,
                exit_code: None,
                signal: None,
                stopped: None,
                stdout: String::new(),
                stderr: String::new(),
                truncated: false,
                duration_ms: 0,
                ended_shell: false,
            };
            if let Some(code) = step {
                judge(&mut result, number, &recorded(*code), None, &end);
            }
            result
        });
        let results: Vec<StepResult> = results.collect();
        let reply = finish("a".to_owned(), results, end, None).unwrap();
        assert_eq!((reply.text.lines().next().unwrap(), reply.is_error), (expected, error));
    }

    #[test]
    fn the_first_bad_step_is_told_first() {
        let ok = Some(Some(0));
        check(&[ok, ok], ended(0), "all 2 steps ok", false);
        check(&[ok, Some(Some(3)), None], ended(3), "step 2 of 3 failed with exit code 3; step 3 was not run", true);
        check(&[Some(Some(3)), ok], ended(0), "step 1 of 2 failed with exit code 3", true);
        check(
            &[Some(None), None, None],
            ended(4),
            "step 1 of 3 failed with exit code 4 and ended the shell; steps 2 to 3 were not run",
            true,
        );
        check(&[None, None], ended(1), "no step of 2 was run: the shell ended before", true);
        check(
            &[ok, Some(None), None],
            late(1, true),
            "step 2 of 3 did not end within its timeout and was stopped, the shell with it; step 3 was not run",
            true,
        );
        check(
            &[Some(None)],
            late(0, false),
            "step 1 of 1 did not end within its timeout and was stopped (its end was not confirmed: it may still be \
             running), the shell with it",
            true,
        );
    }

    #[test]
    fn an_exit_of_zero_with_steps_left_is_no_success() {
        check(&[Some(None), None], ended(0), "step 1 of 2 ended the shell; step 2 was not run", true);
    }

    #[test]
    fn what_was_broken_off_is_a_problem_with_the_steps_in_it() {
        let problem = Problem::new(Code::CommandTimeout, "timed out");
        let steps = Vec::new();
        let problem = finish("a".to_owned(), steps, End::Broken(problem), None).unwrap_err();
        assert_eq!(problem.code, Code::CommandTimeout);
        assert!(problem.details.contains_key("steps"));
    }

    #[test]
    fn short_parts_leave_their_room_to_long_ones() {
        for (lengths, limit, expected) in [
            (&[][..], 100, 100),
            (&[10, 20], 100, 100),
            (&[10, 200], 100, 90),
            (&[200, 200], 100, 50),
            (&[0, 0, 30, 500, 500], 100, 35),
        ] {
            assert_eq!(fair_share(lengths, limit), expected, "{lengths:?}");
        }
    }
}
