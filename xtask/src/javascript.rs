//! The program that makes components of JavaScript, for the test of the guide's plugin in that language
//! (`tests/e2e/javascript.rs`). It is an npm package, installed beside the lab's hosts and never into this repository.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::lab;
use crate::process::{run_within, which};

const PACKAGE: &str = "componentize-qjs";
/// As in `docs/plugins-in-other-languages.md`.
const VERSION: &str = "0.4.5";
const INSTALL: Duration = Duration::from_secs(180);

/// The program, or why there is none: a machine may have no Node.js and no network.
pub fn for_tests() -> Result<PathBuf, String> {
    if let Some(tool) = ["node", "npm"].into_iter().find(|tool| which(tool).is_none()) {
        return Err(format!("{tool} is not installed"));
    }
    let folder = lab::folder().map_err(|error| error.to_string())?.join(format!("{PACKAGE}-{VERSION}"));
    let program = folder.join("node_modules/.bin").join(PACKAGE);
    if !program.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        npm.arg(&folder).arg(format!("{PACKAGE}@{VERSION}"));
        run_within(&mut npm, INSTALL).map_err(|error| format!("{error:#}"))?;
    }
    if program.exists() { Ok(program) } else { Err(format!("{} was not installed", program.display())) }
}
