//! What a tool can reach: servers, commands on them, settings, progress, the log.
//!
//! Tool code takes a `&dyn Host`. On wasm32 that is the contract's imports, in a unit test it is [`Mock`](crate::mock::Mock).

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Command, Finished, Problem};

/// A server of the inventory, without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub alias: String,
    /// Sorted.
    pub tags: Vec<String>,
    /// The operator's words about it.
    pub description: Option<String>,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The imports of the contract. Each item's full meaning, limits and error codes are in `wit/`.
pub trait Host {
    /// All servers that the plugin was granted, sorted by alias.
    fn servers(&self) -> Vec<Server>;

    /// One server, or `SERVER_NOT_FOUND`, or `NOT_GRANTED`.
    fn server(&self, alias: &str) -> Result<Server, Problem>;

    /// Runs a command and waits for its end. Exiting non-zero is no problem of the call; see [`run`](trait.Host.html#method.run).
    fn exec(&self, server: &str, command: Command) -> Result<Finished, Problem>;

    /// Runs up to 32 commands at the same time: about one round trip. The answers have the commands' order.
    fn exec_all(&self, server: &str, commands: Vec<Command>) -> Vec<Result<Finished, Problem>>;

    /// The operator's settings for this plugin, a JSON object.
    fn settings_json(&self) -> Value;

    /// Tells how far the work is. `done` must not decrease; `total` is in the same unit.
    fn report(&self, done: f64, total: Option<f64>, message: Option<&str>);

    /// Whether nobody wants the result any more.
    fn cancelled(&self) -> bool;

    /// Writes one line into the orchestrator's log. Never a secret.
    fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]);
}

impl dyn Host + '_ {
    /// Runs a command that must exit with 0; otherwise `PLUGIN_FAILED` with the command line and the first line of its
    /// standard error.
    pub fn run(&self, server: &str, command: Command) -> Result<Finished, Problem> {
        let line = command.to_string();
        let finished = self.exec(server, command)?;
        if finished.success() {
            return Ok(finished);
        }
        let message = format!("`{line}` on {server} {}", finished.ending());
        Err(Problem::failed(message).detail("alias", server).detail("exit_code", finished.exit_code))
    }

    /// The operator's settings for this plugin. Members that `T` does not know are ignored unless it denies them.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_value(self.settings_json()).map_err(|error| {
            Problem::invalid(format!("the plugin's settings in orchestrator.toml are not as they should be: {error}"))
        })
    }
}
