//! A detached job from its start, or from where an earlier process left it, to its end.
//!
//! A server that cannot be reached is no end: it is asked again after a growing pause, and `task_status` tells since when. Only
//! the server's word ends the job, or its caller's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::reporting::Reporting;
use super::super::{ExecArguments, reply_of};
use super::{alias_of, clean, place_of};
use crate::call::{Call, JobId, Reply};
use crate::capability::{DetachedPlace, Exit, Finished, Follow, Launch, StartError, State, Stream};
use crate::error::{Code, Problem};
use crate::jobs::output::KEPT_LIMIT;
use crate::jobs::{Head, Spool};
use crate::tools::Core;

/// How long a start is repeated whose answer was lost. Later it would come as a surprise.
const START_AGAIN: Duration = Duration::from_secs(60);
/// How long a start that was begun on the server may take to show.
const START_SHOWS: Duration = Duration::from_secs(60);
/// How long stopping may take.
const STOP: Duration = Duration::from_secs(30);
/// Seconds between tries to reach a server: the first, the longest, and that for what only a person can change.
const PAUSE: (u64, u64, u64) = (1, 60, 300);
/// Seconds between looks at a command that prints nothing for long.
const QUIET: u64 = 5;

/// What is next.
pub(super) enum Stage {
    Start(Launch),
    /// It may have been started: if not, it shall not be any more.
    Claim,
    Follow,
}

pub(super) struct Following {
    core: Arc<Core>,
    id: JobId,
    alias: String,
    place: DetachedPlace,
    started: Timestamp,
    deadline: Option<tokio::time::Instant>,
    /// The job's own, which its caller can cancel.
    call: Call,
    /// For the questions to the server: a cancelled job has some more of them.
    asking: Call,
    sink: Reporting,
    spool: Spool,
    /// Since when the server cannot be reached, and how often that was tried.
    away: Option<(Timestamp, u32)>,
    /// Rounds in a row in which nothing was printed.
    quiet: u64,
    /// Something may be on the server.
    sent: bool,
}

/// Why a job is not followed any longer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Cancelled,
    TimeUp,
}

impl Following {
    pub(super) fn new(
        core: Arc<Core>,
        head: &Head,
        arguments: &ExecArguments,
        call: Call,
        spool: Spool,
    ) -> Result<Following, Problem> {
        let place = place_of(head, arguments).ok_or_else(|| Problem::internal("a detached job without a place"))?;
        // Without one it takes as long as it takes: that is what it was detached for.
        let limit = arguments.timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let ran = Timestamp::now().duration_since(head.created);
        let left = limit.map(|limit| limit.saturating_sub(Duration::try_from(ran).unwrap_or_default()));
        let asking = Call { cancel: tokio_util::sync::CancellationToken::new(), ..call.clone() };
        let sink = Reporting { spool: spool.clone(), progress: call.progress.clone(), started: Instant::now() };
        Ok(Following {
            core,
            id: head.id,
            alias: alias_of(arguments),
            place,
            started: head.created,
            deadline: left.map(|left| tokio::time::Instant::now() + left),
            call,
            asking,
            sink,
            spool,
            away: None,
            quiet: 0,
            sent: true,
        })
    }

    /// Follows the job, and sees to it that nothing stays on the server.
    pub(super) async fn run(mut self, stage: Stage) -> Result<Reply, Problem> {
        let reply = self.follow(stage).await;
        let job = self.core.jobs.get(self.id).await?;
        clean::later(&self.core, &job, self.alias, self.sent.then_some(self.place));
        reply
    }

    async fn follow(&mut self, mut stage: Stage) -> Result<Reply, Problem> {
        let (mut unclear, mut waiting) = (None, None);
        loop {
            let (call, deadline) = (self.call.clone(), self.deadline);
            let state = tokio::select! {
                biased;
                given = given_up(&call, deadline) => return self.stop(given).await,
                state = self.ask(&stage) => state,
            };
            let pause = match state {
                Ok(state) => {
                    self.reached();
                    match state {
                        State::Up { how } => {
                            tracing::info!(job = %self.id, server = self.alias, how, "the detached command is up");
                            if let Err(problem) = self.core.jobs.launched(self.id).await {
                                tracing::error!(job = %self.id, %problem, "that a detached command is up was not recorded");
                            }
                            stage = Stage::Follow;
                            0
                        }
                        State::More => self.quiet.saturating_sub(1).min(QUIET),
                        State::Waiting => {
                            if waiting.get_or_insert_with(Instant::now).elapsed() > START_SHOWS {
                                return Err(self.lost("its start was begun on the server and did not go on"));
                            }
                            1
                        }
                        State::Ended(exit) => return self.ended(exit).await,
                        other => return Err(self.gone(&other)),
                    }
                }
                Err(StartError::NotSent(problem)) if unclear.is_none() && matches!(stage, Stage::Start(_)) => {
                    self.sent = false;
                    return Err(problem);
                }
                Err(StartError::Refused(problem)) => return Err(problem),
                Err(error) => {
                    let (StartError::NotSent(problem) | StartError::Unclear(problem) | StartError::Refused(problem)) =
                        error;
                    if problem.code == Code::ServerNotFound {
                        return Err(self.lost(&format!("the server {} is not known here any more", self.alias)));
                    }
                    if matches!(stage, Stage::Start(_))
                        && unclear.get_or_insert_with(Instant::now).elapsed() > START_AGAIN
                    {
                        stage = Stage::Claim;
                    }
                    self.not_reached(&problem)
                }
            };
            let (call, deadline) = (self.call.clone(), self.deadline);
            tokio::select! {
                biased;
                given = given_up(&call, deadline) => return self.stop(given).await,
                () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            }
        }
    }

    async fn ask(&mut self, stage: &Stage) -> Result<State, StartError> {
        let servers = self.core.servers.clone();
        match stage {
            Stage::Start(launch) => servers.detached_start(&self.asking, &self.alias, &self.place, launch).await,
            Stage::Claim => {
                let claim = servers.detached_claim(&self.asking, &self.alias, &self.place).await;
                claim.map_err(StartError::Unclear)
            }
            Stage::Follow => {
                let (turn, life) = self.core.rounds.turn(&self.alias).await;
                let before = self.from();
                let seen = self.round(life).await;
                drop(turn);
                self.quiet = if self.from() == before { self.quiet + 1 } else { 0 };
                seen.map_err(StartError::Unclear)
            }
        }
    }

    /// Bytes of each stream that are here.
    fn from(&self) -> [u64; 2] {
        let counts = self.spool.counts();
        [counts.stdout.total, counts.stderr.total]
    }

    async fn round(&mut self, life: Duration) -> Result<State, Problem> {
        let follow = Follow { from: self.from(), limit: KEPT_LIMIT, life };
        let servers = self.core.servers.clone();
        servers.detached_follow(&self.asking, &self.alias, &self.place, follow, &mut self.sink).await
    }

    fn reached(&mut self) {
        if self.away.take().is_some() {
            self.core.jobs.set_note(self.id, None);
        }
    }

    /// Notes it, and says how many seconds to wait.
    fn not_reached(&mut self, problem: &Problem) -> u64 {
        let (since, tries) = self.away.map_or((Timestamp::now(), 0), |(since, tries)| (since, tries + 1));
        self.away = Some((since, tries));
        let (first, longest, for_people) = PAUSE;
        let passes = !matches!(problem.code, Code::AuthFailed | Code::HostKeyUnknown | Code::HostKeyChanged);
        let pause = if passes { first.saturating_mul(1 << tries.min(10)).min(longest) } else { for_people };
        // Many jobs of one server don't come back all at once.
        let pause = pause + rand::random_range(0..=pause / 4);
        let note = format!(
            "its server cannot be asked since {since:.0} and will be again in {pause} s; the command does not wait for that \
             ({}: {})",
            problem.code.as_str(),
            problem.message
        );
        tracing::warn!(job = %self.id, server = self.alias, %problem, "a detached job's server cannot be asked");
        self.core.jobs.set_note(self.id, Some(note));
        pause
    }

    async fn ended(&self, exit: Exit) -> Result<Reply, Problem> {
        self.count_the_rest(exit.sizes);
        let seconds = u64::try_from(exit.ended.saturating_sub(exit.begun)).unwrap_or(0);
        let finished = Finished {
            exit_code: Some(exit.code),
            exit_signal: None,
            duration: Duration::from_secs(seconds),
            stopped: None,
        };
        let mut reply = reply_of(self.alias.clone(), finished, None, &self.spool, self.place.sudo).await?;
        if let Some(signal) = signal_of(exit.code) {
            // The shell that noted the code tells no more.
            reply.text.insert_str(0, &format!("ended by signal {signal}, or chose to exit like that\n"));
        }
        Ok(reply)
    }

    /// What was printed past the limit was not fetched.
    fn count_the_rest(&self, sizes: [u64; 2]) {
        for ((stream, here), size) in [Stream::Stdout, Stream::Stderr].into_iter().zip(self.from()).zip(sizes) {
            self.spool.skip(stream, size.saturating_sub(here));
        }
    }

    /// The end of a job of which the server knows none.
    fn gone(&self, state: &State) -> Problem {
        match state {
            State::Gone { rebooted: true, sizes, .. } => {
                self.count_the_rest(*sizes);
                self.lost(
                    "the server was started anew meanwhile, which ended the command before it could leave an exit code",
                )
            }
            State::Gone { rebooted: false, sizes, .. } => {
                self.count_the_rest(*sizes);
                self.lost("the command is gone and has left no exit code: it was killed, or the server's disk is full")
            }
            State::Void => {
                let message = format!(
                    "the orchestrator stopped before {} was started on {}, so nothing was done",
                    self.id, self.alias
                );
                self.core.jobs.lost(self.id);
                Problem::new(Code::Internal, message).retryable(true).hint("Run it again with task_retry.")
            }
            _ => self.lost("its files on the server are gone"),
        }
    }

    /// The end of a job whose command's end nobody knows.
    fn lost(&self, why: &str) -> Problem {
        self.core.jobs.lost(self.id);
        Problem::new(Code::Internal, format!("how the detached command of {} ended on {} is not known: {why}", self.id, self.alias))
            .detail("alias", self.alias.as_str())
            .detail("place", self.place.name.as_str())
            .hint("task_output has what it printed. Check the server's state, then run it again with task_retry if that is safe.")
    }

    /// Stops the command, and says what came of that.
    async fn stop(&mut self, given: Given) -> Result<Reply, Problem> {
        let (servers, place) = (self.core.servers.clone(), self.place.clone());
        let stopping = servers.detached_stop(&self.asking, &self.alias, &place);
        let stopped = tokio::time::timeout(STOP, stopping).await;
        let came_of_it = match stopped {
            Ok(Ok(State::Stopped { sent })) => {
                // What it has printed at last, and its exit code if it was given any signal too late.
                let last = self.round(Duration::from_secs(2)).await;
                if let (Ok(State::Ended(exit)), true) = (&last, sent.is_empty()) {
                    return self.ended(*exit).await;
                }
                if let Ok(State::Ended(Exit { sizes, .. }) | State::Gone { sizes, .. }) = last {
                    self.count_the_rest(sizes);
                }
                if sent.is_empty() {
                    "it had ended before".to_owned()
                } else {
                    format!("sent {sent}; the command has ended")
                }
            }
            Ok(Ok(State::Void | State::Absent)) => "it was not started on the server".to_owned(),
            Ok(Ok(State::Alive { sent })) => format!("sent {sent}, but the command still runs; it is tried again"),
            Ok(Ok(_)) => "the server did not say whether the command runs; it is tried again".to_owned(),
            Ok(Err(problem)) => format!("the server could not be told ({}); it is tried again", problem.message),
            Err(_) => format!("the server has not answered within {} s; it is tried again", STOP.as_secs()),
        };
        let (code, why) = match given {
            Given::Cancelled => (Code::Cancelled, "was cancelled".to_owned()),
            Given::TimeUp => {
                let ran = Timestamp::now().duration_since(self.started).as_secs();
                (Code::CommandTimeout, format!("did not end in time ({ran} s)"))
            }
        };
        Err(Problem::new(code, format!("{}: the detached command {why}; {came_of_it}", self.alias))
            .detail("alias", self.alias.as_str())
            .hint("task_output has what it printed."))
    }
}

/// Waits until the job's caller, or its time, has given it up.
async fn given_up(call: &Call, deadline: Option<tokio::time::Instant>) -> Given {
    let time_is_up = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = call.cancel.cancelled() => Given::Cancelled,
        () = time_is_up => Given::TimeUp,
    }
}

/// The signal that a shell tells by this exit code (POSIX, 2.8.2, as every shell does it).
fn signal_of(code: u32) -> Option<&'static str> {
    Some(match code {
        129 => "HUP",
        130 => "INT",
        131 => "QUIT",
        134 => "ABRT",
        137 => "KILL",
        139 => "SEGV",
        141 => "PIPE",
        143 => "TERM",
        _ => return None,
    })
}
