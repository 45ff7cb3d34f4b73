//! A verb as a client of the daemon: it calls the same tools as an agent does, over the same socket.
//!
//! So a verb works while other clients are connected, and the daemon stays the only process that has the database open.
//! Blocking: a verb does one thing after the other.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::overrides;
use crate::config::Settings;
use crate::daemon;

/// How long a call may take. Connecting to a server through others is tried three times, 20 s each.
const PATIENCE: Duration = Duration::from_secs(120);

/// Answers what the daemon asks a person (`elicitation/create`, URL mode): from the request's parameters to the result.
pub type Person = Box<dyn FnMut(&Value) -> Result<Value>>;

/// A session with the daemon of a data directory.
pub struct Caller {
    stream: BufReader<UnixStream>,
    next: u64,
    person: Option<Person>,
    /// Of the data directory that the session is about.
    pub settings: Settings,
}

/// An error that a tool answered with.
#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub details: Value,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}. {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Caller {
    /// Finds or starts the daemon, and introduces the verb to it.
    pub fn open(data_dir: Option<PathBuf>, verb: &str) -> Result<Caller> {
        Caller::open_for(data_dir, verb, None)
    }

    /// The same for a verb that can ask the person who runs it.
    pub fn open_for(data_dir: Option<PathBuf>, verb: &str, person: Option<Person>) -> Result<Caller> {
        let settings = Settings::load(overrides(data_dir)).context("reading the settings")?;
        let session = daemon::attach(&settings, |sentence| {
            let _ = writeln!(std::io::stderr(), "mcp-orchestrator: {sentence}");
        })?;
        let stream = session.into_stream();
        stream.get_ref().set_read_timeout(Some(PATIENCE)).context("bounding the wait for the daemon")?;
        let capabilities = if person.is_some() { json!({"elicitation": {"url": {}}}) } else { json!({}) };
        let mut caller = Caller { stream, next: 0, person, settings };
        let about = json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": {"name": format!("mcp-orchestrator {verb}"), "version": env!("CARGO_PKG_VERSION")},
        });
        caller.ask("initialize", &about)?;
        caller.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(caller)
    }

    /// Calls a tool. The inner result is the tool's own: its structured answer, or why it refused.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Result<Result<Value, Refusal>> {
        let answer = self.ask("tools/call", &json!({"name": tool, "arguments": arguments}))?;
        let structured = answer.get("structuredContent").cloned().unwrap_or_default();
        if answer.get("isError").and_then(Value::as_bool) != Some(true) {
            return Ok(Ok(structured));
        }
        let text = |name: &str| structured.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Err(Refusal {
            code: text("code").unwrap_or_default(),
            message: text("message").unwrap_or_else(|| format!("{tool} failed without a word")),
            hint: text("hint"),
            details: structured.get("details").cloned().unwrap_or_default(),
        }))
    }

    /// The names in the list `member` that a tool answers with, such as the aliases of all servers.
    pub fn aliases(&mut self, tool: &str, member: &str) -> Result<Vec<String>> {
        let listed = self.call(tool, &json!({}))?.map_err(|refusal| anyhow!("{refusal}"))?;
        let list = listed.get(member).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(list.iter().filter_map(|entry| Some(entry.get("alias")?.as_str()?.to_owned())).collect())
    }

    fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => bail!("the daemon ended while it was asked for {method}; run the verb again"),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("the daemon has not answered {method} within {PATIENCE:?}")
                }
                Err(error) => return Err(error).context("reading the daemon's answer"),
            }
            let message: Value = serde_json::from_str(&line).context("reading the daemon's answer")?;
            if let (Some(asks), Some(theirs)) = (message.get("method"), message.get("id")) {
                self.answer(asks, theirs, message.get("params").unwrap_or(&Value::Null))?;
                continue;
            }
            // Notifications come in between.
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                let said = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                bail!("the daemon refused {method}: {said}");
            }
            return Ok(message.get("result").cloned().unwrap_or_default());
        }
    }

    /// A request of the daemon's.
    fn answer(&mut self, method: &Value, id: &Value, params: &Value) -> Result<()> {
        match &mut self.person {
            Some(person) if method == "elicitation/create" => {
                let result = person(params)?;
                self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
            }
            _ => {
                let error = json!({"code": -32601, "message": "this client answers nothing of the kind"});
                self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
            }
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let mut line = serde_json::to_vec(message).context("writing a request")?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).context("asking the daemon")
    }
}
