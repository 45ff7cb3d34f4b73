//! `cargo xtask test`: set up, build, run every test, those on the lab's hosts too where there can be a lab.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::process::{self, binary, cargo, root, say};
use crate::{build, lab, setup};

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
        return process::run(test().args(&arguments.rest).env("ORCHESTRATOR_LAB", inventory));
    }
    let was_up = lab::is_up();
    // The lab is built while the compiler is at work: both have long stretches in which they leave the machine idle.
    let lab = thread::spawn(lab::for_tests);
    build()?;
    process::run(&mut test())?;
    let lab = lab.join().ok().context("bringing up the lab panicked")?;
    match lab {
        Ok(inventory) => {
            let mut command = test();
            command.args(["--test", "e2e", "--", "--ignored", "lab::"]).env("ORCHESTRATOR_LAB", inventory);
            let tested = process::run(&mut command);
            // Whoever had it up before wants it up afterwards.
            if !was_up {
                lab::run(&lab::Verb::Down)?;
            }
            tested
        }
        Err(why) => {
            say("==================================================================");
            say(&format!("NOT RUN: the tests on the lab's hosts, because {why}"));
            say("==================================================================");
            Ok(())
        }
    }
}

fn test() -> Command {
    let mut command = cargo();
    command
        .args(["test", "--workspace"])
        .env("ORCHESTRATOR_BIN", binary("mcp-orchestrator", false))
        .env("ORCHESTRATOR_GUESTS", root().join("target/guests"));
    command
}
