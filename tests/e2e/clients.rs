//! The program through the clients that people have: the SDKs for Python and TypeScript, in both eras of the protocol, and the
//! inspector. What a user of them would write is in `tests/clients`, and asserts for itself.
//!
//! They are installed outside of this repository, so a plain `cargo test` leaves them out and says so; `cargo xtask test` and
//! `cargo xtask clients` run them.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::clients::{Scene, Sdk};
use serde_json::{Value, json};

/// The fraction of a `sleep` that no other process has. It lasts for more than a minute.
fn unique_sleep() -> String {
    format!("90.{:010}", rand::random::<u32>())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn every_client_reads_the_tools_and_holds_their_results_against_the_schemas() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    for sdk in Sdk::ALL {
        scene.play(sdk, "tools", json!({})).await?;
    }
    Ok(())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn every_client_sees_how_far_a_command_has_come() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    for sdk in Sdk::ALL {
        scene.play(sdk, "progress", json!({})).await?;
    }
    Ok(())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn a_job_of_a_client_that_was_killed_is_awaited_by_another_one() -> Result<()> {
    let scene = Scene::set(&[("MCP_SYNC_TIMEOUT_S", "1")]).await?;
    for (index, first) in Sdk::ALL.into_iter().enumerate() {
        // Python's and TypeScript's in turns.
        let second = Sdk::ALL[(index + 2) % Sdk::ALL.len()];
        let go = scene.sshd.folder().join(format!("go{index}"));
        let cmd = format!("until test -e {}; do sleep 0.1; done; echo done", go.display());
        let (mut client, id) = scene.begin(first, "begin", json!({"cmd": cmd})).await?;
        client.kill().await?;
        std::fs::write(&go, "")?;
        scene.play(second, "wait", json!({"job": id})).await.with_context(|| format!("begun by {first:?}"))?;
    }
    Ok(())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn a_call_that_its_client_cancels_ends_the_command() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    for sdk in Sdk::ALL {
        scene.play(sdk, "cancel", json!({"sleep": unique_sleep()})).await?;
    }
    Ok(())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn every_client_asks_its_user_about_a_host_key() -> Result<()> {
    for sdk in Sdk::ALL {
        // A key that was vouched for is known from then on.
        let scene = Scene::set(&[]).await?;
        scene.play(sdk, "ask", json!({"server": scene.unknown_server()})).await?;
    }
    Ok(())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn a_long_job_is_a_task_to_the_clients_that_have_tasks() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    for sdk in Sdk::WITH_TASKS {
        scene.play(sdk, "tasks", json!({"sleep": unique_sleep()})).await?;
    }
    Ok(())
}

/// What the inspector prints, having ended with this code.
fn printed(output: &Output, code: i32) -> Result<Value> {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(code), "{code} was expected: {}\n{stdout}{stderr}", output.status);
    let told: Value = serde_json::from_str(&stdout).with_context(|| format!("no JSON: {stdout}{stderr}"))?;
    Ok(told["result"].clone())
}

#[ignore = "needs the clients: cargo xtask clients"]
#[tokio::test]
async fn the_inspector_lists_and_calls_tools() -> Result<()> {
    let scene = Scene::set(&[]).await?;
    let server = scene.server().to_string();
    for era in ["legacy", "modern"] {
        // It finds fault with schemas that some client cannot read.
        let list = printed(&scene.inspect(era, &["--method", "tools/list", "--strict"]).await?, 0)?;
        let names: Vec<&str> =
            list["tools"].as_array().context("no tools")?.iter().filter_map(|tool| tool["name"].as_str()).collect();
        ensure!(names.contains(&"task_exec") && names.contains(&"get_system_resources"), "{era}: {names:?}");
        let call = async |name: &str, arguments: &[&str], code: i32| {
            let arguments = [&["--method", "tools/call", "--tool-name", name], arguments].concat();
            let output = scene.inspect(era, &arguments).await?;
            printed(&output, code).with_context(|| format!("{era}: {name}"))
        };
        call("server_add", &["--tool-args-json", &server], 0).await?;
        let told = call("task_exec", &["--tool-arg", "alias=box", "cmd=echo hi"], 0).await?;
        assert_eq!(told["structuredContent"]["stdout"], "hi\n", "{told:#}");
        let told = call("get_system_resources", &["--tool-arg", "alias=box"], 0).await?;
        ensure!(told["structuredContent"]["memory"]["total_bytes"].as_u64() > Some(0), "{told:#}");
        // 5 is its word for a result that is an error.
        let told = call("task_exec", &["--tool-arg", "alias=nowhere", "cmd=echo hi"], 5).await?;
        assert_eq!(told["structuredContent"]["code"], "SERVER_NOT_FOUND", "{told:#}");
    }
    Ok(())
}
