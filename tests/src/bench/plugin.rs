//! A call of the guest `echo` (instantiate, call, one import) beside a call of a core tool that does as little. Both go over
//! MCP, in turns, so that their difference is the plugin call.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::client::Launch;
use crate::place::Place;

use super::{Figure, spread};

const WARM_UP: usize = 50;
const ROUNDS: usize = 500;

pub async fn measure() -> Result<Vec<Figure>> {
    let folder = std::env::var_os("ORCHESTRATOR_GUESTS").map(PathBuf::from);
    let guest = folder.context("ORCHESTRATOR_GUESTS is not set: run `cargo xtask bench`")?.join("echo.wasm");
    let place = Place::new()?;
    place.install_plugin(&guest)?;
    let program = Launch::new(&place).start().await?;
    let calls = [json!({"name": "echo", "arguments": {"text": "hi"}}), json!({"name": "pool_stats", "arguments": {}})];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + ROUNDS {
        for (call, times) in calls.iter().zip(&mut times) {
            let started = Instant::now();
            let answer = program.request("tools/call", call.clone()).await?;
            let took = started.elapsed();
            ensure!(answer["isError"] != true, "{answer}");
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    program.close().await?;
    let [guest, core] = times.map(|times| spread(&times));
    Ok(vec![
        Figure::new("a tool of a plugin, over MCP", guest.median * 1000.0, "µs")
            .note(format!("median of {ROUNDS}, p95 {:.0} µs", guest.p95 * 1000.0)),
        Figure::new("a tool of the core, over MCP", core.median * 1000.0, "µs")
            .note(format!("p95 {:.0} µs", core.p95 * 1000.0)),
        Figure::new("the plugin call alone", (guest.median - core.median) * 1000.0, "µs")
            .target(100.0)
            .note("instantiate, call, one import"),
    ])
}
