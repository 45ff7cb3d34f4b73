//! The queue under a flood: how fast jobs are accepted and on disk, and what a long queue takes in memory.
//!
//! One job holds the only place at work, so that everything behind it waits and the figures are the queue's alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::client::{Client, Launch};
use crate::place::Place;
use crate::sshd::Sshd;

use super::Figure;
use super::exec::add;
use super::size::resident_mb;

/// How many jobs are handed in for each figure.
const BULK: usize = 20_000;
const LONG: usize = 100_000;

pub async fn measure() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let place = Place::new()?;
    let program = Launch::new(&place)
        .env("MAX_QUEUE_SIZE", "200000")
        .env("MAX_RUNNING_JOBS", "1")
        .env("MCP_SYNC_TIMEOUT_S", "1")
        .start()
        .await?;
    add(&program, &sshd, sshd.port()).await?;
    program.call("task_exec", json!({"alias": "box", "cmd": "sleep 600", "timeout": 600})).await?.ok()?;
    let before = resident_mb(program.pid())?;
    let bulk = flood(&program, 1, BULK).await?;
    flood(&program, 1 + BULK, LONG - BULK).await?;
    let grown = resident_mb(program.pid())? - before;
    program.kill().await?;
    let rate = BULK as f64 / bulk.as_secs_f64();
    Ok(vec![
        Figure::new("a job accepted and on disk, in bulk", 1000.0 / rate, "ms")
            .target(0.1)
            .note(format!("{rate:.0} jobs per second over one client's stdio")),
        Figure::new("memory of 100,000 queued jobs", grown, "MB").target(100.0).note("growth of the resident set"),
    ])
}

/// Hands in `count` jobs and returns how long it took until all were committed. `known` are there already.
async fn flood(program: &Client, known: usize, count: usize) -> Result<Duration> {
    let started = Instant::now();
    let mut calls = Vec::with_capacity(count);
    for _ in 0..count {
        calls.push(program.begin_call("task_exec", json!({"alias": "box", "cmd": "true"})).await?);
    }
    let took = loop {
        // Counted from the database's own tables.
        let stats = program.request("tools/call", json!({"name": "queue_stats", "arguments": {}})).await?;
        let total = stats["structuredContent"]["total"].as_u64().context("no total")?;
        if total >= (known + count) as u64 {
            break started.elapsed();
        }
        ensure!(started.elapsed() < Duration::from_secs(300), "only {total} jobs were accepted: {stats}");
    };
    for call in calls {
        program.finish(call).await?;
    }
    Ok(took)
}
