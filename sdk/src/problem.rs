//! Why a tool did not do what it was asked for.

use std::fmt;

use serde_json::{Map, Value};

/// An error as the caller of a tool sees it. It must never hold a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// A stable code; the contract lists those of the host.
    pub code: String,
    /// What happened, on which subject, and which argument or setting to change.
    pub message: String,
    /// What to do next, if the message does not already say it.
    pub hint: Option<String>,
    /// The facts for a program.
    pub details: Map<String, Value>,
    /// The same call may succeed later without any change, and had no effect so far.
    pub retryable: bool,
}

impl Problem {
    /// A problem with a code of its own. Codes that the contract does not list reach the caller as `PLUGIN_FAILED`, with
    /// this one in the details.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { code: code.into(), message: message.into(), hint: None, details: Map::new(), retryable: false }
    }

    /// `INVALID_ARGUMENT`: the message names the argument and says what is accepted.
    pub fn invalid(message: impl Into<String>) -> Self {
        Problem::new("INVALID_ARGUMENT", message)
    }

    /// `PLUGIN_FAILED`: the plugin could not do its work; the message says at which step.
    pub fn failed(message: impl Into<String>) -> Self {
        Problem::new("PLUGIN_FAILED", message)
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds one fact.
    pub fn detail(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.details.insert(key.into(), value.into());
        self
    }

    /// Says that the same call may succeed later without any change, and had no effect so far.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Problem {}
