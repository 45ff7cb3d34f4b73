//! `server trust ALIAS`: shows the host key of a server, and of every unknown server on the way to it, and writes the ones
//! that the operator vouches for into `known_hosts` of the data directory.
//!
//! The key is the one that the daemon was shown, over the way that it will use. A key that has changed is never written over.

use std::io::{self, BufRead};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::{known, proved, verification};
use crate::cli::caller::{Caller, Refusal};
use crate::cli::say;
use crate::ssh::remember;

/// A server and everything on the way to it.
const MAX_KEYS: usize = 10;

#[derive(Args)]
pub struct Arguments {
    /// As in `server list`
    alias: String,
    /// Do not ask; needs --fingerprint, since nobody is there to compare
    #[arg(long, requires = "fingerprint")]
    yes: bool,
    /// A fingerprint that you have from somewhere else; keys with others are refused. Once per unknown server on the way
    #[arg(long, value_name = "SHA256:…")]
    fingerprint: Vec<String>,
}

/// A key that nobody has vouched for yet.
struct Shown {
    /// The server that showed it: an alias, or how a jump is written.
    by: String,
    fingerprint: String,
    key_type: String,
    /// As it will stand in the file.
    line: String,
}

pub fn run(caller: &mut Caller, arguments: &Arguments) -> Result<ExitCode> {
    let alias = arguments.alias.as_str();
    known(caller, alias)?;
    let file = caller.settings.data_dir.join("known_hosts");
    let mut trusted: Vec<String> = Vec::new();
    while trusted.len() < MAX_KEYS {
        let refusal = match caller.call("server_add", &verification(alias))? {
            Ok(verified) => {
                say(&format!("{alias}: {}\n", proved(&verified)))?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(refusal) => refusal,
        };
        let Some(shown) = shown(&refusal, alias) else {
            return match is_login_at_the_end(&refusal) {
                true => {
                    say(&format!("{alias}: its host key is trusted. Logging in is another matter: {refusal}\n"))?;
                    Ok(ExitCode::SUCCESS)
                }
                false => bail!("{refusal}"),
            };
        };
        ensure!(
            !trusted.contains(&shown.line),
            "{}: the key was written to {} and is still unknown",
            shown.by,
            file.display()
        );
        if !agreed(&shown, arguments)? {
            say("Nothing was written for this server.\n")?;
            return Ok(ExitCode::FAILURE);
        }
        remember(&file, &shown.line).with_context(|| format!("writing {}", file.display()))?;
        say(&format!("Trusted: written to {}.\n", file.display()))?;
        trusted.push(shown.line);
    }
    bail!("{alias} is reached through more than {MAX_KEYS} servers with unknown keys")
}

/// The unknown key that a refusal is about.
fn shown(refusal: &Refusal, alias: &str) -> Option<Shown> {
    if refusal.code != "HOST_KEY_UNKNOWN" {
        return None;
    }
    let text = |name: &str| refusal.details.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Shown {
        by: text("jump").unwrap_or_else(|| alias.to_owned()),
        fingerprint: text("fingerprint")?,
        key_type: text("key_type")?,
        line: text("known_hosts_line")?,
    })
}

/// Whether only the login at the server itself was refused: then its key was accepted before.
fn is_login_at_the_end(refusal: &Refusal) -> bool {
    refusal.code == "AUTH_FAILED" && refusal.details.get("jump").is_none()
}

fn agreed(shown: &Shown, arguments: &Arguments) -> Result<bool> {
    let Shown { by, fingerprint, key_type, line } = shown;
    let place = line.split(' ').next().unwrap_or_default();
    say(&format!("{by} ({place}) shows a host key that is not known:\n  {fingerprint} ({key_type})\n"))?;
    let vouched = arguments.fingerprint.iter().any(|known| known.trim().trim_end_matches('=') == fingerprint);
    if !arguments.fingerprint.is_empty() && !vouched {
        say("It has none of the fingerprints that were given: this may be another server.\n")?;
        return Ok(false);
    }
    if arguments.yes {
        return Ok(true);
    }
    say(
        "Compare it with the one on the server: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub (or the type above).\n\
         Trust it? Write yes, or the fingerprint: ",
    )?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    if answer.is_empty() {
        // Whoever has closed standard input sees no prompt either.
        say("\n")?;
    }
    let answer = answer.trim();
    Ok(answer.eq_ignore_ascii_case("yes") || answer == fingerprint)
}
