//! What can go wrong on the wire, by step and subject.

use std::time::Duration;

use crate::error::{Code, Problem};

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Connect,
    Handshake,
    HostKey,
    Login,
    /// Waiting for a free place in the pool.
    Pool,
    Channel,
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
            Step::Login => "login",
            Step::Pool => "pool",
            Step::Channel => "channel",
            Step::Run => "run",
        }
    }
}

/// Why something did not work on a server.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error("placeholder {0:?}")]
    Timeout(Step, Duration),
}

impl From<SshError> for Problem {
    fn from(error: SshError) -> Problem {
        Problem::new(Code::ConnectionFailed, error.to_string())
    }
}
