//! What a tool call brings, and what every problem must tell.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The codes of the tool contract.
const CODES: [&str; 17] = [
    "CONNECTION_FAILED",
    "AUTH_FAILED",
    "HOST_KEY_UNKNOWN",
    "HOST_KEY_CHANGED",
    "COMMAND_TIMEOUT",
    "TRANSFER_FAILED",
    "QUEUE_FULL",
    "RETRY_LIMIT_EXCEEDED",
    "SERVER_NOT_FOUND",
    "TASK_NOT_FOUND",
    "INVALID_ARGUMENT",
    "POLICY_DENIED",
    "PLUGIN_FAILED",
    "PLUGIN_TIMEOUT",
    "NOT_GRANTED",
    "CANCELLED",
    "INTERNAL",
];

/// A result of `tools/call`.
#[derive(Clone, Debug)]
pub struct ToolResult {
    pub tool: String,
    pub is_error: bool,
    /// All text blocks, joined.
    pub text: String,
    /// `structuredContent`; null without one.
    pub structured: Value,
}

/// Why a tool did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: String,
    pub message: String,
    pub hint: String,
    pub details: Value,
    pub retryable: bool,
}

impl ToolResult {
    pub fn parse(tool: &str, answer: &Value) -> Result<ToolResult> {
        let blocks = answer["content"].as_array().with_context(|| format!("{tool}: no content in {answer}"))?;
        let text: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        Ok(ToolResult {
            tool: tool.to_owned(),
            is_error: answer["isError"] == true,
            text: text.join("\n"),
            structured: answer.get("structuredContent").cloned().unwrap_or(Value::Null),
        })
    }

    /// The result of a call that must have worked.
    pub fn ok(self) -> Result<ToolResult> {
        ensure!(!self.is_error, "{} failed: {}\n{:#}", self.tool, self.text, self.structured);
        Ok(self)
    }

    /// The problem of a call that must not have worked, with this code.
    /// It must say what to do next.
    pub fn problem(&self, code: &str) -> Result<Problem> {
        if !self.is_error || self.structured["error"] != true {
            bail!("{} should have failed with {code}: {}\n{:#}", self.tool, self.text, self.structured);
        }
        self.check_problem()?;
        let problem = self.read_problem();
        ensure!(problem.code == code, "{} failed with {} instead of {code}: {}", self.tool, problem.code, self.text);
        // The message of a wrong argument names it and says what is accepted; more would be said twice.
        let says_enough = code == "INVALID_ARGUMENT";
        ensure!(says_enough || !problem.hint.is_empty(), "{code} of {} has no hint: {}", self.tool, self.text);
        Ok(problem)
    }

    fn read_problem(&self) -> Problem {
        let text = |key: &str| self.structured[key].as_str().unwrap_or_default().to_owned();
        Problem {
            code: text("code"),
            message: text("message"),
            hint: text("hint"),
            details: self.structured["details"].clone(),
            retryable: self.structured["retryable"] == true,
        }
    }

    /// The error shape of the tool contract.
    pub(crate) fn check_problem(&self) -> Result<()> {
        let problem = self.read_problem();
        let told = &self.structured;
        ensure!(self.is_error, "{} says error without isError: {told:#}", self.tool);
        ensure!(CODES.contains(&problem.code.as_str()), "{} has an unknown code: {told:#}", self.tool);
        ensure!(!problem.message.is_empty(), "{} has a problem without a message: {told:#}", self.tool);
        ensure!(told["details"].is_object(), "{} has a problem without details: {told:#}", self.tool);
        ensure!(told["retryable"].is_boolean(), "{}: retryable is missing: {told:#}", self.tool);
        let time = told["timestamp"].as_str().unwrap_or_default();
        ensure!(time.len() >= 20 && time.ends_with('Z'), "{}: timestamp {time:?} is not UTC: {told:#}", self.tool);
        ensure!(self.text.contains(&problem.code), "{}: the text does not tell the code: {}", self.tool, self.text);
        Ok(())
    }

    /// A field of the structured content that must be a string.
    pub fn str(&self, key: &str) -> &str {
        self.structured[key].as_str().unwrap_or_default()
    }
}

impl Problem {
    /// Fails unless message and hint together name all of `words`.
    pub fn names(&self, words: &[&str]) -> Result<()> {
        let told = format!("{}\n{}", self.message, self.hint);
        for word in words {
            ensure!(told.contains(word), "{} does not name {word:?}: {told}", self.code);
        }
        Ok(())
    }

    /// Fails unless the details say that it happened at this step.
    pub fn at(&self, step: &str) -> Result<()> {
        ensure!(self.details["step"] == step, "{} is not at step {step:?}: {}", self.code, self.details);
        Ok(())
    }
}
