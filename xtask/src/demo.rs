//! `cargo xtask demo`: from a clean clone to a real command on a real server, through a plugin.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, binary, root};
use crate::{build, setup};

pub fn run() -> Result<()> {
    setup::compiler()?;
    build::run(&build::Arguments { release: true, programs: vec!["demo"], ..build::Arguments::default() })?;
    process::run(Command::new(binary("demo", true)).arg(binary("mcp-orchestrator", true)).current_dir(root()))
}
