//! What `task_exec_sequence` is asked for, and what of it is refused.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::NAME;
use crate::error::Problem;
use crate::tools::typed::JobArguments;

/// More would be a script, which task_exec runs as well.
const MOST: usize = 100;

#[derive(Deserialize, JsonSchema)]
pub struct SequenceArguments {
    /// As in server_list.
    pub alias: String,
    /// Each a string or {command, timeout?, continueOnError?}.
    pub commands: Vec<StepArguments>,
    /// Go on after a failure.
    #[serde(rename = "continueOnError")]
    pub continue_on_error: Option<bool>,
    /// Seconds for all. Default 300.
    pub timeout: Option<u64>,
    /// Through sudo.
    pub sudo: Option<bool>,
    /// Seconds until a reminder.
    pub rappel: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or {command, timeout?, continueOnError?}")]
pub enum StepArguments {
    Command(String),
    Step(Detailed),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detailed {
    command: String,
    timeout: Option<u64>,
    #[serde(rename = "continueOnError")]
    continue_on_error: Option<bool>,
}

/// Written as one type with two names instead of a choice: shorter, and read by more clients.
impl JsonSchema for StepArguments {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "object"}]})
    }
}

impl StepArguments {
    pub fn command(&self) -> &str {
        match self {
            StepArguments::Command(command) | StepArguments::Step(Detailed { command, .. }) => command,
        }
    }

    /// How long it may take; without one as long as all of them.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            StepArguments::Step(Detailed { timeout: Some(seconds), .. }) if *seconds > 0 => {
                Some(Duration::from_secs(*seconds))
            }
            _ => None,
        }
    }

    pub fn continue_on_error(&self) -> Option<bool> {
        match self {
            StepArguments::Command(_) => None,
            StepArguments::Step(step) => step.continue_on_error,
        }
    }
}

impl JobArguments for SequenceArguments {
    fn check(&self) -> Result<(), Problem> {
        let wrong = |text: String| Err(Problem::invalid(format!("{NAME}: {text}")).detail("argument", "commands"));
        if self.commands.is_empty() {
            return wrong("argument \"commands\" is an empty list: give at least one command".to_owned());
        }
        if self.commands.len() > MOST {
            return wrong(format!(
                "argument \"commands\" has {} commands, at most {MOST} are taken: put some of them into one",
                self.commands.len()
            ));
        }
        for (number, step) in (0..).zip(&self.commands) {
            if step.command().trim().is_empty() {
                return wrong(format!("argument \"commands[{number}]\" is empty"));
            }
            if step.command().contains('\0') {
                return wrong(format!(
                    "argument \"commands[{number}]\" holds a NUL character, which no shell can read"
                ));
            }
        }
        Ok(())
    }

    fn server(&self) -> Option<String> {
        Some(self.alias.clone())
    }

    fn rappel(&self) -> Option<u64> {
        self.rappel
    }

    fn idempotency_key(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(commands: serde_json::Value, expected: Result<(), &str>) {
        let read = serde_json::from_value::<SequenceArguments>(json!({"alias": "a", "commands": commands.clone()}));
        let result = read
            .map_err(|error| error.to_string())
            .and_then(|arguments| arguments.check().map_err(|problem| problem.message));
        match (&result, expected) {
            (Ok(()), Ok(())) => {}
            (Err(said), Err(expected)) if said.contains(expected) => {}
            other => panic!("{commands}: {other:?}"),
        }
    }

    #[test]
    fn a_step_is_a_string_or_an_object() {
        check(json!(["id", {"command": "id"}, {"command": "id", "timeout": 5, "continueOnError": true}]), Ok(()));
        check(json!([]), Err("empty list"));
        check(json!(["id", " "]), Err("commands[1]\" is empty"));
        check(json!(["id\u{0}"]), Err("commands[0]\" holds a NUL"));
        check(json!([{"cmd": "id"}]), Err("expected a string or {command"));
        check(json!([5]), Err("expected a string or {command"));
        check(json!(vec!["id"; 101]), Err("at most 100"));
    }
}
