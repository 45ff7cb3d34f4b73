//! Commands that run on a server by themselves: they survive the loss of the connection, our end, and our machine's.
//!
//! What lies on the server for that is in `script`. Here is how it is asked: start once, look, stop, clean up. When to ask is
//! the tool's business.
//!
//! A round of following is one command with a bounded life on one channel of the pool. The other side can't notify over a
//! connection that may be gone, and a new command for each look would cost a round trip and a login shell every second. Bounded,
//! because nothing then stays behind on the server when we go, and no channel is held for days.

mod frames;
mod script;

use std::pin::pin;
use std::time::Duration;

use super::command::{Wire, as_root, check_name};
use super::{OutputSink, Servers, Stream};
use crate::call::Call;
use crate::error::{Code, Problem};
use crate::ssh;

use frames::{Frames, Piece};
use script::Ask;

pub use frames::{Exit, State};
pub use script::Follow;

/// How long a question to the server may take beside what it waits for itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much is kept of what a program says when it fails.
const COMPLAINT: usize = 1024;

/// Where a detached command is on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachedPlace {
    /// Of its directory: letters, digits and dashes.
    pub name: String,
    /// It runs as root, and so does whoever looks after it.
    pub sudo: bool,
}

/// A command that is to run by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    pub cmd: String,
    pub stdin: Option<String>,
    pub env: Vec<(String, String)>,
    pub workdir: Option<String>,
}

impl Launch {
    /// Refuses what cannot be handed to a server.
    pub fn check(&self) -> Result<(), Problem> {
        for (name, _) in &self.env {
            check_name(name)?;
        }
        let texts = self.env.iter().map(|(_, value)| value).chain(&self.stdin).chain(&self.workdir);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(Problem::invalid(
                "a detached command's stdin, env and workdir must not hold a NUL character: no shell can keep it",
            ));
        }
        Ok(())
    }
}

/// Why it is not known whether a command was started, or that it was not.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing reached the server.
    #[error("{0}")]
    NotSent(Problem),
    /// The server refused; nothing runs.
    #[error("{0}")]
    Refused(Problem),
    /// It was sent, and no answer came.
    #[error("{0}")]
    Unclear(Problem),
}

/// What is asked of a server about a place.
struct Question<'a> {
    place: &'a DetachedPlace,
    ask: Ask<'a>,
    /// For the whole of it.
    limit: Duration,
}

/// What a server said.
#[derive(Debug, Default)]
struct Answer {
    state: Option<State>,
    complaint: Vec<u8>,
    /// The program came to an end of its own.
    returned: bool,
}

impl Servers {
    /// Starts the command, or finds that it was started. May be called again for the same place: it runs once.
    pub async fn detached_start(
        &self,
        call: &Call,
        alias: &str,
        place: &DetachedPlace,
        launch: &Launch,
    ) -> Result<State, StartError> {
        let asked = format!("{}detached: {}", if place.sudo { "sudo: " } else { "" }, launch.cmd);
        let (mut nowhere, mut sent) = (Nowhere, false);
        let question = Question { place, ask: Ask::Start(launch), limit: PATIENCE };
        let answer = {
            let ask = pin!(self.ask(call, alias, question, &mut nowhere, &mut sent));
            self.audited(call, Some(alias), "detach", Some(asked), ask, |_| None).await
        };
        match answer {
            Ok(Answer { state: Some(state), .. }) => Ok(state),
            Ok(answer) => {
                let problem = answer.refusal(alias, "start the detached command");
                Err(if answer.returned { StartError::Refused(problem) } else { StartError::Unclear(problem) })
            }
            Err(problem) if sent => Err(StartError::Unclear(problem)),
            Err(problem) => Err(StartError::NotSent(problem)),
        }
    }

    /// Sees to it that the command is not started any more, unless it was: then it is up.
    pub async fn detached_claim(&self, call: &Call, alias: &str, place: &DetachedPlace) -> Result<State, Problem> {
        let question = Question { place, ask: Ask::Claim, limit: PATIENCE };
        let answer = self.ask(call, alias, question, &mut Nowhere, &mut false).await?;
        answer.told(alias, "look for the detached command")
    }

    /// Follows the command for a round. What it has printed since goes to `sink`.
    pub async fn detached_follow<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        place: &DetachedPlace,
        follow: Follow,
        sink: &mut S,
    ) -> Result<State, Problem> {
        let question = Question { place, ask: Ask::Follow(follow), limit: PATIENCE + follow.life };
        let answer = self.ask(call, alias, question, sink, &mut false).await?;
        answer.told(alias, "follow the detached command")
    }

    /// Stops the command and all of its process group: INT, TERM, KILL.
    pub async fn detached_stop(&self, call: &Call, alias: &str, place: &DetachedPlace) -> Result<State, Problem> {
        let question = Question { place, ask: Ask::Stop, limit: PATIENCE };
        let asked = Some(format!("stop the detached command {}", place.name));
        let (mut nowhere, mut sent) = (Nowhere, false);
        let ask = pin!(self.ask(call, alias, question, &mut nowhere, &mut sent));
        let answer = self.audited(call, Some(alias), "detach-stop", asked, ask, |_| None).await?;
        answer.told(alias, "stop the detached command")
    }

    /// Removes what lies on the server.
    pub async fn detached_clean(&self, call: &Call, alias: &str, place: &DetachedPlace) -> Result<(), Problem> {
        let question = Question { place, ask: Ask::Clean, limit: PATIENCE };
        let answer = self.ask(call, alias, question, &mut Nowhere, &mut false).await?;
        answer.told(alias, "remove what the detached command left").map(|_| ())
    }

    /// `sent` tells whether anything has reached the server.
    async fn ask<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        question: Question<'_>,
        sink: &mut S,
        sent: &mut bool,
    ) -> Result<Answer, Problem> {
        let Question { place, ask, limit } = question;
        let password = self.sudo_password(alias, place.sudo).await?;
        let nonce = format!("{:032x}", rand::random::<u128>());
        let stdin = Some(script::program(place, &nonce, ask).into_bytes());
        let words = vec!["-c".to_owned(), "eval \"$(cat)\"".to_owned()];
        let (line, stdin) = if place.sudo {
            as_root(words, stdin, password.as_ref())?
        } else {
            (ssh::command_line("sh", &words, &[], false)?, stdin)
        };
        let wire = Wire {
            line,
            asked: String::new(),
            stdin,
            pty: false,
            timeout: Some(limit),
            quota: None,
            typed: None,
            watched: None,
        };
        let mut reading = Reading { frames: Frames::new(&nonce), answer: Answer::default(), sink };
        let exit = self.act(call, alias, wire, &mut reading, sent).await?;
        // A shell tells of a signal by a code above 128 (POSIX, 2.8.2).
        let returned = exit.code.is_some_and(|code| code < 128);
        Ok(Answer { returned, ..reading.answer })
    }
}

impl Answer {
    fn told(mut self, alias: &str, what: &str) -> Result<State, Problem> {
        self.state.take().ok_or_else(|| self.refusal(alias, what))
    }

    /// The server ran the program, and something in it did not work.
    fn refusal(&self, alias: &str, what: &str) -> Problem {
        let complaint = String::from_utf8_lossy(&self.complaint);
        let complaint = complaint.trim();
        let said = if complaint.is_empty() { "it does not say why" } else { complaint };
        let hint = if complaint.contains("a password is required") {
            "sudo needs a password and none is known: server_add sets it (password)."
        } else {
            "It needs sh, mkdir, cat, mv, tail, head and date, and room in $XDG_STATE_HOME or ~/.cache of the login user."
        };
        Problem::new(Code::ConnectionFailed, format!("{alias} could not {what}: {said}"))
            .detail("alias", alias)
            .detail("step", "run")
            .hint(hint)
    }
}

/// Understands an answer while it comes.
struct Reading<'a, S> {
    frames: Frames,
    answer: Answer,
    sink: &'a mut S,
}

impl<S: OutputSink> OutputSink for Reading<'_, S> {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        if stream == Stream::Stderr {
            let room = COMPLAINT.saturating_sub(self.answer.complaint.len());
            self.answer.complaint.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            return Ok(());
        }
        for piece in self.frames.take(bytes) {
            match piece {
                Piece::Bytes(stream, bytes) => self.sink.write(stream, &bytes).await?,
                Piece::State(state) => self.answer.state = Some(state),
            }
        }
        Ok(())
    }
}

/// For answers without output.
struct Nowhere;

impl OutputSink for Nowhere {
    async fn write(&mut self, _: Stream, _: &[u8]) -> Result<(), Problem> {
        Ok(())
    }
}
