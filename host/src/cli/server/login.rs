//! `server login ALIAS`: connects to a server, asks at the terminal what it asks during the login, such as a one-time code,
//! and leaves the connection to the daemon and its clients.
//!
//! The daemon asks as it asks any client that can open a page, and the answer goes to that page: from here to there it is on
//! the loopback, and nowhere else.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{known, proved, verification};
use crate::cli::caller::Caller;
use crate::cli::say;
use crate::config::Settings;
use crate::page::{self, Form};

pub fn run(data_dir: Option<PathBuf>, alias: &str) -> Result<ExitCode> {
    let mut caller = Caller::open_for(data_dir, "server login", Some(Box::new(answer)))?;
    known(&mut caller, alias)?;
    let verified = caller.call("server_add", &verification(alias))?.map_err(|refusal| anyhow!("{refusal}"))?;
    say(&format!("{alias}: {}\n{}\n", proved(&verified), kept(&caller.settings)))?;
    Ok(ExitCode::SUCCESS)
}

/// How long the answer was worth.
fn kept(settings: &Settings) -> String {
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    let idle = match settings.min_connections_per_server {
        0 => format!("until nobody has used it for {} (IDLE_TIMEOUT)", seconds(settings.idle_timeout)),
        _ => "as long as the server keeps it".to_owned(),
    };
    let daemon = match settings.daemon_idle {
        Some(time) => format!("{} after its last client and job (MCP_DAEMON_IDLE_S)", seconds(time)),
        None => "when it is stopped".to_owned(),
    };
    format!("The connection is kept for commands {idle}; the daemon ends {daemon}. Transfers ask for themselves.")
}

/// Asks at the terminal what the daemon would have a browser ask, and answers the page in its place.
fn answer(params: &Value) -> Result<Value> {
    let form = params.get("_meta").and_then(|meta| meta.get("mcp-orchestrator/form")).cloned();
    let form: Form = serde_json::from_value(form.unwrap_or_default()).context("reading what the daemon asks")?;
    let url = params.get("url").and_then(Value::as_str).unwrap_or_default();
    for paragraph in &form.about {
        say(&format!("{}\n", paragraph.trim_end()))?;
    }
    let mut texts = Vec::new();
    for field in &form.fields {
        match ask(&field.label, field.hidden)? {
            Some(text) => texts.push(text),
            None => return Ok(json!({"action": "decline"})),
        }
    }
    match page::post(url, &texts) {
        Ok(true) => Ok(json!({"action": "accept"})),
        Ok(false) => bail!("the answer came too late: the server does not ask this any more"),
        Err(error) => Err(error).context("handing the answer to the daemon"),
    }
}

/// One line from standard input. `None`: it has ended.
fn ask(label: &str, hidden: bool) -> Result<Option<Zeroizing<String>>> {
    let is_terminal = io::stdin().is_terminal();
    // Before the prompt, so that nothing that is typed after it is seen.
    let quiet = if hidden && is_terminal { Some(Quiet::begin()?) } else { None };
    say(label)?;
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().lock().read_line(&mut line).context("reading the answer")?;
    if quiet.is_some() || !is_terminal || read == 0 {
        // Nobody has seen the end of the line.
        say("\n")?;
    }
    drop(quiet);
    let text = line.trim_end_matches(['\r', '\n']);
    Ok((read > 0).then(|| Zeroizing::new(text.to_owned())))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    /// Standard input must be one.
    fn begin() -> Result<Quiet> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).context("asking the terminal how it is set")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Drain, &quiet).context("hiding what is typed")?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Shells set it right by themselves where this fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}
