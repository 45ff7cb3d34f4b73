//! `cargo xtask bench`: speed and memory, measured on the release build. What is measured is in `tests/`.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::process::{self, binary, root};

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
    process::run(&mut command)
}
