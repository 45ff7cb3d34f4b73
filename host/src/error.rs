//! The error vocabulary that a caller of a tool sees: one stable code, a message, the facts, what to do next.
//!
//! Each layer has its own error enum that knows its own steps; it becomes a [`Problem`] only where it leaves the layer for
//! the caller. What belongs into a log and not into an answer stays in the layer's error.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The stable codes of the tool contract. Programs branch on them, so a code is never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    ConnectionFailed,
    AuthFailed,
    HostKeyUnknown,
    HostKeyChanged,
    CommandTimeout,
    TransferFailed,
    QueueFull,
    RetryLimitExceeded,
    ServerNotFound,
    TaskNotFound,
    InvalidArgument,
    PolicyDenied,
    PluginFailed,
    PluginTimeout,
    NotGranted,
    Cancelled,
    Internal,
}

impl Code {
    /// Every code, in the order of the contract.
    pub const ALL: [Code; 17] = [
        Code::ConnectionFailed,
        Code::AuthFailed,
        Code::HostKeyUnknown,
        Code::HostKeyChanged,
        Code::CommandTimeout,
        Code::TransferFailed,
        Code::QueueFull,
        Code::RetryLimitExceeded,
        Code::ServerNotFound,
        Code::TaskNotFound,
        Code::InvalidArgument,
        Code::PolicyDenied,
        Code::PluginFailed,
        Code::PluginTimeout,
        Code::NotGranted,
        Code::Cancelled,
        Code::Internal,
    ];

    /// The code as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::ConnectionFailed => "CONNECTION_FAILED",
            Code::AuthFailed => "AUTH_FAILED",
            Code::HostKeyUnknown => "HOST_KEY_UNKNOWN",
            Code::HostKeyChanged => "HOST_KEY_CHANGED",
            Code::CommandTimeout => "COMMAND_TIMEOUT",
            Code::TransferFailed => "TRANSFER_FAILED",
            Code::QueueFull => "QUEUE_FULL",
            Code::RetryLimitExceeded => "RETRY_LIMIT_EXCEEDED",
            Code::ServerNotFound => "SERVER_NOT_FOUND",
            Code::TaskNotFound => "TASK_NOT_FOUND",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::PolicyDenied => "POLICY_DENIED",
            Code::PluginFailed => "PLUGIN_FAILED",
            Code::PluginTimeout => "PLUGIN_TIMEOUT",
            Code::NotGranted => "NOT_GRANTED",
            Code::Cancelled => "CANCELLED",
            Code::Internal => "INTERNAL",
        }
    }

    /// The code written as `text`, if it is one of ours.
    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

/// Why a tool did not do what it was asked for, as the caller sees it.
/// It never holds a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    /// What happened, on which subject, and which argument or setting to change.
    pub message: String,
    /// The facts for a program: alias, host, step, reason …
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// The same call may succeed later without any change, and had no effect so far.
    pub retryable: bool,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub timestamp: Timestamp,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Problem {
            code,
            message: message.into(),
            details: Map::new(),
            retryable: false,
            hint: None,
            timestamp: Timestamp::now(),
        }
    }

    /// A wrong argument: `message` names it and says what is accepted.
    pub fn invalid(message: impl Into<String>) -> Self {
        Problem::new(Code::InvalidArgument, message)
    }

    /// A fault of ours. `message` says at which step; the cause goes to the log.
    pub fn internal(message: impl Into<String>) -> Self {
        Problem::new(Code::Internal, message)
    }

    /// Adds one fact.
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whether the same call may succeed later.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// The `structuredContent` of the tool contract.
    pub fn structured(&self) -> Value {
        json!({
            "error": true,
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "retryable": self.retryable,
            "hint": self.hint,
            "timestamp": self.timestamp.to_string(),
        })
    }

    /// A few lines for the model.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}", self.code.as_str(), self.message);
        if let Some(hint) = &self.hint {
            text.push('\n');
            text.push_str(hint);
        }
        text
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_it_is_serialized() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_eq!(Code::parse("connection_failed"), None);
    }
}
