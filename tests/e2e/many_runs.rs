//! What thousands of commands leave behind: nothing. No channel, no terminal, no file descriptor, no thread, no process on the
//! server.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, Sleep, exec_arguments};

/// `ORCHESTRATOR_RUNS` makes it more: ten thousand take a minute or two on a release build.
const RUNS: usize = 600;
const AT_ONCE: usize = 16;

/// What may leak in our process, by name.
fn held(pid: u32) -> Result<[(&'static str, usize); 2]> {
    let count = |folder: &str| -> Result<usize> { Ok(fs::read_dir(format!("/proc/{pid}/{folder}"))?.count()) };
    Ok([("file descriptors", count("fd")?), ("threads", count("task")?)])
}

/// One run of each kind in turn, and some that don't end well.
async fn run(rig: &Rig, sleep: &Sleep, number: usize) -> Result<()> {
    let call = async |tool: &str, cmd: &str, more| rig.client.call(tool, exec_arguments(cmd, more)).await;
    let text = number.to_string();
    match number % 8 {
        0 => {
            let typed = call(
                "task_exec_interactive",
                "printf 'Name: '; read x; echo got $x",
                json!({"responses": {"Name": text}}),
            )
            .await?;
            ensure!(typed.structured["transcript"] == format!("Name: {text}\ngot {text}\n"), "{}", typed.text);
        }
        1 => {
            let steps = json!({"alias": "box", "commands": ["true", format!("echo {text}")]});
            rig.client.call("task_exec_sequence", steps).await?.ok()?;
        }
        2 if number % 32 == 2 => {
            // Of two lines that are the same, neither is stopped from outside (`ssh/stop.rs`).
            let ended = call("task_exec", &format!("{}{number}", sleep.command), json!({"timeout": 3})).await?;
            ended.problem("COMMAND_TIMEOUT")?;
        }
        3 => {
            let failed = call("task_exec", "echo no >&2; exit 3", json!({})).await?;
            ensure!(failed.structured["exit_code"] == 3, "{}", failed.text);
        }
        4 => {
            let echoed = call("task_exec", "cat", json!({"stdin": text.clone()})).await?.ok()?;
            ensure!(echoed.str("stdout") == text, "{}", echoed.text);
        }
        _ => {
            let echoed = call("task_exec", &format!("echo {text}"), json!({})).await?.ok()?;
            ensure!(echoed.str("stdout").trim() == text, "{}", echoed.text);
        }
    }
    Ok(())
}

#[tokio::test]
async fn thousands_of_runs_leave_nothing_behind() -> Result<()> {
    let runs = std::env::var("ORCHESTRATOR_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let rig = Rig::with(Options::default(), |launch| launch).await?;
    let sleep = Sleep::new();
    let all = async |from: usize, count: usize| {
        stream::iter(from..from + count)
            .map(|number| run(&rig, &sleep, number))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    };
    // Connections, threads and plugins are there after the first ones.
    let () = all(0, 64).await?;
    let before = held(rig.client.pid())?;
    let () = all(64, runs).await?;
    let settled = async || -> Result<bool> {
        let stats = rig.client.call("pool_stats", json!({})).await?.ok()?;
        let server = stats.structured["servers"].as_array().and_then(|servers| servers.first()).context("no server")?;
        let connections = server["connections"].as_array().context("no connections")?;
        let used: u64 = connections.iter().filter_map(|connection| connection["channels"].as_u64()).sum();
        let now = held(rig.client.pid())?;
        Ok(used == 0 && now.iter().zip(before).all(|(now, before)| now.1 <= before.1 + 4))
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !settled().await? {
        let stats = rig.client.call("pool_stats", json!({})).await?.text;
        ensure!(tokio::time::Instant::now() < deadline, "{before:?} became {:?}\n{stats}", held(rig.client.pid())?);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sleep.is_gone().await
}
