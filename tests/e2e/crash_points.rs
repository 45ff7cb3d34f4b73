//! The story of a bad moment: the program is killed at each step of a job's life, between a commit and what it tells, between
//! a commit and its effect, in the middle of a thousand jobs. Whatever the moment, the queue's word holds: every job that was
//! accepted is known, none ran twice, none is in two states.
//!
//! `ORCHESTRATOR_CRASH_ROUNDS` and `ORCHESTRATOR_CRASH_JOBS` make more of the last test: a hundred rounds of a thousand jobs
//! are the figures that the project holds itself to.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::embedded::{Embedded, Faults};
use orchestrator_tests::ledger::Ledger;
use orchestrator_tests::place::Place;
use orchestrator_tests::wait;
use rand::RngExt;
use serde_json::json;

use crate::support::{Sleep, with_embedded};

const DEATH: Duration = Duration::from_secs(60);

/// A data directory in which the embedded server is known as `box`, and no program.
async fn scene() -> Result<(Embedded, Place)> {
    let (client, server, place) = with_embedded(Faults::default()).await?;
    client.close().await?;
    Ok((server, place))
}

/// Few at once, so that some wait for their turn.
async fn start(place: &Place, failpoint: Option<&str>) -> Result<Client> {
    let launch =
        Launch::new(place).env("MAX_RUNNING_JOBS", "3").env("MAX_QUEUE_SIZE", "5000").env("MCP_SYNC_TIMEOUT_S", "600");
    match failpoint {
        Some(point) => launch.env("ORCHESTRATOR_FAILPOINT", point).start().await,
        None => launch.start().await,
    }
}

async fn check(failpoint: &str) -> Result<()> {
    let (_server, place) = scene().await?;
    let mut ledger = Ledger::new(place.root(), 15);
    let client = start(&place, Some(failpoint)).await?;
    ledger.hand_in(&client, None).await?;
    client.ended(DEATH).await.context("the failpoint was not reached; only a debug build has them")?;
    ensure!(ledger.answers() < 15, "it died after the last answer");
    drop(client);
    let client = start(&place, None).await?;
    ledger.check(&client).await.with_context(|| format!("after a death at {failpoint}"))?;
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_death_around_the_first_commit_of_a_job_loses_and_doubles_nothing() -> Result<()> {
    for point in ["job-admitted:1", "job-admitted:9", "job-recorded:1", "job-recorded:8", "job-accepted:5"] {
        check(point).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_death_while_a_job_gets_its_turn_loses_and_doubles_nothing() -> Result<()> {
    for point in ["job-turn:1", "job-turn:4", "job-started:1", "job-started:5"] {
        check(point).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_death_around_the_effect_loses_and_doubles_nothing() -> Result<()> {
    for point in ["effect-next:1", "effect-next:6", "effect-done:1", "effect-done:7"] {
        check(point).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_death_around_the_last_commit_of_a_job_loses_and_doubles_nothing() -> Result<()> {
    for point in ["job-worked:1", "job-worked:8", "job-ended:1", "job-ended:6"] {
        check(point).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_death_around_any_commit_loses_and_doubles_nothing() -> Result<()> {
    // The first few are the start's own.
    for count in [6, 7, 9, 12] {
        check(&format!("commit-next:{count}")).await?;
        check(&format!("commit-done:{count}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_death_between_forgetting_a_job_and_removing_its_files_leaves_none_behind() -> Result<()> {
    let (_server, place) = scene().await?;
    let client = start(&place, None).await?;
    let cmd = "head -c 200000 /dev/zero | tr '\\0' x";
    client.call("task_exec", json!({"alias": "box", "cmd": cmd})).await?.ok()?;
    client.close().await?;
    let files = || std::fs::read_dir(place.data().join("outputs")).map_or(0, Iterator::count);
    assert_eq!(files(), 1);
    let forgetting =
        Launch::new(&place).env("HISTORY_RETENTION", "1").env("ORCHESTRATOR_FAILPOINT", "jobs-forgotten:1");
    // It forgets as it starts, so it may die before it has greeted.
    if let Ok(client) = forgetting.start().await {
        client.ended(DEATH).await?;
    }
    assert_eq!(files(), 1, "it died before it removed the file");
    let client = start(&place, None).await?;
    wait::until("the file without a job to be gone", DEATH, || files() == 0).await?;
    let stats = client.call("queue_stats", json!({})).await?.ok()?;
    assert_eq!(stats.structured["total"], 0, "{}", stats.text);
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_death_while_a_long_queue_is_recovered_leaves_the_rest_to_the_next_start() -> Result<()> {
    // More than a start ends before it serves.
    const QUEUED: usize = 3_000;
    let (_server, place) = scene().await?;
    let launch = || Launch::new(&place).env("MAX_RUNNING_JOBS", "1").env("MAX_QUEUE_SIZE", "5000");
    let client = launch().start().await?;
    let held = client.begin_call("task_exec", json!({"alias": "box", "cmd": Sleep::new().command})).await?;
    let runs = place.root().join("runs");
    let cmd = format!("echo run >> {}", runs.display());
    let by_status = async |client: &Client| -> Result<serde_json::Value> {
        let stats = client.call("queue_stats", json!({})).await?.ok()?.structured;
        Ok(stats["byStatus"].clone())
    };
    let until = async |wanted: serde_json::Value| {
        let reached = async {
            while by_status(&client).await? != wanted {
                // Each look visits thousands of records, which must not keep the others from being written.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(DEATH, reached).await?
    };
    // Calls of one client are taken up in any order, and this one has to have the only place.
    until(json!({"running": 1})).await?;
    let mut calls = vec![held];
    for _ in 0..QUEUED {
        calls.push(client.begin_call("task_exec", json!({"alias": "box", "cmd": cmd})).await?);
    }
    until(json!({"running": 1, "pending": QUEUED})).await?;
    client.expect_death();
    client.kill().await?;
    drop((calls, client));
    let dying = launch().env("ORCHESTRATOR_FAILPOINT", "jobs-recovered:1").start().await;
    // It recovers as it starts, so it may die before it has greeted.
    if let Ok(client) = dying {
        client.ended(DEATH).await?;
    }
    let client = launch().start().await?;
    assert_eq!(by_status(&client).await?, json!({"crashed": QUEUED + 1}));
    let history = client.call("task_history", json!({"limit": 200})).await?.ok()?.structured;
    let jobs = history["jobs"].as_array().context("no jobs")?;
    ensure!(jobs.len() == 200 && jobs.iter().all(|job| job["status"] == "crashed"), "{history:#}");
    // One of them is run again because somebody asks for it, and none by itself.
    let retried = client.call("task_retry", json!({"id": jobs[0]["id"]})).await?.ok()?;
    assert_eq!(retried.structured["result"]["exit_code"], 0, "{:#}", retried.structured);
    assert_eq!(std::fs::read_to_string(&runs)?, "run\n");
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_kill_in_the_middle_of_many_mixed_jobs_loses_and_doubles_nothing() -> Result<()> {
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rounds, jobs) = (number("ORCHESTRATOR_CRASH_ROUNDS", 1), number("ORCHESTRATOR_CRASH_JOBS", 120));
    let begun = Instant::now();
    for round in 0..rounds {
        let (_server, place) = scene().await?;
        let launch = || Launch::new(&place).env("MAX_QUEUE_SIZE", "5000").env("MCP_SYNC_TIMEOUT_S", "600");
        let mut ledger = Ledger::new(place.root(), jobs);
        let client = launch().start().await?;
        let moment = rand::rng().random_range(1..jobs);
        ledger.hand_in(&client, Some(moment)).await?;
        client.ended(DEATH).await?;
        drop(client);
        let client = launch().start().await?;
        ledger.check(&client).await.with_context(|| format!("round {round}, killed after {moment} answers"))?;
        client.close().await?;
        println!("round {round}: killed after {moment} of {jobs} answers, {:?} in all", begun.elapsed());
    }
    Ok(())
}
