//! The Node project that this one replaces, `@fkom13/mcp-sftp-orchestrator`, as a program to compare with.
//!
//! `cargo xtask compare` installs it, outside of this repository, and says in `ORCHESTRATOR_SEED` where it is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::client::{Client, Launch, Version};
use crate::place::Place;

/// Some megabytes take it a minute.
const PATIENCE: Duration = Duration::from_secs(600);

/// Starts it with these servers, by alias. `None` where it is not installed.
pub async fn start(place: &Place, servers: &Value) -> Result<Option<Client>> {
    let Ok(program) = std::env::var("ORCHESTRATOR_SEED") else { return Ok(None) };
    fs::create_dir_all(place.data())?;
    fs::write(place.data().join("servers.json"), servers.to_string())?;
    let script = place.home().join("node-project");
    fs::write(&script, format!("#!/bin/sh\nexec node '{program}'\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let launch = Launch::new(place).binary(script).version(Version::V2025_06_18).patience(PATIENCE);
    launch.start().await.map(Some)
}
