//! One command on one channel (RFC 4254, 6.5): run it, feed it, pass on its output, and stop it when its time is up.
//!
//! Not quoting (`quote`) and not where the channel comes from (`pool`).

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::bounds::{Bounds, until};
use super::error::{Endpoint, Loss, SshError, Step, Stop};
use super::lease::Lease;
use super::pool::Next;
use super::quota::{Lines, Quota, Reached, Stopped};
use super::running::Entry;
use super::session::Session;
use super::stop::{self, SIGNALS, Wanted};
use crate::call::Call;
use crate::error::Problem;

/// How long the output may be silent after the command's end while something keeps it open.
const LINGER: Duration = Duration::from_secs(2);

/// One of a command's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Where a command's output goes while it runs. `write` is awaited before more is read from the channel, so that a slow
/// sink slows the server down instead of filling memory. Its future is dropped when the command's time is up.
pub trait OutputSink: Send {
    /// An error stops the command.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// What is run.
#[derive(Debug, Default)]
pub struct Request {
    /// For the login shell, as it is.
    pub line: String,
    /// Written to standard input, which is then closed. Without it standard input is empty.
    pub stdin: Option<Bytes>,
    /// In a terminal, which joins both output streams.
    pub pty: bool,
    /// What is typed while the command runs. Standard input stays open until the other end of this is dropped.
    pub typed: Option<mpsc::Receiver<Zeroizing<Vec<u8>>>>,
    /// Signals that are sent to the command while it runs.
    pub signals: Option<mpsc::Receiver<Signal>>,
    /// Filled by whoever finds out which process of the server the command is. Without it the process has to be guessed where
    /// signals don't arrive.
    pub pid: Arc<OnceLock<u32>>,
    /// The command is stopped once this much of it is there, and that is its end.
    pub quota: Option<Quota>,
}

/// A signal for a command that runs.
#[derive(Debug)]
pub struct Signal {
    /// Without SIG (RFC 4254, 6.10).
    pub name: &'static str,
    /// Told once it has been sent. Dropped if it could not be.
    pub sent: oneshot::Sender<()>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Absent when a signal ended it.
    pub code: Option<u32>,
    /// The signal's name without SIG (RFC 4254, 6.10).
    pub signal: Option<String>,
    /// From the request to the end, without connecting.
    pub duration: Duration,
    /// The command has ended, but something that it left behind held its output open, and was not waited for.
    pub left_open: bool,
    /// The command was stopped because its quota was used up; then there may be neither code nor signal.
    pub stopped: Option<Stopped>,
}

/// Runs a command to its end, within the call's deadline and until it is cancelled.
///
/// When it does not end in time it is sent INT, TERM and KILL, the channel is closed, and the error says what came of that.
/// The channel serves one command: the lease is given back at the end, also when this future is dropped.
///
/// [`SshError::Lost`]: the connection had ended before the request left this machine. Nothing was run, nothing was taken from
/// the request, and the same one may be made on another channel.
pub async fn exec<S: OutputSink>(
    mut lease: Lease,
    request: &mut Request,
    call: &Call,
    sink: &mut S,
) -> Result<Exit, SshError> {
    let bounds = Bounds::of(call);
    let at = lease.endpoint().clone();
    lease.mark_running(true);
    let (session, next) = (lease.session(), lease.next());
    let (Some(session), Some(next), Some((read, write))) = (session, next, lease.halves()) else {
        return Err(SshError::CommandLost { at, loss: Loss::Connection });
    };
    let mut command = Command {
        at,
        session,
        next,
        line: request.line.clone(),
        pid: Arc::clone(&request.pid),
        entry: None,
        read,
        status: Status::default(),
        requests: Vec::new(),
        started: Instant::now(),
    };
    let sent = command.session.sent();
    let result = command.run(write, request, &bounds, sink).await;
    let closed = command.status.closed;
    let ended = command.status.ended();
    let unsent = command.session.sent() == sent && request.typed.is_none();
    if result.is_ok() {
        command.next.open_behind();
    }
    if closed {
        lease.mark_closed();
    }
    lease.mark_running(!ended);
    match result {
        Err(SshError::CommandLost { at, .. }) if unsent => {
            Err(SshError::Lost { at, step: Step::Channel, cause: Arc::new(russh::Error::Disconnect) })
        }
        result => result,
    }
}

/// What the server has said about the command so far.
#[derive(Debug, Default)]
struct Status {
    code: Option<u32>,
    signal: Option<String>,
    closed: bool,
}

impl Status {
    fn ended(&self) -> bool {
        self.code.is_some() || self.signal.is_some()
    }
}

struct Command<'a> {
    at: Arc<Endpoint>,
    session: Arc<Session>,
    next: Next,
    line: String,
    pid: Arc<OnceLock<u32>>,
    /// From when it is sent until its end is known.
    entry: Option<Arc<Entry>>,
    read: &'a mut ChannelReadHalf,
    status: Status,
    /// The requests that the server has not answered yet, in the order of their answers.
    requests: Vec<&'static str>,
    started: Instant,
}

/// Why a command is not waited for any longer.
enum End {
    /// It ran to its end.
    Closed,
    LeftOpen,
    /// Its quota is used up.
    Enough(Reached),
    Timeout,
    Cancelled,
    Refused(&'static str),
    Sink(Box<Problem>),
}

impl Command<'_> {
    async fn run<S: OutputSink>(
        &mut self,
        write: &ChannelWriteHalf<Msg>,
        request: &mut Request,
        bounds: &Bounds,
        sink: &mut S,
    ) -> Result<Exit, SshError> {
        // Sent in one go without waiting for the answers: they come in order, and a round trip is saved for each.
        let at = self.at.clone();
        {
            // Pinned here, like all that is large and awaited within something else: an argument would be held twice.
            let starting = pin!(self.start(write, request));
            bounds.step(&at, Step::Channel, starting).await??;
        }
        let end = {
            let Request { stdin, typed, signals, quota, .. } = request;
            let (session, wanted) = (Arc::clone(&self.session), self.wanted());
            let sending = async {
                tokio::join!(feed(write, stdin.clone(), typed.as_mut()), async {
                    while let Some(Signal { name, sent }) = next(signals).await {
                        if pass_on(write, &session, &wanted, name).await {
                            let _ = sent.send(());
                        }
                    }
                });
            };
            tokio::pin!(sending);
            self.watch(sending, bounds, quota.as_ref(), sink).await
        };
        match end {
            End::Closed | End::LeftOpen if self.status.ended() => Ok(self.exit(matches!(end, End::LeftOpen), None)),
            End::Enough(reached) => {
                let stop = Box::pin(self.stop(write)).await;
                Ok(self.exit(false, Some(Stopped { reached, stop })))
            }
            End::Closed | End::LeftOpen => {
                let loss = if self.status.closed { Loss::Status } else { Loss::Connection };
                Err(SshError::CommandLost { at: self.at.clone(), loss })
            }
            End::Refused(what) => Err(SshError::RequestRefused { at: self.at.clone(), what }),
            End::Timeout => {
                let after = self.started.elapsed();
                let stop = Box::pin(self.stop(write)).await;
                Err(SshError::CommandTimeout { at: self.at.clone(), after, stop })
            }
            End::Cancelled => {
                let stop = Box::pin(self.stop(write)).await;
                Err(SshError::CommandCancelled { at: self.at.clone(), stop })
            }
            End::Sink(problem) => {
                let stop = Box::pin(self.stop(write)).await;
                Err(SshError::Sink { at: self.at.clone(), problem, stop })
            }
        }
    }

    fn exit(&mut self, left_open: bool, stopped: Option<Stopped>) -> Exit {
        let signal = self.status.signal.take();
        Exit { code: self.status.code, signal, duration: self.started.elapsed(), left_open, stopped }
    }

    async fn start(&mut self, write: &ChannelWriteHalf<Msg>, request: &Request) -> Result<(), SshError> {
        // Nothing was run yet when the request does not even leave.
        let lost = |cause| SshError::Lost { at: self.at.clone(), step: Step::Channel, cause: Arc::new(cause) };
        if request.pty {
            write.request_pty(true, "xterm", 200, 50, 0, 0, &[]).await.map_err(lost)?;
            self.requests.push("allocate a terminal");
        }
        let lost = |cause| SshError::Lost { at: self.at.clone(), step: Step::Channel, cause: Arc::new(cause) };
        self.started = Instant::now();
        let running = Arc::clone(&self.session.running);
        let (entry, sent) = running.send(&self.line, write.exec(true, request.line.as_bytes())).await;
        sent.map_err(lost)?;
        self.entry = Some(Arc::new(entry));
        self.requests.push("run the command");
        Ok(())
    }

    /// Passes the output on until the command ends or is not wanted any more, while its input and signals are being sent.
    async fn watch<S: OutputSink>(
        &mut self,
        mut sending: impl Future<Output = ()> + Unpin,
        bounds: &Bounds,
        quota: Option<&Quota>,
        sink: &mut S,
    ) -> End {
        let mut sent = false;
        self.next.open_beside();
        let mut lines = Lines::of(quota);
        let share = quota.map(|quota| self.started + quota.time);
        loop {
            // After the command's end only what is on its way is waited for.
            let linger = self.status.ended().then(|| Instant::now() + LINGER);
            let message = tokio::select! {
                message = self.read.wait() => message,
                () = &mut sending, if !sent => {
                    sent = true;
                    continue;
                }
                () = until(linger) => return End::LeftOpen,
                () = until(share), if linger.is_none() => return End::Enough(Reached::Time),
                () = bounds.cancel.cancelled() => return End::Cancelled,
                () = until(bounds.deadline) => return End::Timeout,
            };
            let (stream, data) = match message {
                Some(ChannelMsg::Data { data }) => (Stream::Stdout, data),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => (Stream::Stderr, data),
                other => match self.note(other) {
                    Some(end) => return end,
                    None => continue,
                },
            };
            let wanted = data.get(..lines.take(&data)).unwrap_or(&data);
            let writing = bounds.step(&self.at, Step::Run, sink.write(stream, wanted));
            tokio::pin!(writing);
            // A command whose output nobody takes can still be signalled.
            let written = loop {
                tokio::select! {
                    written = &mut writing => break written,
                    () = &mut sending, if !sent => sent = true,
                }
            };
            match written {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => return End::Sink(Box::new(problem)),
                Err(SshError::Cancelled { .. }) => return End::Cancelled,
                Err(_) => return End::Timeout,
            }
            if lines.are_used_up() {
                return End::Enough(Reached::Lines);
            }
        }
    }

    /// Keeps what a message says about the command.
    fn note(&mut self, message: Option<ChannelMsg>) -> Option<End> {
        match message {
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.status.code = Some(exit_status);
                self.entry = None;
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.status.signal = Some(signal_name_of(&signal_name));
                self.entry = None;
            }
            Some(ChannelMsg::Success) if !self.requests.is_empty() => {
                self.requests.remove(0);
            }
            Some(ChannelMsg::Failure) => {
                return Some(End::Refused(self.requests.first().copied().unwrap_or("run the command")));
            }
            Some(ChannelMsg::Close) => {
                self.status.closed = true;
                return Some(End::Closed);
            }
            None => return Some(End::Closed),
            Some(_) => {}
        }
        None
    }

    /// Stops the command: one signal after the other, until the server says that it has ended. Its output is read on and
    /// thrown away, since a command that cannot write may not be able to end either.
    async fn stop(&mut self, write: &ChannelWriteHalf<Msg>) -> Stop {
        let mut stop = Stop { sent: Vec::new(), confirmed: self.status.ended() };
        // Where no signal arrives, as far as is known, waiting for one to work comes last.
        let outside_first = self.session.is_root();
        if !stop.confirmed && outside_first {
            self.stop_from_outside(&mut stop).await;
        }
        for (signal, name, patience) in SIGNALS {
            if stop.confirmed || self.status.closed {
                break;
            }
            let attempt = async {
                write.signal(signal).await.map_err(|_| ())?;
                if !stop.sent.contains(&name) {
                    stop.sent.push(name);
                }
                while !self.status.ended() {
                    if let Some(End::Closed) = {
                        let message = self.read.wait().await;
                        self.note(message)
                    } {
                        return Err(());
                    }
                }
                Ok(())
            };
            // Time that is up is the reason for the next signal; a channel that is gone ends the loop.
            if let Ok(Err(())) = timeout(patience, attempt).await {
                break;
            }
            stop.confirmed = self.status.ended();
        }
        stop.confirmed |= self.status.ended();
        if !stop.confirmed && !self.status.closed && !outside_first {
            self.stop_from_outside(&mut stop).await;
        }
        stop
    }

    /// What is known of the command's process on the server.
    fn wanted(&self) -> Wanted {
        let entry = self.entry.as_ref().map(Arc::downgrade).unwrap_or_default();
        Wanted { line: self.line.clone(), pid: Arc::clone(&self.pid), started: self.started, entry }
    }

    /// Meanwhile the output is read on: a channel that nobody reads holds up the whole connection, the second channel too.
    async fn stop_from_outside(&mut self, stop: &mut Stop) {
        let (session, wanted) = (Arc::clone(&self.session), self.wanted());
        let stopping = stop::from_second_channel(&session, &wanted);
        tokio::pin!(stopping);
        let (sent, confirmed) = loop {
            tokio::select! {
                done = &mut stopping => break done,
                message = self.read.wait() => if let Some(End::Closed) = self.note(message) {
                    break stopping.await;
                },
            }
        };
        stop.confirmed = confirmed || self.status.ended();
        if stop.sent.is_empty() {
            stop.sent = sent;
        }
    }
}

fn signal_name_of(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

/// The next signal; none when nobody is left who could ask for one.
async fn next(signals: &mut Option<mpsc::Receiver<Signal>>) -> Option<Signal> {
    signals.as_mut()?.recv().await
}

/// Sends a signal on the way on which it arrives: root's logins get none through the channel from OpenSSH, and a server that
/// does pass it on must not do so twice.
async fn pass_on(write: &ChannelWriteHalf<Msg>, session: &Session, wanted: &Wanted, name: &str) -> bool {
    let from_outside = session.is_root() && stop::signal(session, wanted, name).await;
    from_outside || write.signal(Sig::Custom(name.to_owned())).await.is_ok()
}

/// Writes standard input and closes it. Errors are not told: the reading side sees the same loss, and a command that ends
/// without reading all of its input is no error.
async fn feed(
    write: &ChannelWriteHalf<Msg>,
    stdin: Option<Bytes>,
    typed: Option<&mut mpsc::Receiver<Zeroizing<Vec<u8>>>>,
) {
    if let Some(stdin) = stdin
        && write.data_bytes(stdin).await.is_err()
    {
        return;
    }
    if let Some(typed) = typed {
        while let Some(keys) = typed.recv().await {
            if write.data(&keys[..]).await.is_err() {
                return;
            }
        }
    }
    let _ = write.eof().await;
}
