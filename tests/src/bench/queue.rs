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

/// How many jobs are handed in at once: enough for a rate, and few enough for their answers to be kept in memory.
const BULK: usize = 20_000;
/// How many wait when the memory that they take is looked at.
const QUEUED: usize = 100_000;
/// How many there are in a long history, and in a short one to compare it with.
const LONG: usize = 1_000_000;
const SHORT: usize = 100;
const STARTS: usize = 9;
/// How often each start is asked for the newest jobs.
const LOOKS: usize = 5;

pub async fn measure() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let (long, short) = (Place::new()?, Place::new()?);
    let program = occupied(&long, &sshd).await?;
    let before = resident_mb(program.pid())?;
    let bulk = flood(&program, 1, BULK).await?;
    fill(&program, 1 + BULK, 1 + QUEUED).await?;
    // What the flood itself took goes back within seconds; what the queue takes stays.
    let mut grown = f64::INFINITY;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        grown = grown.min(resident_mb(program.pid())? - before);
    }
    fill(&program, 1 + QUEUED, 1 + LONG).await?;
    program.kill().await?;
    let program = occupied(&short, &sshd).await?;
    fill(&program, 1, 1 + SHORT).await?;
    program.kill().await?;
    let rate = BULK as f64 / bulk.as_secs_f64();
    let mut figures = vec![
        Figure::new("a job accepted and on disk, in bulk", 1000.0 / rate, "ms")
            .target(0.1)
            .note(format!("{rate:.0} jobs per second over one client's stdio")),
        Figure::new("memory of 100,000 queued jobs", grown, "MB").target(100.0).note("growth of the resident set"),
    ];
    figures.extend(history(&long, &short).await?);
    Ok(figures)
}

/// A program whose only place at work is taken, so that whatever is handed in waits.
async fn occupied(place: &Place, sshd: &Sshd) -> Result<Client> {
    let program = Launch::new(place)
        .env("MAX_QUEUE_SIZE", (2 * LONG).to_string())
        .env("MAX_RUNNING_JOBS", "1")
        .env("MCP_SYNC_TIMEOUT_S", "1")
        .start()
        .await?;
    add(&program, sshd, sshd.port()).await?;
    program.call("task_exec", json!({"alias": "box", "cmd": "sleep 3600", "timeout": 3600})).await?.ok()?;
    Ok(program)
}

/// The jobs that were queued when their program was killed, as a history: what a long one costs a start and a look at its
/// end, beside none and beside a short one.
async fn history(long: &Place, short: &Place) -> Result<Vec<Figure>> {
    let empty = Place::new()?;
    let recovering = Instant::now();
    let program = start(long).await?;
    let recovered = recovering.elapsed().as_secs_f64();
    at_rest(&long.data().join("orchestrator.redb")).await?;
    let ended = recovering.elapsed().as_secs_f64();
    program.close().await?;
    for place in [short, &empty] {
        start(place).await?.close().await?;
    }
    let (mut starts, mut looks) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]]);
    for _ in 0..STARTS {
        for ((place, starts), looks) in [long, short, &empty].into_iter().zip(&mut starts).zip(&mut looks) {
            let started = Instant::now();
            let program = start(place).await?;
            starts.push(started.elapsed());
            for _ in 0..LOOKS {
                let asked = Instant::now();
                let list = program.request("tools/call", json!({"name": "task_history", "arguments": {}})).await?;
                let jobs = list["structuredContent"]["jobs"].as_array().context("no jobs")?;
                looks.push(asked.elapsed());
                ensure!(jobs.len() == 20 || place.root() == empty.root(), "{} jobs are listed", jobs.len());
            }
            program.close().await?;
        }
    }
    let [with_long, _, with_none] = starts.map(|times| spread(&times).median);
    let [of_long, of_short, _] = looks.map(|times| spread(&times).median);
    Ok(vec![
        Figure::new("start with a history of 1,000,000 jobs", with_long / with_none, "times none").target(1.5).note(
            format!(
                "{with_long:.1} ms and {with_none:.1} ms; the first start after the kill took {recovered:.1} s, and all had been ended after {ended:.0} s"
            ),
        ),
        Figure::new("the newest 20 of 1,000,000 jobs", of_long / of_short, "times of 100")
            .target(1.5)
            .note(format!("{of_long:.2} ms and {of_short:.2} ms")),
    ])
}

/// Waits until nothing is written to a file any more: what a start has found unended is recorded beside the work.
async fn at_rest(file: &Path) -> Result<()> {
    for _ in 0..1200 {
        if std::fs::metadata(file)?.modified()?.elapsed().unwrap_or_default() > Duration::from_secs(1) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("{} is still written to after ten minutes", file.display())
}

async fn start(place: &Place) -> Result<Client> {
    Launch::new(place).start().await
}

/// Hands in as many jobs as make `total` with those that are `known`.
async fn fill(program: &Client, mut known: usize, total: usize) -> Result<()> {
    while known < total {
        let count = BULK.min(total - known);
        flood(program, known, count).await?;
        known += count;
    }
    Ok(())
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
