//! The story of a crash: the power goes, the program is killed, the machine reboots; then it starts again on what is there.
//!
//! A job that was running must not be run again by itself, since nobody knows how far it came: it is `crashed`, and said to
//! be. A job whose end was told to the client must be known as ended.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use crate::support::{Rig, Sleep, exec_arguments};

#[tokio::test]
async fn a_job_that_was_running_is_crashed_and_not_run_again() -> Result<()> {
    let rig = Rig::start().await?;
    let file = rig.sshd.folder().join("runs");
    let sleep = Sleep::new();
    let cmd = format!("echo run >> {}; {}", file.display(), sleep.command);
    let _running = rig.client.begin_call("task_exec", exec_arguments(&cmd, json!({}))).await?;
    sleep.runs().await?;
    let rig = rig.crash().await?;
    let job = rig.only_job("box").await?;
    assert_eq!(job["status"], "crashed", "{job:#}");
    let stats = rig.client.call("queue_stats", json!({})).await?.ok()?;
    assert_eq!(stats.structured["byStatus"]["crashed"], 1, "{:#}", stats.structured);
    let id = job["id"].as_str().context("no id")?;
    assert!(format!("{}{}", stats.text, stats.structured).contains(id), "the crashed job is not offered for a retry");
    // A command on the same server after the start: had the job been run again, it would have begun before this.
    rig.exec("true").await?.ok()?;
    assert_eq!(fs::read_to_string(&file)?, "run\n");
    Ok(())
}

#[tokio::test]
async fn what_was_told_is_kept() -> Result<()> {
    let mut rig = Rig::start().await?;
    for i in 0..5 {
        let told = rig.exec(&format!("echo {i}")).await?.ok()?;
        rig = rig.crash().await?;
        let job = rig.client.call("task_status", json!({"id": told.str("id")})).await?.ok()?.structured;
        assert_eq!(job["status"], "completed", "{job:#}");
        assert_eq!(job["result"]["stdout"], format!("{i}\n"));
    }
    let servers = rig.client.call("server_list", json!({})).await?.ok()?;
    assert_eq!(servers.structured["servers"][0]["alias"], "box");
    Ok(())
}

/// The job of a tool that only reads is recorded when it has ended.
#[tokio::test]
async fn what_was_read_and_told_is_kept() -> Result<()> {
    let mut rig = Rig::start().await?;
    let file = rig.sshd.folder().join("read");
    for i in 0..3 {
        fs::write(&file, format!("{i}\n"))?;
        let told = rig.client.call("tail_file", json!({"alias": "box", "filepath": file})).await?.ok()?;
        rig = rig.crash().await?;
        let job = rig.client.call("task_status", json!({"id": told.str("id")})).await?.ok()?.structured;
        assert_eq!(job["status"], "completed", "{job:#}");
        assert_eq!(job["result"]["lines"], json!([i.to_string()]));
    }
    let missing = json!({"alias": "box", "filepath": rig.sshd.folder().join("missing")});
    let id = rig.client.call("tail_file", missing).await?.problem("PLUGIN_FAILED")?.details["id"].clone();
    let rig = rig.crash().await?;
    let failed = rig.client.call("task_history", json!({"status": "failed"})).await?.ok()?.structured;
    assert_eq!((failed["jobs"].as_array().map(Vec::len), &failed["jobs"][0]["id"]), (Some(1), &id), "{failed:#}");
    Ok(())
}

#[tokio::test]
async fn a_crashed_job_is_retried_on_demand() -> Result<()> {
    let rig = Rig::start().await?;
    let file = rig.sshd.folder().join("stop");
    let sleep = Sleep::new();
    // The first run sleeps, the second finds the file and ends.
    let cmd = format!("test -e {0} && echo second || {{ touch {0}; {1}; }}", file.display(), sleep.command);
    let _running = rig.client.begin_call("task_exec", exec_arguments(&cmd, json!({}))).await?;
    sleep.runs().await?;
    let rig = rig.crash().await?;
    let id = rig.only_job("box").await?["id"].clone();
    let retried = rig.client.call("task_retry", json!({"id": id})).await?.ok()?;
    assert!(retried.text.contains("second"), "{}", retried.text);
    Ok(())
}
