//! The protocol: five versions, a list of tools that can be relied on, and a program that survives what a client sends.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Launch, RpcError, Tool, Version};
use orchestrator_tests::place::Place;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, alone, exec_arguments};

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| tool.name.as_str()).collect()
}

#[tokio::test]
async fn all_five_versions_are_served() -> Result<()> {
    for version in Version::ALL {
        let place = Place::new()?;
        let client = Launch::new(&place).version(version).start().await?;
        assert!(!client.tools().await?.is_empty(), "{version:?}");
        let stats = client.call("queue_stats", json!({})).await?.ok()?;
        assert!(!stats.text.is_empty(), "{version:?}");
        if version.has_structured_content() {
            assert_eq!(stats.structured["total"], 0, "{version:?}");
        }
        assert!(client.close().await?.success(), "{version:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_program_names_itself() -> Result<()> {
    let (client, _place) = alone().await?;
    assert_eq!(client.greeting["serverInfo"]["name"], "mcp-orchestrator");
    assert!(client.greeting["serverInfo"]["version"].as_str().is_some_and(|version| !version.is_empty()));
    assert!(client.greeting["capabilities"]["tools"].is_object());
    Ok(())
}

#[tokio::test]
async fn the_list_of_tools_is_the_same_for_everybody() -> Result<()> {
    let (client, _place) = alone().await?;
    let first = client.list_tools().await?;
    let second = client.list_tools().await?;
    assert_eq!(names(&first), names(&second));
    let place = Place::new()?;
    let other = Launch::new(&place).version(Version::V2026_07_28).start().await?;
    assert_eq!(names(&first), names(other.tools().await?));
    assert_eq!(first.len(), {
        let mut unique = names(&first);
        unique.sort_unstable();
        unique.dedup();
        unique.len()
    });
    Ok(())
}

#[tokio::test]
async fn the_newest_version_tells_how_long_the_list_may_be_kept() -> Result<()> {
    let place = Place::new()?;
    let client = Launch::new(&place).version(Version::V2026_07_28).start().await?;
    let list = client.request("tools/list", json!({})).await?;
    assert!(list["ttlMs"].is_u64(), "no ttlMs: {:?}", list.as_object().map(|map| map.keys().collect::<Vec<_>>()));
    assert!(list["cacheScope"].is_string());
    Ok(())
}

#[tokio::test]
async fn every_tool_is_fully_described() -> Result<()> {
    let (client, _place) = alone().await?;
    for Tool { name, entry } in client.tools().await? {
        let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        assert!(legal && name.len() <= 64 && !name.contains("__"), "{name} is no tool name");
        let title = entry["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty() && !title.contains('\n'), "{name}: title {title:?}");
        assert!(entry["description"].as_str().is_some_and(|text| text.len() > 20), "{name} has no description");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(entry["annotations"][hint].is_boolean(), "{name} lacks {hint}");
        }
        described(name, &entry["inputSchema"])?;
        assert_eq!(entry["outputSchema"]["type"], "object", "{name}: output schema");
        jsonschema::validator_for(&entry["outputSchema"]).with_context(|| format!("{name}: output schema"))?;
        for schema in ["inputSchema", "outputSchema"] {
            ensure!(has_single_types(&entry[schema]), "{name}: a list of types in its {schema}");
        }
    }
    Ok(())
}

/// A list of types is good JSON Schema, and refused by models that take the dialect of OpenAPI 3.0, with all tools beside it.
fn has_single_types(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.iter().all(|(name, value)| {
            let is_list = name == "type" && value.is_array();
            !is_list && has_single_types(value)
        }),
        Value::Array(items) => items.iter().all(has_single_types),
        _ => true,
    }
}

/// An object schema with a description per property.
fn described(tool: &str, schema: &Value) -> Result<()> {
    ensure!(schema["type"] == "object", "{tool}: the input schema is of type {}", schema["type"]);
    jsonschema::validator_for(schema).with_context(|| format!("{tool}: input schema"))?;
    for (property, shape) in schema["properties"].as_object().into_iter().flatten() {
        let text = shape["description"].as_str().unwrap_or_default();
        ensure!(!text.is_empty(), "{tool}: argument {property} has no description: {shape}");
    }
    Ok(())
}

#[tokio::test]
async fn the_list_of_tools_stays_small() -> Result<()> {
    let (client, _place) = alone().await?;
    let list = client.request("tools/list", json!({})).await?;
    let bytes = list.to_string().len();
    assert!(bytes < 25 * 1024, "tools/list has {bytes} bytes");
    Ok(())
}

#[tokio::test]
async fn garbage_on_standard_input_harms_nobody() -> Result<()> {
    let (client, _place) = alone().await?;
    for garbage in [
        &b"hello\n"[..],
        b"\n",
        b"{\n",
        b"[]\n",
        b"{\"jsonrpc\":\"2.0\"}\n",
        b"{\"jsonrpc\":\"1.0\",\"id\":\"x\",\"method\":\"ping\"}\n",
        b"\xff\xfe\x00\x01\n",
        b"\x1b[31mred\x1b[0m\r\n",
        b"null\n",
    ] {
        client.send_raw(garbage).await?;
    }
    client.call("queue_stats", json!({})).await?.ok()?;
    client.check_purity()
}

#[tokio::test]
async fn garbage_before_the_handshake_harms_nobody() -> Result<()> {
    let place = Place::new()?;
    let client = Launch::new(&place).spawn().await?;
    client.send_raw(b"hello\n{\n\xff\n").await?;
    let hello =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let greeting = client.request("initialize", hello).await?;
    assert_eq!(greeting["protocolVersion"], "2025-11-25");
    Ok(())
}

#[tokio::test]
async fn an_argument_of_five_megabytes_arrives() -> Result<()> {
    let rig = Rig::start().await?;
    let stdin = "0123456789abcdef".repeat(5 << 16);
    let result = rig.exec_with("wc -c", json!({"stdin": stdin})).await?.ok()?;
    assert_eq!(result.str("stdout").trim(), (5 << 20).to_string());
    Ok(())
}

#[tokio::test]
async fn an_unknown_tool_is_named_in_the_error() -> Result<()> {
    let (client, _place) = alone().await?;
    let pending = client.begin_call("task_exek", json!({})).await?;
    let error = client.finish(pending).await.expect_err("an unknown tool was called");
    let error = error.downcast_ref::<RpcError>().context("not a JSON-RPC error")?;
    assert_eq!(error.code, -32602, "{error}");
    assert!(error.message.contains("task_exek"), "{error}");
    assert!(error.to_string().contains("task_exec"), "the nearest tool is not named: {error}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_method_is_not_found() -> Result<()> {
    let (client, _place) = alone().await?;
    let error = client.request("tools/burn", json!({})).await.expect_err("an unknown method was answered");
    assert_eq!(error.downcast_ref::<RpcError>().context("not a JSON-RPC error")?.code, -32601);
    client.request("ping", json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn the_program_ends_when_its_input_closes() -> Result<()> {
    let (client, _place) = alone().await?;
    let status = client.close().await?;
    assert_eq!(status.code(), Some(0), "{status}");
    Ok(())
}

#[tokio::test]
async fn the_program_ends_when_its_input_closes_while_a_command_runs() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let _pending = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    let status = rig.client.close().await?;
    assert_eq!(status.code(), Some(0), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_call_ends_the_remote_command() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let pending = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    rig.client.cancel(pending.id).await?;
    sleep.is_gone().await?;
    let id = rig.only_job("box").await?["id"].clone();
    // The process goes first; the job ends when the server has said so.
    let job = rig.client.call("task_wait", json!({"id": id, "timeout": 20})).await?.structured;
    assert_eq!(job["status"], "cancelled", "{job:#}");
    Ok(())
}

#[tokio::test]
async fn progress_comes_for_a_token() -> Result<()> {
    let rig = Rig::start().await?;
    let cmd = "for i in 1 2 3 4; do echo line $i; sleep 0.7; done";
    let pending = rig.client.begin_call_with_token("task_exec", exec_arguments(cmd, json!({})), "tok-1").await?;
    let note = rig.client.notification(|note| note["method"] == "notifications/progress").await?;
    assert_eq!(note["params"]["progressToken"], "tok-1");
    assert!(note["params"]["progress"].is_number(), "{note}");
    rig.client.finish_call("task_exec", pending).await?.ok()?;
    let steps: Vec<f64> = rig
        .client
        .notifications()
        .iter()
        .filter(|note| note["method"] == "notifications/progress")
        .filter_map(|note| note["params"]["progress"].as_f64())
        .collect();
    assert!(steps.is_sorted(), "progress went back: {steps:?}");
    Ok(())
}

#[tokio::test]
async fn no_progress_comes_without_a_token() -> Result<()> {
    let rig = Rig::start().await?;
    rig.exec("echo a; sleep 1.5; echo b").await?.ok()?;
    assert!(rig.client.notifications().is_empty(), "{:?}", rig.client.notifications());
    Ok(())
}

#[tokio::test]
async fn answers_come_when_they_are_ready_and_not_in_the_order_of_the_questions() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let slow = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    let quick = tokio::time::timeout(Duration::from_secs(10), rig.exec("echo quick")).await??.ok()?;
    assert_eq!(quick.str("stdout"), "quick\n");
    rig.client.cancel(slow.id).await
}
