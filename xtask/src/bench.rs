//! `cargo xtask bench`: speed and memory, measured on the release build. What is measured is in `tests/`.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, binary, root, say};
use crate::{build, compare, lab};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to the bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    build::run(&build::Arguments { release: true, guests: true, programs: vec!["bench"] })?;
    let mut command = Command::new(binary("bench", true));
    command
        .current_dir(root())
        .args(&arguments.rest)
        .env("ORCHESTRATOR_BIN", binary("mcp-orchestrator", true))
        .env("ORCHESTRATOR_GUESTS", root().join("target/guests"));
    if let Some(seed) = compare::installed() {
        command.env("ORCHESTRATOR_SEED", seed);
    }
    // The tools of plugins are measured on a host of the lab. Without one the bench says so, and measures what it can.
    let names: Vec<&String> = arguments.rest.iter().filter(|word| !word.starts_with("--")).collect();
    if !names.is_empty() && names.iter().all(|name| *name != "plugin") {
        return process::run(&mut command);
    }
    let was_up = lab::is_up();
    match lab::for_tests() {
        Ok(inventory) => drop(command.env("ORCHESTRATOR_LAB", inventory)),
        Err(why) => say(&format!("no lab: {why}")),
    }
    let measured = process::run(&mut command);
    // Whoever had it up before wants it up afterwards.
    if !was_up && lab::is_up() {
        lab::run(&lab::Verb::Down)?;
    }
    measured
}
