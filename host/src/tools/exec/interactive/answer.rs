//! What came of a dialogue, for the caller: the transcript, which prompts were answered, and the one that nobody answered.

use schemars::JsonSchema;
use serde::Serialize;

use super::Talk;
use super::dialogue::{Answered, Stuck, Why};
use crate::call::Reply;
use crate::capability::{Finished, Stream};
use crate::error::{Code, Problem};
use crate::jobs::Spool;
use crate::tools::exec::{INLINE_OUTPUT, is_good, render};

/// How much of the transcript an error carries, in characters.
const IN_AN_ERROR: usize = 4_000;

/// What `task_exec_interactive` answers.
#[derive(Serialize, JsonSchema)]
pub struct InteractiveResult {
    alias: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    /// What the terminal showed, both streams in one.
    transcript: String,
    answered: Vec<AnsweredPrompt>,
    #[schemars(skip)]
    truncated: bool,
    #[schemars(skip)]
    duration_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct AnsweredPrompt {
    prompt: String,
    /// Absent for what must not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

pub async fn answer(
    alias: String,
    result: Result<Finished, Problem>,
    stuck: Option<Stuck>,
    talk: &Talk,
    spool: &Spool,
) -> Result<Reply, Problem> {
    let (answered, open_line) = {
        let dialogue = talk.dialogue();
        (dialogue.answered().to_vec(), dialogue.open_line())
    };
    // A prompt may repeat what was typed before.
    let mask = |text: &str| talk.mask().text(text);
    let answered: Vec<AnsweredPrompt> = answered
        .into_iter()
        .map(|Answered { prompt, answer }| AnsweredPrompt {
            prompt: mask(&prompt),
            answer: answer.map(|text| mask(&text)),
        })
        .collect();
    let problem = match result {
        Ok(finished) => {
            let shown = spool.output().render_stream(Stream::Stdout, INLINE_OUTPUT).await?;
            let ok = is_good(&finished);
            let mut text = render(&finished, None, &shown.text, "");
            text.push_str(&told(&answered, text.ends_with('\n')));
            let result = InteractiveResult {
                alias,
                exit_code: finished.exit_code,
                signal: finished.exit_signal,
                transcript: shown.text,
                answered,
                truncated: shown.omitted > 0,
                duration_ms: finished.duration.as_millis().try_into().unwrap_or(u64::MAX),
            };
            return Ok(Reply::new(text, &result).error(!ok));
        }
        Err(problem) => problem,
    };
    let problem = match stuck {
        Some(Stuck { prompt, why }) => unanswered(&alias, &mask(&prompt), why, problem),
        None => out_of_time(problem, open_line.map(|line| mask(&line))),
    };
    let transcript = spool.output().render_stream(Stream::Stdout, IN_AN_ERROR).await?.text;
    let answered = serde_json::to_value(&answered).unwrap_or_default();
    Err(problem.detail("transcript", transcript).detail("answered", answered))
}

/// The prompts that were answered, on a line each.
fn told(answered: &[AnsweredPrompt], at_line: bool) -> String {
    if answered.is_empty() {
        return String::new();
    }
    let mut text = if at_line { "answered:" } else { "\nanswered:" }.to_owned();
    for AnsweredPrompt { prompt, answer } in answered {
        let answer = answer.as_deref().map_or("[secret]".to_owned(), |answer| format!("{answer:?}"));
        text.push_str(&format!("\n  {prompt} <- {answer}"));
    }
    text
}

/// The command was ended because it asked for what nobody answers.
fn unanswered(alias: &str, prompt: &str, why: Why, ended: Problem) -> Problem {
    let (what, hint) = match why {
        Why::NoAnswer => (
            format!("nobody answers the prompt {prompt:?}"),
            "Add an answer for it to responses; a secret as env:NAME or file:/path. Where it is a shell that asks, give it the \
             command (bash -c …). The program may have done a part of its work."
                .to_owned(),
        ),
        Why::Refused => (
            format!("the answer to {prompt:?} was refused and is not given again"),
            "Check the password; more attempts may lock the account.".to_owned(),
        ),
        Why::Pager => (
            "the output stands in a pager".to_owned(),
            "Append | cat, or an option such as --no-pager.".to_owned(),
        ),
        Why::TooOften => (
            format!("the prompt {prompt:?} comes back for ever"),
            "Give it another answer in responses.".to_owned(),
        ),
    };
    let end = if ended.details.get("end_confirmed") == Some(&true.into()) {
        "the command was stopped"
    } else {
        "the command was stopped, but its end was not confirmed: it may still be running"
    };
    let problem =
        Problem { details: ended.details, ..Problem::new(Code::CommandTimeout, format!("{alias}: {what}; {end}")) };
    problem.detail("step", "prompt").detail("prompt", prompt).hint(hint)
}

/// The command was ended by its time, the caller or the connection; what it showed last may tell what it waited for.
fn out_of_time(problem: Problem, open_line: Option<String>) -> Problem {
    let Some(line) = open_line.filter(|_| problem.code == Code::CommandTimeout) else { return problem };
    let message = format!("{}; the last thing that it showed was {line:?}", problem.message);
    Problem { message, ..problem }
        .detail("prompt", line)
        .hint("If that is a prompt, add an answer for it to responses; else give the command a longer timeout.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancelled(confirmed: bool) -> Problem {
        Problem::new(Code::Cancelled, "cancelled").detail("alias", "web").detail("end_confirmed", confirmed)
    }

    #[test]
    fn a_prompt_without_answer_is_told_by_its_text() {
        let problem = unanswered("web", "Name:", Why::NoAnswer, cancelled(true));
        assert_eq!(problem.code, Code::CommandTimeout);
        assert_eq!(problem.message, "web: nobody answers the prompt \"Name:\"; the command was stopped");
        assert_eq!((&problem.details["prompt"], &problem.details["alias"]), (&"Name:".into(), &"web".into()));
        assert!(unanswered("web", "Name:", Why::Refused, cancelled(false)).message.contains("may still be running"));
    }

    #[test]
    fn only_time_that_is_up_is_blamed_on_the_last_line() {
        let late = Problem::new(Code::CommandTimeout, "web: too late");
        let told = out_of_time(late.clone(), Some("Name:".to_owned()));
        assert_eq!(told.message, "web: too late; the last thing that it showed was \"Name:\"");
        assert_eq!(out_of_time(late.clone(), None), late);
        let lost = Problem::new(Code::ConnectionFailed, "lost");
        assert_eq!(out_of_time(lost.clone(), Some("Name:".to_owned())), lost);
    }

    #[test]
    fn secrets_are_told_as_such() {
        let prompt = |prompt: &str, answer: Option<&str>| AnsweredPrompt {
            prompt: prompt.to_owned(),
            answer: answer.map(str::to_owned),
        };
        let answered = [prompt("Password:", None), prompt("Name:", Some("ada"))];
        assert_eq!(told(&answered, true), "answered:\n  Password: <- [secret]\n  Name: <- \"ada\"");
        assert_eq!(told(&[], false), "");
    }
}
