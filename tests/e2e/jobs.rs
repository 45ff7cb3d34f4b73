//! The memory: what was run is known afterwards, with its result, and is counted.

use anyhow::{Context, Result};
use orchestrator_tests::client::Client;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, exec_arguments};

async fn history(client: &Client, arguments: Value) -> Result<Vec<Value>> {
    let listed = client.call("task_history", arguments).await?.ok()?;
    Ok(listed.structured["jobs"].as_array().context("no jobs")?.clone())
}

#[tokio::test]
async fn a_job_keeps_its_arguments_times_and_result() -> Result<()> {
    let rig = Rig::start().await?;
    let ran = rig.exec("echo kept; exit 3").await?;
    let id = ran.str("id").to_owned();
    let job = rig.client.call("task_status", json!({"id": id})).await?.ok()?.structured;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["tool"], "task_exec");
    assert_eq!(job["alias"], "box");
    assert_eq!(job["arguments"]["cmd"], "echo kept; exit 3");
    assert_eq!(job["result"]["stdout"], "kept\n");
    assert_eq!(job["result"]["exit_code"], 3);
    assert_eq!(job["attempts"], 1);
    assert!(job["caller"].as_str().is_some_and(|caller| caller.contains("orchestrator-tests")), "{job:#}");
    for time in ["created", "started", "ended"] {
        assert!(job[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time}: {job:#}");
    }
    Ok(())
}

#[tokio::test]
async fn the_history_is_newest_first_and_can_be_narrowed() -> Result<()> {
    let rig = Rig::start().await?;
    rig.client.call("server_add", rig.server("other")).await?.ok()?;
    for cmd in ["echo 1", "false", "echo 3"] {
        rig.exec(cmd).await?;
    }
    rig.client.call("task_exec", json!({"alias": "other", "cmd": "echo 4"})).await?.ok()?;
    let commands = |jobs: Vec<Value>| -> Vec<String> {
        jobs.iter().filter_map(|job| job["arguments"]["cmd"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(commands(history(&rig.client, json!({})).await?), ["echo 4", "echo 3", "false", "echo 1"]);
    assert_eq!(commands(history(&rig.client, json!({"alias": "other"})).await?), ["echo 4"]);
    assert_eq!(commands(history(&rig.client, json!({"status": "failed"})).await?), ["false"]);
    assert_eq!(commands(history(&rig.client, json!({"limit": 2})).await?), ["echo 4", "echo 3"]);
    assert!(history(&rig.client, json!({"tool": "get_system_resources"})).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_history_survives_a_restart() -> Result<()> {
    let rig = Rig::start().await?;
    let id = rig.exec("echo before").await?.ok()?.str("id").to_owned();
    let rig = rig.restart().await?;
    let job = rig.client.call("task_status", json!({"id": id})).await?.ok()?.structured;
    assert_eq!(job["status"], "completed");
    assert_eq!(job["result"]["stdout"], "before\n");
    let later = rig.exec("echo after").await?.ok()?;
    assert!(later.str("id") > id.as_str(), "ids must grow: {id} then {}", later.str("id"));
    Ok(())
}

#[tokio::test]
async fn jobs_are_counted_by_status_and_tool() -> Result<()> {
    let rig = Rig::start().await?;
    for cmd in ["true", "true", "true", "false"] {
        rig.exec(cmd).await?;
    }
    let stats = rig.client.call("queue_stats", json!({})).await?.ok()?.structured;
    assert_eq!(stats["total"], 4, "{stats:#}");
    assert_eq!(stats["byStatus"]["completed"], 3, "{stats:#}");
    assert_eq!(stats["byStatus"]["failed"], 1, "{stats:#}");
    assert_eq!(stats["byType"]["task_exec"], 4, "{stats:#}");
    assert_eq!(stats["successRate"], 0.75, "{stats:#}");
    Ok(())
}

#[tokio::test]
async fn a_job_past_its_reminder_says_so() -> Result<()> {
    let rig = Rig::with_env("MCP_SYNC_TIMEOUT_S", "1").await?;
    let sleep = Sleep::new();
    let handed = rig.exec_with(&sleep.command, json!({"rappel": 1})).await?.ok()?;
    let id = handed.str("id").to_owned();
    // The hand-over comes a second after the start, which is when the reminder is due: this wait passes it for sure.
    let waited = rig.client.call("task_wait", json!({"id": id, "timeout": 1})).await?;
    assert!(!waited.str("reminder").is_empty(), "{:#}", waited.structured);
    let listed = rig.client.call("task_queue", json!({})).await?.ok()?;
    assert!(listed.text.contains("reminder"), "{}", listed.text);
    Ok(())
}

#[tokio::test]
async fn what_runs_comes_first_in_the_queue() -> Result<()> {
    let rig = Rig::with_env("MCP_SYNC_TIMEOUT_S", "1").await?;
    let sleep = Sleep::new();
    let id = rig.exec(&sleep.command).await?.ok()?.str("id").to_owned();
    rig.exec("true").await?.ok()?;
    let queue = rig.client.call("task_queue", json!({})).await?.ok()?.structured;
    assert_eq!(queue["jobs"][0]["id"], id.as_str(), "{queue:#}");
    assert_eq!(queue["jobs"][0]["status"], "running");
    assert_eq!(queue["jobs"][1]["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn a_job_is_cancelled_by_its_id() -> Result<()> {
    let rig = Rig::with_env("MCP_SYNC_TIMEOUT_S", "1").await?;
    let sleep = Sleep::new();
    let id = rig.exec(&sleep.command).await?.ok()?.str("id").to_owned();
    sleep.runs().await?;
    rig.client.call("task_cancel", json!({"id": id})).await?;
    sleep.is_gone().await?;
    let job = rig.client.call("task_wait", json!({"id": id, "timeout": 20})).await?.structured;
    assert_eq!(job["status"], "cancelled", "{job:#}");
    Ok(())
}

#[tokio::test]
async fn a_full_queue_turns_work_away() -> Result<()> {
    let rig = Rig::with_env("MAX_QUEUE_SIZE", "1").await?;
    let sleep = Sleep::new();
    let running = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    let problem = rig.exec("true").await?.problem("QUEUE_FULL")?;
    problem.names(&["MAX_QUEUE_SIZE"])?;
    assert!(problem.retryable, "there will be room later");
    rig.client.cancel(running.id).await?;
    sleep.is_gone().await
}

#[tokio::test]
async fn a_repeated_call_with_the_same_key_runs_once() -> Result<()> {
    let rig = Rig::start().await?;
    let file = rig.sshd.folder().join("count");
    let cmd = format!("echo run >> {}; wc -l < {}", file.display(), file.display());
    let first = rig.exec_with(&cmd, json!({"idempotencyKey": "once"})).await?.ok()?;
    let second = rig.exec_with(&cmd, json!({"idempotencyKey": "once"})).await?.ok()?;
    assert_eq!(first.str("id"), second.str("id"));
    assert_eq!(std::fs::read_to_string(&file)?, "run\n");
    Ok(())
}

#[tokio::test]
async fn a_failed_job_is_retried_three_times_at_most() -> Result<()> {
    let rig = Rig::start().await?;
    let mut id = rig.exec("exit 9").await?.str("id").to_owned();
    for _ in 0..3 {
        let retried = rig.client.call("task_retry", json!({"id": id})).await?;
        assert!(retried.is_error, "{}", retried.text);
        let jobs = history(&rig.client, json!({"limit": 1})).await?;
        let newest = jobs.first().context("no job")?;
        assert_eq!(newest["retried_from"], id.as_str(), "{newest:#}");
        id = newest["id"].as_str().context("no id")?.to_owned();
    }
    rig.client.call("task_retry", json!({"id": id})).await?.problem("RETRY_LIMIT_EXCEEDED")?.names(&[&id])
}

#[tokio::test]
async fn the_whole_of_a_long_output_can_be_read_page_by_page() -> Result<()> {
    let rig = Rig::start().await?;
    let ran = rig.exec("seq 1 40000").await?.ok()?;
    assert_eq!(ran.structured["truncated"], true);
    let id = ran.str("id").to_owned();
    let (mut whole, mut offset) = (String::new(), 0);
    loop {
        let arguments = json!({"id": id, "offset": offset, "limit": 50_000});
        let page = rig.client.call("task_output", arguments).await?.ok()?;
        whole.push_str(page.str("text"));
        match page.structured["next_offset"].as_u64() {
            Some(next) => {
                assert!(next > offset, "paging does not go on");
                offset = next;
            }
            None => break,
        }
    }
    let wanted: String = (1..=40_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(whole.len(), wanted.len());
    assert!(whole == wanted, "the pages do not make the whole");
    let tail = rig.client.call("task_output", json!({"id": id, "tail": 2})).await?.ok()?;
    assert_eq!(tail.str("text"), "39999\n40000\n");
    Ok(())
}

#[tokio::test]
async fn the_log_and_the_diagnostics_answer() -> Result<()> {
    let rig = Rig::start().await?;
    rig.exec("false").await?;
    for tool in ["system_diagnostics", "task_logs", "help", "pool_stats", "plugin_list"] {
        let result = rig.client.call(tool, json!({})).await?.ok()?;
        assert!(!result.text.is_empty(), "{tool}");
    }
    let help = rig.client.call("help", json!({"tool": "task_exec"})).await?.ok()?;
    assert!(help.text.contains("cmd"), "{}", help.text);
    Ok(())
}
