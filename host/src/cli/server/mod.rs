//! `server`: what operators do with servers on the command line. Adding one by hand is what agents and `server_add` do.

mod ssh_config;
mod import;
mod trust;
mod login;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Subcommand;
use serde_json::{Value, json};

use super::caller::Caller;
use super::say;

#[derive(Subcommand)]
pub enum Verb {
    /// List the servers
    List,
    /// Connect to a server and log in, and say what it proved to be
    Test {
        /// As in `server list`
        alias: String,
    },
    /// Answer what a server asks during the login, such as a one-time code; the connection then stays for everybody
    Login {
        /// As in `server list`
        alias: String,
    },
    /// Show the host key of a server, and of every server on the way to it, and trust it if you say so
    Trust(trust::Arguments),
    /// Import the hosts of an OpenSSH client configuration
    Import(import::Arguments),
}

pub fn run(data_dir: Option<PathBuf>, verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::List => list(&mut Caller::open(data_dir, "server list")?),
        Verb::Test { alias } => test(&mut Caller::open(data_dir, "server test")?, alias),
        Verb::Login { alias } => login::run(data_dir, alias),
        Verb::Trust(arguments) => trust::run(&mut Caller::open(data_dir, "server trust")?, arguments),
        Verb::Import(arguments) => import::run(data_dir, arguments),
    }
}

fn list(caller: &mut Caller) -> Result<ExitCode> {
    let listed = caller.call("server_list", &json!({}))?.map_err(|refusal| anyhow!("{refusal}"))?;
    let servers = listed.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = String::new();
    for server in &servers {
        let part = |name: &str| server.get(name).and_then(Value::as_str).unwrap_or_default();
        let words = |name: &str| {
            let list = server.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        };
        let port = server.get("port").and_then(Value::as_u64).unwrap_or_default();
        write!(text, "{}  {}@{}:{port}  login: {}", part("alias"), part("user"), part("host"), words("auth"))?;
        for (label, value) in [("keys", words("keyPath")), ("tags", words("tags")), ("via", part("jump").to_owned())] {
            if !value.is_empty() {
                write!(text, "  {label}: {value}")?;
            }
        }
        text.push('\n');
    }
    if servers.is_empty() {
        text.push_str(
            "No server is known yet: `mcp-orchestrator server import --ssh-config` imports those of ~/.ssh/config.\n",
        );
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn test(caller: &mut Caller, alias: &str) -> Result<ExitCode> {
    known(caller, alias)?;
    let verified = caller.call("server_add", &verification(alias))?.map_err(|refusal| anyhow!("{refusal}"))?;
    say(&format!("{alias}: {}\n", proved(&verified)))?;
    Ok(ExitCode::SUCCESS)
}

/// An update of nothing that connects and logs in.
fn verification(alias: &str) -> Value {
    json!({"alias": alias, "verify": true})
}

/// What a server proved to be, in a sentence.
fn proved(verified: &Value) -> String {
    let verified = verified.get("verified").cloned().unwrap_or_default();
    let part = |name: &str| verified.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = verified.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
    format!(
        "connected and logged in within {time} ms; host key {} ({}), trusted by {}.",
        part("fingerprint"),
        part("key_type"),
        part("trusted_by")
    )
}

/// Fails for an alias that is none: verifying it would read as adding a server.
fn known(caller: &mut Caller, alias: &str) -> Result<()> {
    match caller.aliases("server_list", "servers")?.iter().any(|one| one == alias) {
        true => Ok(()),
        false => Err(anyhow!("there is no server {alias:?}; `mcp-orchestrator server list` shows all")),
    }
}
