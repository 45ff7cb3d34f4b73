//! `cargo xtask test`: set up, build, run every test, those with real clients and on the lab's hosts too where there can be
//! any.

use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::process::{self, binary, cargo, root, say};
use crate::{build, clients, javascript, lab, setup};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to `cargo test`: a part of a test's name, `-p CRATE`, `-- --nocapture` …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    let build = || build::run(&build::Arguments { guests: true, ..build::Arguments::default() });
    if !arguments.rest.is_empty() {
        build()?;
        let inventory = lab::folder()?.join(lab::INVENTORY);
        let mut command = test();
        command.env("ORCHESTRATOR_LAB", inventory).env("ORCHESTRATOR_CLIENTS", clients::folder()?);
        return process::run(command.args(&arguments.rest));
    }
    let was_up = lab::is_up();
    // These are built and installed while the compiler is at work: all have long stretches in which they leave the machine
    // idle.
    let lab = thread::spawn(lab::for_tests);
    let installed = thread::spawn(clients::for_tests);
    build()?;
    process::run(&mut test())?;
    match javascript::for_tests() {
        Ok(tool) => process::run(ignored("javascript::").env("ORCHESTRATOR_QJS", tool))?,
        Err(why) => not_run("of the plugin in JavaScript", &why),
    }
    let missing = setup::missing_shells();
    if !missing.is_empty() {
        not_run(&format!("with {} as login shells", missing.join(", ")), "these are not installed");
    }
    match installed.join().ok().context("installing the clients panicked")? {
        Ok(folder) => clients(&folder)?,
        Err(why) => not_run("with the MCP clients that people have", &why),
    }
    match lab.join().ok().context("bringing up the lab panicked")? {
        Ok(inventory) => {
            let tested = process::run(ignored("lab::").env("ORCHESTRATOR_LAB", inventory));
            // Whoever had it up before wants it up afterwards.
            if !was_up {
                lab::run(&lab::Verb::Down)?;
            }
            tested
        }
        Err(why) => {
            not_run("on the lab's hosts", &why);
            Ok(())
        }
    }
}

/// The tests with the clients that are installed in `folder`.
pub fn clients(folder: &Path) -> Result<()> {
    process::run(ignored("clients::").env("ORCHESTRATOR_CLIENTS", folder))
}

/// Says loudly what was not tested.
fn not_run(which: &str, why: &str) {
    say("==================================================================");
    say(&format!("NOT RUN: the tests {which}, because {why}"));
    say("==================================================================");
}

/// The tests of a module that a plain `cargo test` leaves out.
fn ignored(module: &str) -> Command {
    let mut command = test();
    command.args(["--test", "e2e", "--", "--ignored", module]);
    command
}

fn test() -> Command {
    let mut command = cargo();
    command
        .args(["test", "--workspace"])
        .env("ORCHESTRATOR_BIN", binary("mcp-orchestrator", false))
        .env("ORCHESTRATOR_GUESTS", root().join("target/guests"));
    command
}
