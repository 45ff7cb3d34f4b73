//! One session channel of the embedded server: environment, one command, its streams, its end (RFC 4254, section 6).
//!
//! No terminal and no subsystem: both are refused.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::faults::{Refuse, Stall};
use super::{Shared, Wire};

/// Serves a channel until the client closes it or its command has ended.
pub(super) async fn serve(channel: Channel<Msg>, handle: Handle, shared: Arc<Shared>, wire: Wire) {
    let id = channel.id();
    let (mut requests, writer) = channel.split();
    let mut environment = Vec::new();
    while let Some(message) = requests.wait().await {
        match message {
            ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                environment.push((variable_name, variable_value));
                let _ = handle.channel_success(id).await;
            }
            ChannelMsg::Exec { command, .. } => {
                let line = String::from_utf8_lossy(&command).into_owned();
                shared.saw(|seen| seen.commands.push(line.clone()));
                if shared.faults().stall == Some(Stall::Exec) {
                    std::future::pending::<()>().await;
                }
                if shared.faults().refuse == Some(Refuse::Exec) {
                    let _ = handle.channel_failure(id).await;
                    break;
                }
                let Ok(child) = start(&line, environment) else {
                    let _ = handle.channel_failure(id).await;
                    break;
                };
                let _ = handle.channel_success(id).await;
                Running::new(child).run(requests, writer, &handle, id, &shared, &wire).await;
                break;
            }
            ChannelMsg::RequestPty { .. } | ChannelMsg::RequestShell { .. } | ChannelMsg::RequestSubsystem { .. } => {
                let _ = handle.channel_failure(id).await;
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    let _ = handle.close(id).await;
}

fn start(line: &str, environment: Vec<(String, String)>) -> io::Result<Child> {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(line)
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a signal reaches what the shell has started too.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A command of a channel. Its process group is killed when this is dropped: unlike sshd, which leaves a command without
/// a terminal running, a test's server leaves nothing behind.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Running {
    fn new(child: Child) -> Running {
        let group = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        Running { child, group }
    }

    /// It fails when every process of the group has ended.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    async fn run(
        mut self,
        mut requests: russh::ChannelReadHalf,
        writer: ChannelWriteHalf<Msg>,
        handle: &Handle,
        id: ChannelId,
        shared: &Shared,
        wire: &Wire,
    ) {
        // Unbounded: a command that does not read its input must not keep a signal that comes behind it from arriving.
        // What a test sends is small.
        let (input, pump) = mpsc::unbounded_channel();
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let faults = shared.faults();
        let mut input = Some(input);
        let streams = async {
            tokio::join!(
                copy(stdout, writer.make_writer(), faults.cut_after.map(|limit| Cut { limit, wire, handle })),
                copy(stderr, writer.make_writer_ext(Some(1)), None),
            )
        };
        let feeding = feed(stdin, pump);
        tokio::pin!(streams, feeding);
        let (mut drained, mut fed, mut open) = (false, false, true);
        let status = loop {
            tokio::select! {
                _ = &mut streams, if !drained => drained = true,
                _ = &mut feeding, if !fed => fed = true,
                // As sshd does: the end is told when the process has ended and its output has been sent.
                status = self.child.wait(), if drained => break status,
                message = requests.wait(), if open => match message {
                    Some(ChannelMsg::Data { data }) => {
                        if let Some(input) = &input {
                            let _ = input.send(data.to_vec());
                        }
                    }
                    Some(ChannelMsg::Eof) => input = None,
                    Some(ChannelMsg::Signal { signal }) => {
                        if let Some(signal) = known(&signal) {
                            self.signal(signal);
                        }
                    }
                    Some(ChannelMsg::Close) => return,
                    Some(_) => {}
                    None => {
                        open = false;
                        input = None;
                    }
                },
            }
        };
        let Ok(status) = status else { return };
        if !shared.faults().no_exit_status {
            report(status, handle, id).await;
        }
        let _ = handle.eof(id).await;
    }
}

/// Tells how the command ended. The channel may be gone by now; then nobody wants to know.
async fn report(status: ExitStatus, handle: &Handle, id: ChannelId) {
    if let Some(code) = status.code() {
        let _ = handle.exit_status_request(id, code.unsigned_abs()).await;
    } else if let Some(name) = status.signal().and_then(Signal::from_named_raw).and_then(name) {
        let core = status.core_dumped();
        let _ = handle.exit_signal_request(id, name, core, String::new(), String::new()).await;
    }
}

/// Where and how a connection is cut in the middle of an output.
struct Cut<'a> {
    limit: usize,
    wire: &'a Wire,
    handle: &'a Handle,
}

impl Cut<'_> {
    /// Cuts once the client has got everything sent before: it answers this request in its turn, whatever the answer is.
    async fn now(&self) {
        let _ =
            tokio::time::timeout(Duration::from_secs(2), self.handle.forward_tcpip("127.0.0.1".to_owned(), 0)).await;
        self.wire.cut();
    }
}

/// Copies an output stream to the channel; with `cut`, only so many bytes, and then the connection is cut.
async fn copy(from: Option<impl AsyncRead + Unpin>, mut to: impl tokio::io::AsyncWrite + Unpin, cut: Option<Cut<'_>>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 32 * 1024];
    let mut sent = 0;
    while let Ok(read) = from.read(&mut buffer).await {
        let Some(mut bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        if let Some(cut) = &cut {
            bytes = bytes.get(..cut.limit.saturating_sub(sent)).unwrap_or(bytes);
        }
        sent += bytes.len();
        if to.write_all(bytes).await.is_err() {
            return;
        }
        if let Some(cut) = &cut
            && sent >= cut.limit
        {
            cut.now().await;
            return;
        }
    }
}

/// Writes what the client sends to the command's standard input and closes it at the client's EOF.
async fn feed(stdin: Option<tokio::process::ChildStdin>, mut pump: mpsc::UnboundedReceiver<Vec<u8>>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = pump.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            // The command has closed its input; the rest is thrown away.
            return;
        }
    }
}

fn known(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::HUP => Signal::HUP,
        Sig::INT => Signal::INT,
        Sig::KILL => Signal::KILL,
        Sig::QUIT => Signal::QUIT,
        Sig::TERM => Signal::TERM,
        Sig::USR1 => Signal::USR1,
        _ => return None,
    })
}

fn name(signal: Signal) -> Option<Sig> {
    Some(match signal {
        Signal::ABORT => Sig::ABRT,
        Signal::HUP => Sig::HUP,
        Signal::INT => Sig::INT,
        Signal::KILL => Sig::KILL,
        Signal::PIPE => Sig::PIPE,
        Signal::QUIT => Sig::QUIT,
        Signal::SEGV => Sig::SEGV,
        Signal::TERM => Sig::TERM,
        Signal::USR1 => Sig::USR1,
        _ => return None,
    })
}
