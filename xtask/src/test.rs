//! `cargo xtask test`: set up, build, run every test.

use anyhow::Result;

use crate::process::{self, binary, cargo, root};
use crate::{build, setup};

#[derive(clap::Args)]
pub struct Arguments {
    /// Passed on to `cargo test`: a part of a test's name, `-p CRATE`, `-- --nocapture` …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    build::run(&build::Arguments { guests: true, ..build::Arguments::default() })?;
    let mut command = cargo();
    command
        .args(["test", "--workspace"])
        .args(&arguments.rest)
        .env("ORCHESTRATOR_BIN", binary("mcp-orchestrator", false))
        .env("ORCHESTRATOR_GUESTS", root().join("target/guests"));
    process::run(&mut command)
}
