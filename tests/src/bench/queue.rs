//! The queue under a flood: how fast jobs are accepted and on disk, what a long queue takes in memory, and what a long
//! history costs.
//!
//! One job holds the only place at work, so that everything behind it waits and the figures are the queue's alone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::client::{Client, Launch};
use crate::place::Place;
use crate::sshd::Sshd;

use super::exec::add;
use super::size::resident_mb;
use super::{Figure, spread};

/// How many jobs are handed in for each figure.
const BULK: usize = 20_000;
const LONG: usize = 100_000;
const STARTS: usize = 9;

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
    // What the flood itself took goes back within seconds; what the queue takes stays.
    let mut grown = f64::INFINITY;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        grown = grown.min(resident_mb(program.pid())? - before);
    }
    program.kill().await?;
    drop(program);
    let history = history(&place).await?;
    let rate = BULK as f64 / bulk.as_secs_f64();
    let mut figures = vec![
        Figure::new("a job accepted and on disk, in bulk", 1000.0 / rate, "ms")
            .target(0.1)
            .note(format!("{rate:.0} jobs per second over one client's stdio")),
        Figure::new("memory of 100,000 queued jobs", grown, "MB").target(100.0).note("growth of the resident set"),
    ];
    figures.extend(history);
    Ok(figures)
}

/// The jobs that were queued when the program was killed, as a history: what it costs a start, and a look at its end.
async fn history(place: &Place) -> Result<Vec<Figure>> {
    let empty = Place::new()?;
    let recovering = Instant::now();
    let program = start(place).await?;
    let recovered = recovering.elapsed().as_secs_f64();
    at_rest(&place.data().join("orchestrator.redb")).await?;
    program.close().await?;
    start(&empty).await?.close().await?;
    let (mut long, mut none, mut newest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        for (place, starts) in [(place, &mut long), (&empty, &mut none)] {
            let started = Instant::now();
            let program = start(place).await?;
            starts.push(started.elapsed());
            let asked = Instant::now();
            let list = program.request("tools/call", json!({"name": "task_history", "arguments": {}})).await?;
            if list["structuredContent"]["jobs"].as_array().is_some_and(|jobs| jobs.len() == 20) {
                newest.push(asked.elapsed());
            }
            program.close().await?;
        }
    }
    let (long, none) = (spread(&long).median, spread(&none).median);
    Ok(vec![
        Figure::new("start with a history of 100,000 jobs", long / none, "times none")
            .target(1.5)
            .note(format!("{long:.1} ms and {none:.1} ms; the first start after the kill took {recovered:.1} s")),
        Figure::new("the newest 20 of 100,000 jobs", spread(&newest).median, "ms").note(format!("median of {STARTS}")),
    ])
}

/// Waits until nothing is written to a file any more: what a start has found unended is recorded beside the work.
async fn at_rest(file: &Path) -> Result<()> {
    for _ in 0..120 {
        if std::fs::metadata(file)?.modified()?.elapsed().unwrap_or_default() > Duration::from_secs(1) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("{} is still written to after a minute", file.display())
}

async fn start(place: &Place) -> Result<Client> {
    Launch::new(place).start().await
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
