//! `cargo xtask demo`: from a clean clone to a real command on a real server, through a plugin.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, binary, root};
use crate::{build, setup};

#[derive(clap::Args)]
pub struct Arguments {
    /// With the build that the tests use, which is there sooner
    #[arg(long)]
    debug: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::compiler()?;
    let release = !arguments.debug;
    build::run(&build::Arguments { release, programs: vec!["demo"], ..build::Arguments::default() })?;
    process::run(Command::new(binary("demo", release)).arg(binary("mcp-orchestrator", release)).current_dir(root()))
}
