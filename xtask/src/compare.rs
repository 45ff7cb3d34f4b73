//! `cargo xtask compare`: the same facts from this program and from the Node project that it replaces, on a host of the lab.
//!
//! Not part of `cargo xtask test`: it needs an npm package, which is installed beside the lab's hosts and never into this
//! repository. What is compared is in `tests/e2e/seed.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, binary, cargo, root, say, which};
use crate::{build, lab};

const PACKAGE: &str = "@fkom13/mcp-sftp-orchestrator";
const VERSION: &str = "11.8.0";

pub fn run() -> Result<()> {
    if let Some(why) = missing() {
        say("==================================================================");
        say(&format!("NOT COMPARED with {PACKAGE}: {why}"));
        say("==================================================================");
        bail!("nothing was compared");
    }
    let folder = folder()?;
    let server = server(&folder);
    if !server.is_file() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        process::run(npm.arg(&folder).arg(format!("{PACKAGE}@{VERSION}")))
            .with_context(|| format!("{PACKAGE} {VERSION} could not be installed"))?;
    }
    build::run(&build::Arguments::default())?;
    let was_up = lab::is_up();
    let inventory = lab::up()?;
    let mut test = cargo();
    test.args(["test", "--workspace", "--test", "e2e", "--", "--ignored", "seed::"])
        .current_dir(root())
        .env("ORCHESTRATOR_BIN", binary("mcp-orchestrator", false))
        .env("ORCHESTRATOR_SEED", server)
        .env("ORCHESTRATOR_LAB", inventory);
    let compared = process::run(&mut test);
    // Whoever had it up before wants it up afterwards.
    if !was_up {
        lab::run(&lab::Verb::Down)?;
    }
    compared
}

fn folder() -> Result<PathBuf> {
    Ok(lab::folder()?.join(format!("node-project-{VERSION}")))
}

fn server(folder: &Path) -> PathBuf {
    folder.join("node_modules").join(PACKAGE).join("server.js")
}

/// The Node project's program, if it was installed before.
pub fn installed() -> Option<PathBuf> {
    folder().ok().map(|folder| server(&folder)).filter(|server| server.is_file())
}

/// Why nothing can be compared on this machine.
fn missing() -> Option<String> {
    if let Some(tool) = ["node", "npm"].into_iter().find(|tool| which(tool).is_none()) {
        return Some(format!("{tool} is not installed"));
    }
    lab::impossible().map(|why| format!("there can be no lab: {why}"))
}
