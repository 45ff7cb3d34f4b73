//! `task_exec_interactive`: a command in a terminal whose prompts are answered.
//!
//! `dialogue` decides what to type, `mask` keeps secrets out of what is shown; here are the clock and the wire.

mod answer;
mod arguments;
mod dialogue;
mod mask;
mod prompt;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use self::answer::InteractiveResult;
use self::arguments::InteractiveArguments;
use self::dialogue::{Dialogue, Move, Rest, Stuck};
use self::mask::Mask;
use super::reporting::Reporting;
use crate::call::{Call, Reply};
use crate::capability::{OutputSink, Shell, Stream};
use crate::error::Problem;
use crate::jobs::Spool;
use crate::tools::typed::Job;
use crate::tools::{Annotations, Core, Execution, Tool, ToolSpec};

pub const NAME: &str = "task_exec_interactive";

/// How long the output must be silent before a line counts as a prompt: it may still be on its way.
const SETTLED: Duration = Duration::from_millis(100);
/// The same for a line that was ended, which is seldom a prompt.
const SETTLED_BEHIND_LINE: Duration = Duration::from_millis(1500);
/// How long a question may stand there that nobody answers. The program may answer it by itself, or go on without.
const PATIENCE: Duration = Duration::from_secs(5);
/// Answers on their way to the terminal.
const KEYS: usize = 4;

pub fn tool(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Job::tool(
        ToolSpec::core::<InteractiveArguments, InteractiveResult>(
            NAME,
            "Run a command that asks",
            "Runs a command in a terminal, answers its prompts from responses and returns the transcript: installers, passwd, \
             sudo with a password. A prompt without an answer ends it and is told. Else use task_exec.",
            Execution::Job,
            Annotations::ACTS,
        ),
        move |arguments: InteractiveArguments, call, spool| {
            let core = Arc::clone(&core);
            async move { run(core, arguments, call, spool).await }
        },
    )
}

/// What the command shows and what was answered, shared by the one who listens and the one who types.
/// Plain mutexes: each is held for a look or a copy, never across an await.
struct Talk {
    dialogue: Mutex<Dialogue>,
    mask: Mutex<Mask>,
}

impl Talk {
    fn dialogue(&self) -> MutexGuard<'_, Dialogue> {
        self.dialogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mask(&self) -> MutexGuard<'_, Mask> {
        self.mask.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(core: Arc<Core>, arguments: InteractiveArguments, call: Call, spool: Spool) -> Result<Reply, Problem> {
    let timeout = super::time_limit(arguments.timeout, core.settings.interactive_timeout);
    let answers = arguments.interactive.unwrap_or(true);
    let rules = if answers { arguments.rules(&core.settings).await? } else { Vec::new() };
    let mut mask = Mask::default();
    // What is only hidden because of its prompt joins them when it is typed, so that a short word is not hidden for nothing.
    rules.iter().filter(|rule| rule.hidden).for_each(|rule| mask.hide(&rule.answer));
    let ordered = arguments.responses.as_ref().is_none_or(|responses| responses.ordered);
    let dialogue = Dialogue::new(rules, ordered, answers && arguments.auto_respond.unwrap_or(true));
    let talk = Arc::new(Talk { dialogue: Mutex::new(dialogue), mask: Mutex::new(mask) });

    let (shown, showing) = watch::channel(());
    let reporting = Reporting { spool: spool.clone(), progress: call.progress.clone(), started: Instant::now() };
    let mut sink = Listening { talk: Arc::clone(&talk), reporting, shown };
    let (keys, typed) = mpsc::channel(KEYS);
    let shell = Shell { cmd: arguments.cmd, timeout, ..Shell::default() };
    // Of our own, so that a prompt that nobody answers can end the command without the caller's token.
    let ours = Call { cancel: call.cancel.child_token(), ..call.clone() };
    let (result, stuck) = {
        let running = core.servers.terminal(&ours, &arguments.alias, shell, typed, &mut sink);
        tokio::pin!(running);
        tokio::select! {
            biased;
            result = &mut running => (result, None),
            stuck = converse(&talk, showing, keys) => {
                ours.cancel.cancel();
                (running.await, Some(stuck))
            }
        }
    };
    let rest = talk.mask().finish();
    spool.write(Stream::Stdout, &rest).await;
    let stuck = stuck.filter(|_| !call.cancel.is_cancelled());
    answer::answer(arguments.alias, result, stuck, &talk, &spool).await
}

/// Types answers until there is a prompt that nobody answers.
async fn converse(talk: &Talk, mut showing: watch::Receiver<()>, keys: mpsc::Sender<Zeroizing<Vec<u8>>>) -> Stuck {
    loop {
        if showing.changed().await.is_err() {
            // The command has ended.
            return std::future::pending().await;
        }
        loop {
            let rest = talk.dialogue().rest();
            let settled = if rest == Rest::InLine { SETTLED } else { SETTLED_BEHIND_LINE };
            if !is_silent(&mut showing, settled).await {
                continue;
            }
            let next = talk.dialogue().next();
            match next {
                Move::Wait => break,
                Move::Stuck(stuck) => {
                    if is_silent(&mut showing, PATIENCE).await {
                        return stuck;
                    }
                }
                Move::Type { answer, hidden } => {
                    if hidden {
                        talk.mask().hide(&answer);
                    }
                    // The return key, as a terminal sends it; line ends within the answer, too.
                    let line = answer.expose().replace("\r\n", "\r").replace('\n', "\r");
                    let mut bytes = Zeroizing::new(line.into_bytes());
                    bytes.push(b'\r');
                    if keys.send(bytes).await.is_err() {
                        return std::future::pending().await;
                    }
                    break;
                }
            }
        }
    }
}

/// Whether nothing more is shown for a while.
async fn is_silent(showing: &mut watch::Receiver<()>, time: Duration) -> bool {
    match tokio::time::timeout(time, showing.changed()).await {
        Ok(Ok(())) => false,
        // The command has ended: nothing more will be shown, and nobody reads what is typed.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => true,
    }
}

/// Passes on what the terminal shows: to the dialogue as it is, to everybody else without secrets.
struct Listening {
    talk: Arc<Talk>,
    reporting: Reporting,
    shown: watch::Sender<()>,
}

impl OutputSink for Listening {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        self.talk.dialogue().show(bytes);
        let shown = self.talk.mask().push(bytes);
        self.shown.send_replace(());
        self.reporting.write(stream, &shown).await
    }
}
