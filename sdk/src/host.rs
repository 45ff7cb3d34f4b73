//! What a tool can reach: servers, commands on them, HTTP, settings, progress, the log, what it keeps between calls.
//!
//! Tool code takes a `&dyn Host`. On wasm32 that is the contract's imports, in a unit test it is [`Mock`](crate::mock::Mock).

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Command, Finished, HttpRequest, HttpResponse, Problem, Process};

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

    /// Starts a command and returns when it was sent. It ends with the process or with the call, whichever is first.
    fn spawn(&self, server: &str, command: Command) -> Result<Process, Problem>;

    /// Sends an HTTP request and waits for the answer, of whatever status.
    fn http_send(&self, request: HttpRequest) -> Result<HttpResponse, Problem>;

    /// Sends up to 32 requests at the same time. The answers have the requests' order.
    fn http_send_all(&self, requests: Vec<HttpRequest>) -> Vec<Result<HttpResponse, Problem>>;

    /// The value of a key of the plugin's own, if it has one.
    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Problem>;

    /// Sets a value of the plugin's own: at most 64 KiB, 1000 keys and 1 MiB in all.
    fn kv_set(&self, key: &str, value: &[u8]) -> Result<(), Problem>;

    /// Removes a key; whether it was there.
    fn kv_delete(&self, key: &str) -> Result<bool, Problem>;

    /// The keys that begin with `prefix`, sorted.
    fn kv_list(&self, prefix: &str) -> Result<Vec<String>, Problem>;

    /// Hands a secret over to the host, which seals it and never gives it back.
    fn secret_put(&self, name: &str, value: &str) -> Result<(), Problem>;

    /// Removes a secret; whether it was there.
    fn secret_delete(&self, name: &str) -> Result<bool, Problem>;

    /// Whether there is a secret of this name.
    fn secret_exists(&self, name: &str) -> Result<bool, Problem>;

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

    /// The JSON value of a key, if it has one. What is not as `T` wants it is `PLUGIN_FAILED`.
    pub fn kv_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Problem> {
        let Some(bytes) = self.kv_get(key)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| Problem::failed(format!("the stored value of {key:?} does not read: {error}")))
    }

    /// Sets a value as JSON.
    pub fn kv_set_json(&self, key: &str, value: &impl Serialize) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Problem::failed(format!("the value for {key:?} cannot be written as JSON: {error}")))?;
        self.kv_set(key, &bytes)
    }

    /// The operator's settings for this plugin. Members that `T` does not know are ignored unless it denies them.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_value(self.settings_json()).map_err(|error| {
            Problem::invalid(format!("the plugin's settings in orchestrator.toml are not as they should be: {error}"))
        })
    }
}
