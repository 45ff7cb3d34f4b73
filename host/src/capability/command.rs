//! A command as core tools and plugins ask for it, and what comes back.

use std::time::Duration;

use crate::error::Problem;

/// What is run.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A line for the login shell, as it is. Only core tools that were given one by the user may say this.
    Shell(String),
    /// A program and its arguments: quoted here, so that nothing in them can be read as shell syntax.
    Argv(Argv),
}

/// A program and its arguments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Argv {
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Option<Vec<u8>>,
    /// Through `sudo -n`.
    pub sudo: bool,
    pub timeout: Option<Duration>,
}

/// One of a command's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Where a command's output goes while it runs. `write` is awaited before more is read from the server, so that a slow
/// sink slows the server down instead of filling memory.
pub trait OutputSink: Send {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    pub exit_code: Option<u32>,
    /// The signal's name without SIG (RFC 4254, 6.10).
    pub exit_signal: Option<String>,
    /// From the request to the end, without connecting.
    pub duration: Duration,
}

/// A command's whole output, up to a limit, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    pub finished: Finished,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub stdout_truncated: bool,
    pub stderr_truncated: bool,
}
