//! `cargo xtask install`: the release build to where cargo installs programs.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build;
use crate::process::{binary, say, which};

#[derive(clap::Args)]
pub struct Arguments {
    /// Install to ROOT/bin instead of ~/.cargo/bin
    #[arg(long)]
    root: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = match &arguments.root {
        Some(root) => root.clone(),
        None => cargo_home()?,
    }
    .join("bin");
    build::run(&build::Arguments { release: true, ..build::Arguments::default() })?;
    let built = binary("mcp-orchestrator", true);
    let name = built.file_name().context("the program has no name")?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let place = folder.join(name);
    // Renamed over the old one: a program that is running cannot be written to.
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    fs::copy(&built, &beside).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, &place).with_context(|| format!("cannot write {}", place.display()))?;
    say(&format!("installed {}", place.display()));
    if which(&name.to_string_lossy()).is_none() {
        say(&format!("{} is not in PATH: give your MCP client the full path", folder.display()));
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set: name a folder with --root")
}
