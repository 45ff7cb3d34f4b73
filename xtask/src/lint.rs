//! `cargo xtask lint`: formatting, clippy, and the licences, sources and advisories of dependencies.

use anyhow::Result;

use crate::process::{self, cargo, say, which};

pub fn run() -> Result<()> {
    process::run(cargo().args(["fmt", "--all", "--check"]))?;
    process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if which("cargo-deny").is_none() {
        say("cargo-deny is not installed, so dependencies were not checked: `cargo install cargo-deny`");
        return Ok(());
    }
    process::run(cargo().args(["deny", "check"]))
}
