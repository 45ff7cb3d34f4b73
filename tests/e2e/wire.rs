//! Connections that break or fall silent: the pool recovers, and the error says at which step it happened.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use orchestrator_tests::client::Client;
use orchestrator_tests::embedded::{Faults, Stall};
use orchestrator_tests::result::ToolResult;
use serde_json::json;

use crate::support::{Rig, exec_arguments, with_embedded};

async fn exec(client: &Client, cmd: &str, timeout: u64) -> Result<ToolResult> {
    client.call("task_exec", exec_arguments(cmd, json!({"timeout": timeout}))).await
}

#[tokio::test]
async fn a_severed_connection_is_replaced() -> Result<()> {
    let rig = Rig::start().await?;
    rig.exec("true").await?.ok()?;
    rig.sshd.sever();
    // A command that comes before its end was noticed is another test.
    while rig.client.call("server_list", json!({})).await?.ok()?.structured["servers"][0]["connected"] == true {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let result = rig.exec("echo back").await?.ok()?;
    assert_eq!(result.str("stdout"), "back\n");
    assert_eq!(rig.sshd.logins(), 2);
    Ok(())
}

#[tokio::test]
async fn a_command_that_meets_the_end_of_its_connection_is_run_once_or_said_to_be_in_doubt() -> Result<()> {
    let rig = Rig::start().await?;
    let file = rig.place.root().join("ran");
    let ran = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let cmd = format!("echo x >> {}", file.display());
    for _ in 0..20 {
        rig.exec("true").await?.ok()?;
        let before = ran();
        rig.sshd.sever();
        let result = rig.exec(&cmd).await?;
        if result.is_error {
            // It had left this machine, so nobody can know.
            let problem = result.problem("CONNECTION_FAILED")?;
            problem.at("run")?;
            assert!(result.text.contains("may still be running"), "{}", result.text);
            assert!(ran() <= before + 1);
        } else {
            assert_eq!(ran(), before + 1);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_cut_under_a_command_is_a_failure_and_the_command_is_not_run_again() -> Result<()> {
    let (client, server, _place) = with_embedded(Faults { cut_after: Some(10_000), ..Faults::default() }).await?;
    let result = exec(&client, "head -c 50000 /dev/zero | tr '\\0' x; sleep 30", 20).await?;
    let problem = result.problem("CONNECTION_FAILED")?;
    problem.names(&["box"])?;
    problem.at("run")?;
    assert_eq!(server.seen().commands.len(), 1, "a command that had begun was run again");
    server.set_faults(Faults::default());
    assert_eq!(exec(&client, "echo back", 20).await?.ok()?.str("stdout"), "back\n");
    Ok(())
}

#[tokio::test]
async fn an_end_that_nobody_told_is_not_a_success() -> Result<()> {
    let (client, _server, _place) = with_embedded(Faults { no_exit_status: true, ..Faults::default() }).await?;
    let result = exec(&client, "echo done", 20).await?;
    assert!(result.is_error, "{}", result.text);
    assert!(result.structured["exit_code"].is_null(), "{:#}", result.structured);
    Ok(())
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_step_where_it_fell_silent() -> Result<()> {
    let steps =
        [(Stall::Banner, "handshake"), (Stall::Login, "login"), (Stall::Channel, "channel"), (Stall::Exec, "run")];
    for (stall, step) in steps {
        let (client, _server, _place) = with_embedded(Faults { stall: Some(stall), ..Faults::default() }).await?;
        let started = Instant::now();
        let result = exec(&client, "true", 2).await?;
        assert!(started.elapsed() < Duration::from_secs(20), "{stall:?} took {:?}", started.elapsed());
        let code = result.str("code").to_owned();
        assert!(code == "COMMAND_TIMEOUT" || code == "CONNECTION_FAILED", "{stall:?}: {}", result.text);
        let problem = result.problem(&code)?;
        problem.names(&["box"]).with_context(|| format!("{stall:?}"))?;
        problem.at(step).with_context(|| format!("{stall:?}"))?;
    }
    Ok(())
}
