//! What can go wrong on the wire, by step and subject, and how a caller is told.
//!
//! Not the decisions themselves: those are where the steps are.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::auth::Attempt;
use super::proxy::ProxyError;
use super::question::Question;
use crate::error::{Code, Problem};
use crate::net::errno;

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Connect,
    Handshake,
    HostKey,
    Login,
    /// Waiting for the ssh-agent during the login.
    Agent,
    /// Waiting for a free place in the pool.
    Pool,
    Channel,
    /// Waiting for the server to connect to another place.
    Forward,
    Run,
}

impl Step {
    /// As it stands in an error's `details.step`.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Resolve => "resolve",
            Step::Connect => "connect",
            Step::Handshake => "handshake",
            Step::HostKey => "host_key",
            Step::Login | Step::Agent => "login",
            Step::Pool => "pool",
            Step::Channel => "channel",
            Step::Forward => "forward",
            Step::Run => "run",
        }
    }

    /// As it reads in a sentence behind "timed out while".
    fn doing(self) -> &'static str {
        match self {
            Step::Resolve => "resolving the host name",
            Step::Connect => "connecting",
            Step::Handshake => "agreeing on keys (SSH handshake)",
            Step::HostKey => "verifying the host key",
            Step::Login => "logging in",
            Step::Agent => "waiting for the ssh-agent (a key may have to be touched or confirmed there)",
            Step::Pool => "waiting for a free connection in the pool",
            Step::Channel => "opening a channel",
            Step::Forward => "waiting for the server to connect further",
            Step::Run => "running the command",
        }
    }
}

/// The server that an error is about. Shared, because every error of a connection carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub alias: String,
    /// Empty as long as nobody has asked where the alias leads.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            f.write_str(&self.alias)
        } else if self.host.contains(':') {
            write!(f, "{} ([{}]:{})", self.alias, self.host, self.port)
        } else {
            write!(f, "{} ({}:{})", self.alias, self.host, self.port)
        }
    }
}

/// What was done to stop a command, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// The signals that were sent (RFC 4254, 6.9), in order, without SIG.
    pub sent: Vec<&'static str>,
    /// The server reported the command's end before the channel was closed.
    pub confirmed: bool,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sent.is_empty(), self.confirmed) {
            (true, true) => write!(f, "the command has ended"),
            (true, false) => write!(f, "no signal could be sent; the command may still be running"),
            (false, true) => {
                write!(f, "sent {}; the server confirmed that the command has ended", self.sent.join(", "))
            }
            (false, false) => {
                write!(
                    f,
                    "sent {} and closed the channel, but the server did not confirm the command's end: ",
                    self.sent.join(", ")
                )?;
                write!(f, "it may still be running")
            }
        }
    }
}

/// How the end of a command escaped us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Connection,
    /// The connection is fine.
    Status,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Connection => "the connection was lost while the command ran",
            Loss::Status => "the server closed the command's channel and did not say how the command ended",
        })
    }
}

/// Why something did not work on a server. Cloned to every call that waited for the same connection; never holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SshError {
    /// The target could not be made: unknown alias, secret that does not resolve.
    #[error("{0}")]
    Target(Box<Problem>),
    #[error("{at}: the host name does not resolve: {cause}")]
    Resolve { at: Arc<Endpoint>, cause: Arc<io::Error> },
    #[error("{at}: cannot connect: {cause}")]
    Connect { at: Arc<Endpoint>, cause: Arc<io::Error> },
    /// The jump server let us in but does not reach the server behind it.
    #[error("{at}: {jump} cannot reach it: {cause}")]
    Forward { at: Arc<Endpoint>, jump: String, cause: Arc<russh::Error> },
    #[error("{at}: the SSH handshake failed: {cause}")]
    Handshake { at: Arc<Endpoint>, cause: Arc<russh::Error> },
    #[error("{at}: the proxy {proxy} did not connect: {cause}")]
    Proxy { at: Arc<Endpoint>, proxy: String, cause: Arc<ProxyError> },
    #[error("{at}: the host key is not known: {key_type} {fingerprint}")]
    HostKeyUnknown {
        at: Arc<Endpoint>,
        fingerprint: String,
        key_type: String,
        /// A certificate authority is known for the host, and the server showed a plain key.
        authority_only: bool,
        /// What would make the key known, as a line of known_hosts.
        line: String,
    },
    #[error("{at}: the host key is not the expected one: {} {fingerprint} was offered, expected {}", .key_type, .expected.join(" or "))]
    HostKeyChanged {
        at: Arc<Endpoint>,
        fingerprint: String,
        key_type: String,
        /// Where the expected key stands; `None` for a pinned fingerprint.
        file: Option<(PathBuf, usize)>,
        expected: Vec<String>,
    },
    #[error("{at}: the host key {fingerprint} is marked @revoked in {}:{line}", .file.display())]
    HostKeyRevoked { at: Arc<Endpoint>, fingerprint: String, file: PathBuf, line: usize },
    #[error("{at}: the host certificate, signed by {authority}, does not count: {reason}")]
    HostCertificate { at: Arc<Endpoint>, authority: String, reason: String },
    #[error("{at}: the host key is an RSA key of {bits} bits, which can be broken")]
    HostKeyShort { at: Arc<Endpoint>, bits: u32 },
    #[error("{at}: cannot read or write {}: {cause}", .file.display())]
    KnownHosts { at: Arc<Endpoint>, file: PathBuf, cause: Arc<io::Error> },
    #[error("{at}: login as {user:?} failed: {}{}", describe(.attempts), accepted(.accepts))]
    Login { at: Arc<Endpoint>, user: String, attempts: Vec<Attempt>, accepts: Vec<&'static str> },
    #[error("{at}: the connection was lost while {}: {cause}", .step.doing())]
    Lost { at: Arc<Endpoint>, step: Step, cause: Arc<russh::Error> },
    #[error("{at}: timed out after {:.1} s while {}", .after.as_secs_f64(), .step.doing())]
    Timeout { at: Arc<Endpoint>, step: Step, after: Duration },
    #[error("{at}: cancelled while {}", .step.doing())]
    Cancelled { at: Arc<Endpoint>, step: Step },
    #[error("{at}: the server refuses every session channel: {cause}")]
    ChannelRefused { at: Arc<Endpoint>, cause: Arc<russh::Error> },
    #[error("{at}: the pool is closed")]
    PoolClosed { at: Arc<Endpoint> },
    #[error("{at}: the server refused to {what}")]
    RequestRefused { at: Arc<Endpoint>, what: &'static str },
    #[error("{at}: {loss}; it may still be running")]
    CommandLost { at: Arc<Endpoint>, loss: Loss },
    #[error("{at}: the command did not end within {:.1} s; {stop}", .after.as_secs_f64())]
    CommandTimeout { at: Arc<Endpoint>, after: Duration, stop: Stop },
    #[error("{at}: the command was cancelled; {stop}")]
    CommandCancelled { at: Arc<Endpoint>, stop: Stop },
    /// What reads the command's output gave up.
    #[error("{at}: the command was stopped because its output could not be taken: {}; {stop}", .problem.message)]
    Sink { at: Arc<Endpoint>, problem: Box<Problem>, stop: Stop },
    /// Not tried: it failed too often.
    #[error("{source} (not tried again yet, after {failures} failures in a row)")]
    LeftAlone { at: Arc<Endpoint>, failures: u32, left: Duration, source: Box<SshError> },
    /// It failed so often within one call.
    #[error("{source} (tried {attempts} times)")]
    Tried { attempts: u32, source: Box<SshError> },
    /// A server on the way failed.
    #[error("{at} is reached through {}: {source}", .jump)]
    Jump { at: Arc<Endpoint>, jump: String, source: Box<SshError> },
}

fn describe(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "there is no way to log in".to_owned();
    }
    attempts.iter().map(Attempt::to_string).collect::<Vec<_>>().join("; ")
}

/// The attempt that says best why a login failed.
pub(super) fn reported(attempts: &[Attempt]) -> Option<&Attempt> {
    attempts.iter().find(|attempt| attempt.is_last_word()).or(attempts.first())
}

fn accepted(methods: &[&'static str]) -> String {
    if methods.is_empty() { String::new() } else { format!(" (the server accepts {})", methods.join(", ")) }
}

impl SshError {
    /// The same call may succeed later without any change, and had no effect so far.
    pub fn is_retryable(&self) -> bool {
        match self {
            SshError::Target(problem) => problem.retryable,
            SshError::Resolve { .. }
            | SshError::Connect { .. }
            | SshError::Forward { .. }
            | SshError::Lost { .. }
            | SshError::Timeout { .. }
            | SshError::ChannelRefused { .. } => true,
            SshError::Proxy { cause, .. } => cause.is_retryable(),
            // No agreement on algorithms stays none; a connection that broke on the way may hold the next time.
            SshError::Handshake { cause, .. } => {
                !matches!(**cause, russh::Error::NoCommonAlgo { .. } | russh::Error::Version)
            }
            SshError::Jump { source, .. } | SshError::LeftAlone { source, .. } | SshError::Tried { source, .. } => {
                source.is_retryable()
            }
            SshError::HostKeyUnknown { .. }
            | SshError::HostKeyChanged { .. }
            | SshError::HostKeyRevoked { .. }
            | SshError::HostCertificate { .. }
            | SshError::HostKeyShort { .. }
            | SshError::KnownHosts { .. }
            | SshError::Login { .. }
            | SshError::Cancelled { .. }
            | SshError::PoolClosed { .. }
            | SshError::RequestRefused { .. }
            | SshError::CommandLost { .. }
            | SshError::CommandTimeout { .. }
            | SshError::CommandCancelled { .. }
            | SshError::Sink { .. } => false,
        }
    }

    /// Of a server that did not connect further: whether its sshd forbids that, rather than finding nobody there.
    pub fn forbids_forwarding(&self) -> Option<bool> {
        match self {
            SshError::Forward { cause, .. } => {
                let reason = russh::ChannelOpenFailure::AdministrativelyProhibited;
                Some(matches!(&**cause, russh::Error::ChannelOpenFailure(found) if *found == reason))
            }
            _ => None,
        }
    }

    /// What a person would have to answer, at the server itself or at one on the way to it.
    pub fn question(&self) -> Option<&Arc<Question>> {
        match self {
            SshError::Login { attempts, .. } => attempts.iter().find_map(|attempt| match attempt {
                Attempt::Questions(question) => Some(question),
                _ => None,
            }),
            SshError::Jump { source, .. } | SshError::LeftAlone { source, .. } | SshError::Tried { source, .. } => {
                source.question()
            }
            _ => None,
        }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            SshError::Target(_) | SshError::Resolve { .. } => Step::Resolve,
            SshError::Connect { .. } | SshError::Proxy { .. } | SshError::Forward { .. } => Step::Connect,
            SshError::Handshake { .. } => Step::Handshake,
            SshError::HostKeyUnknown { .. }
            | SshError::HostKeyChanged { .. }
            | SshError::HostKeyRevoked { .. }
            | SshError::HostCertificate { .. }
            | SshError::HostKeyShort { .. }
            | SshError::KnownHosts { .. } => Step::HostKey,
            SshError::Login { .. } => Step::Login,
            SshError::Lost { step, .. } | SshError::Timeout { step, .. } | SshError::Cancelled { step, .. } => *step,
            SshError::PoolClosed { .. } => Step::Pool,
            SshError::ChannelRefused { .. } => Step::Channel,
            SshError::RequestRefused { .. }
            | SshError::CommandLost { .. }
            | SshError::CommandTimeout { .. }
            | SshError::CommandCancelled { .. }
            | SshError::Sink { .. } => Step::Run,
            SshError::Jump { source, .. } | SshError::LeftAlone { source, .. } | SshError::Tried { source, .. } => {
                source.step()
            }
        }
    }

    fn code(&self) -> Code {
        match self {
            SshError::Target(problem) => problem.code,
            SshError::HostKeyUnknown { .. } => Code::HostKeyUnknown,
            SshError::HostKeyChanged { .. } | SshError::HostKeyRevoked { .. } | SshError::HostCertificate { .. } => {
                Code::HostKeyChanged
            }
            SshError::Login { .. } => Code::AuthFailed,
            SshError::CommandTimeout { .. } | SshError::Timeout { step: Step::Pool, .. } => Code::CommandTimeout,
            SshError::Cancelled { .. } | SshError::CommandCancelled { .. } => Code::Cancelled,
            SshError::Sink { problem, .. } => problem.code,
            SshError::Jump { source, .. } | SshError::LeftAlone { source, .. } | SshError::Tried { source, .. } => {
                source.code()
            }
            _ => Code::ConnectionFailed,
        }
    }

    fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            SshError::Target(_) => None,
            SshError::Tried { source, .. } => source.endpoint(),
            SshError::Resolve { at, .. }
            | SshError::Connect { at, .. }
            | SshError::Proxy { at, .. }
            | SshError::Forward { at, .. }
            | SshError::Handshake { at, .. }
            | SshError::HostKeyUnknown { at, .. }
            | SshError::HostKeyChanged { at, .. }
            | SshError::HostKeyRevoked { at, .. }
            | SshError::HostCertificate { at, .. }
            | SshError::HostKeyShort { at, .. }
            | SshError::KnownHosts { at, .. }
            | SshError::Login { at, .. }
            | SshError::Lost { at, .. }
            | SshError::Timeout { at, .. }
            | SshError::Cancelled { at, .. }
            | SshError::ChannelRefused { at, .. }
            | SshError::PoolClosed { at }
            | SshError::RequestRefused { at, .. }
            | SshError::CommandLost { at, .. }
            | SshError::CommandTimeout { at, .. }
            | SshError::CommandCancelled { at, .. }
            | SshError::Sink { at, .. }
            | SshError::LeftAlone { at, .. }
            | SshError::Jump { at, .. } => Some(at),
        }
    }

    /// A short word for programs: an errno's name where there is one.
    fn reason(&self) -> Option<String> {
        match self {
            SshError::Resolve { .. } => Some("ENOTFOUND".to_owned()),
            SshError::Connect { cause, .. } | SshError::KnownHosts { cause, .. } => Some(errno(cause)),
            SshError::Proxy { cause, .. } => Some(cause.reason().to_owned()),
            SshError::Forward { cause, .. }
            | SshError::Handshake { cause, .. }
            | SshError::Lost { cause, .. }
            | SshError::ChannelRefused { cause, .. } => Some(match &**cause {
                russh::Error::IO(cause) => errno(cause),
                russh::Error::KeepaliveTimeout => "KEEPALIVE_TIMEOUT".to_owned(),
                russh::Error::NoCommonAlgo { .. } => "NO_COMMON_ALGORITHM".to_owned(),
                other => other.to_string(),
            }),
            SshError::Timeout { .. } => Some("ETIMEDOUT".to_owned()),
            SshError::HostKeyRevoked { .. } => Some("REVOKED".to_owned()),
            SshError::HostKeyShort { .. } => Some("RSA_TOO_SHORT".to_owned()),
            SshError::Login { attempts, .. } => reported(attempts).map(|attempt| attempt.reason().to_owned()),
            SshError::CommandLost { loss: Loss::Connection, .. } => Some("CONNECTION_LOST".to_owned()),
            SshError::CommandLost { loss: Loss::Status, .. } => Some("NO_EXIT_STATUS".to_owned()),
            SshError::Jump { source, .. } | SshError::LeftAlone { source, .. } | SshError::Tried { source, .. } => {
                source.reason()
            }
            _ => None,
        }
    }

    fn stop(&self) -> Option<&Stop> {
        match self {
            SshError::CommandTimeout { stop, .. }
            | SshError::CommandCancelled { stop, .. }
            | SshError::Sink { stop, .. } => Some(stop),
            _ => None,
        }
    }
}

impl From<SshError> for Problem {
    fn from(error: SshError) -> Problem {
        if let SshError::Target(problem) = error {
            return *problem;
        }
        let mut problem = Problem::new(error.code(), error.to_string()).retryable(error.is_retryable());
        if let Some(at) = error.endpoint() {
            problem = problem.detail("alias", at.alias.as_str());
            if !at.host.is_empty() {
                problem = problem.detail("host", at.host.as_str()).detail("port", at.port);
            }
        }
        problem = problem.detail("step", error.step().as_str());
        if let Some(reason) = error.reason() {
            problem = problem.detail("reason", reason);
        }
        if let Some(stop) = error.stop() {
            problem = problem.detail("signals", stop.sent.clone()).detail("end_confirmed", stop.confirmed);
        }
        let mut inner = &error;
        loop {
            (problem, inner) = match inner {
                SshError::Jump { jump, source, .. } => (problem.detail("jump", jump.as_str()), source),
                SshError::Tried { attempts, source } => (problem.detail("attempts", *attempts), source),
                SshError::LeftAlone { failures, left, source, .. } => {
                    (problem.detail("failures", *failures).detail("retry_after_s", left.as_secs() + 1), source)
                }
                _ => break,
            };
        }
        problem = match inner {
            SshError::HostKeyUnknown { fingerprint, key_type, line, .. } => problem
                .detail("fingerprint", fingerprint.as_str())
                .detail("key_type", key_type.as_str())
                .detail("known_hosts_line", line.as_str()),
            SshError::HostKeyChanged { fingerprint, key_type, file, expected, .. } => {
                let problem = problem
                    .detail("fingerprint", fingerprint.as_str())
                    .detail("key_type", key_type.as_str())
                    .detail("expected", expected.clone());
                match file {
                    Some((file, line)) => problem.detail("file", file.display().to_string()).detail("line", *line),
                    None => problem,
                }
            }
            SshError::HostKeyRevoked { fingerprint, file, line, .. } => problem
                .detail("fingerprint", fingerprint.as_str())
                .detail("file", file.display().to_string())
                .detail("line", *line),
            SshError::HostCertificate { authority, .. } => problem.detail("authority", authority.as_str()),
            SshError::Login { user, attempts, accepts, .. } => problem
                .detail("user", user.as_str())
                .detail("tried", attempts.iter().map(Attempt::to_string).collect::<Vec<_>>())
                .detail("accepts", accepts.clone()),
            _ => problem,
        };
        if let Some(question) = error.question() {
            problem = asked(problem, question);
        }
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// The question that a login came to, under the name by which it can be answered.
fn asked(problem: Problem, question: &Question) -> Problem {
    let prompts: Vec<Value> =
        question.prompts.iter().map(|prompt| json!({"prompt": prompt.text, "echo": prompt.echo})).collect();
    let mut problem = problem.detail("question", question.id.as_str()).detail("questions", prompts);
    for (key, text) in [("question_name", &question.name), ("instruction", &question.instruction)] {
        if !text.trim().is_empty() {
            problem = problem.detail(key, text.as_str());
        }
    }
    problem
}
