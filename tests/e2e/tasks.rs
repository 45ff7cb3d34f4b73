//! Jobs as MCP tasks (`io.modelcontextprotocol/tasks`): the same ids, the same results, also after a restart.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, RpcError, Version};
use orchestrator_tests::sshd::Options;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{Rig, Sleep};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

async fn rig() -> Result<Rig> {
    Rig::with(Options::default(), |launch| launch.version(Version::V2026_07_28)).await
}

/// A request of a client that declares the extension.
async fn ask(client: &Client, method: &str, mut params: Value) -> Result<Value> {
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}});
    client.request(method, params).await
}

async fn exec(client: &Client, cmd: &str) -> Result<Value> {
    ask(client, "tools/call", json!({"name": "task_exec", "arguments": {"alias": "box", "cmd": cmd}})).await
}

async fn get(client: &Client, id: &str) -> Result<Value> {
    ask(client, "tasks/get", json!({"taskId": id})).await
}

/// Polls as the server asks to, until the task is no longer at work.
async fn finished(client: &Client, id: &str) -> Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let task = get(client, id).await?;
        if task["status"] != "working" {
            return Ok(task);
        }
        ensure!(Instant::now() < deadline, "still at work: {task:#}");
        sleep(Duration::from_millis(task["pollIntervalMs"].as_u64().context("no pollIntervalMs")?)).await;
    }
}

fn id_of(task: &Value) -> Result<String> {
    ensure!(task["resultType"] == "task", "no task was created: {task:#}");
    Ok(task["taskId"].as_str().context("no taskId")?.to_owned())
}

fn code(error: &anyhow::Error) -> Option<i64> {
    error.downcast_ref::<RpcError>().map(|error| error.code)
}

#[tokio::test]
async fn a_long_job_is_a_task_with_the_jobs_id_and_its_result() -> Result<()> {
    let rig = rig().await?;
    assert!(rig.client.greeting["capabilities"]["extensions"][EXTENSION].is_object(), "{:#}", rig.client.greeting);
    let go = rig.sshd.folder().join("go");
    let cmd = format!("while ! test -e {}; do sleep 0.1; done; echo done; exit 3", go.display());
    let created = exec(&rig.client, &cmd).await?;
    let id = id_of(&created)?;
    assert_eq!(created["status"], "working", "{created:#}");
    assert_eq!(created["ttlMs"], Value::Null, "it is not forgotten while it is at work");
    let working = get(&rig.client, &id).await?;
    assert_eq!((&working["status"], &working["resultType"]), (&json!("working"), &json!("complete")), "{working:#}");
    assert!(working["statusMessage"].as_str().is_some_and(|text| text.contains("running")), "{working:#}");
    std::fs::write(&go, "")?;
    let task = finished(&rig.client, &id).await?;
    // A command that exits non-zero has a result.
    assert_eq!(task["status"], "completed", "{task:#}");
    assert_eq!(task["result"]["isError"], true);
    assert_eq!(task["result"]["structuredContent"]["exit_code"], 3, "{task:#}");
    assert_eq!(task["result"]["structuredContent"]["stdout"], "done\n");
    assert!(task["ttlMs"].as_u64().is_some_and(|ttl| ttl >= 2_678_400_000), "as long as the history: {task:#}");
    let job = rig.client.call("task_status", json!({"id": id})).await?.ok()?.structured;
    assert_eq!(job["status"], "failed", "the queue's own word for it: {job:#}");
    Ok(())
}

#[tokio::test]
async fn what_is_soon_done_is_told_at_once_and_only_jobs_are_tasks() -> Result<()> {
    let rig = rig().await?;
    let told = exec(&rig.client, "echo hi").await?;
    assert_eq!(told["structuredContent"]["stdout"], "hi\n", "{told:#}");
    // Its job can be asked for as a task all the same.
    let id = told["structuredContent"]["id"].as_str().context("no id")?;
    assert_eq!(get(&rig.client, id).await?["result"]["structuredContent"]["stdout"], "hi\n");
    let sleep = Sleep::new();
    let running = id_of(&exec(&rig.client, &sleep.command).await?)?;
    // Waiting for longer than a job's call would have been kept.
    let waited = json!({"name": "task_wait", "arguments": {"id": running, "timeout": 2}});
    let waited = ask(&rig.client, "tools/call", waited).await?;
    assert_eq!(waited["resultType"], "complete", "{waited:#}");
    assert_eq!(waited["structuredContent"]["status"], "running", "{waited:#}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_declare_tasks_gets_none() -> Result<()> {
    let rig =
        Rig::with(Options::default(), |launch| launch.version(Version::V2026_07_28).env("MCP_SYNC_TIMEOUT_S", "2"))
            .await?;
    let sleep = Sleep::new();
    let told = rig.exec(&sleep.command).await?.ok()?;
    assert_eq!(told.str("next"), "task_wait", "{}", told.text);
    let refused = rig.client.request("tasks/get", json!({"taskId": told.str("id")})).await.unwrap_err();
    assert_eq!(code(&refused), Some(-32021), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_task_is_cancelled_and_its_command_stopped() -> Result<()> {
    let rig = rig().await?;
    let sleep = Sleep::new();
    let id = id_of(&exec(&rig.client, &sleep.command).await?)?;
    sleep.runs().await?;
    let done = ask(&rig.client, "tasks/cancel", json!({"taskId": id})).await?;
    assert_eq!(done, json!({"resultType": "complete"}));
    let task = finished(&rig.client, &id).await?;
    assert_eq!(task["status"], "cancelled", "{task:#}");
    sleep.is_gone().await?;
    // Once more is no error, and there is nothing to answer in it.
    ask(&rig.client, "tasks/cancel", json!({"taskId": id})).await?;
    ask(&rig.client, "tasks/update", json!({"taskId": id, "inputResponses": {"nobody": {"asked": 1}}})).await?;
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_not_there_is_a_wrong_parameter() -> Result<()> {
    let rig = rig().await?;
    for (method, params) in [
        ("tasks/get", json!({"taskId": "j0000000000000"})),
        ("tasks/cancel", json!({"taskId": "nonsense"})),
        ("tasks/update", json!({"taskId": "j0000000000000", "inputResponses": {}})),
    ] {
        let error = ask(&rig.client, method, params).await.unwrap_err();
        assert_eq!(code(&error), Some(-32602), "{method}: {error:?}");
        assert!(format!("{error:#}").contains("there is no job"), "{method}: {error:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_task_survives_a_restart_and_a_crash_is_told_as_its_failure() -> Result<()> {
    let rig = rig().await?;
    let done = id_of(&exec(&rig.client, "sleep 1.5; echo done").await?)?;
    finished(&rig.client, &done).await?;
    let sleep = Sleep::new();
    let running = id_of(&exec(&rig.client, &sleep.command).await?)?;
    sleep.runs().await?;
    let rig = rig.crash().await?;
    let kept = get(&rig.client, &done).await?;
    assert_eq!(kept["result"]["structuredContent"]["stdout"], "done\n", "{kept:#}");
    let lost = get(&rig.client, &running).await?;
    assert_eq!(lost["status"], "failed", "{lost:#}");
    assert!(
        lost["error"]["message"].as_str().is_some_and(|text| text.contains("stopped while this job ran")),
        "{lost:#}"
    );
    Ok(())
}
