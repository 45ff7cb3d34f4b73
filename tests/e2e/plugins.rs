//! Plugins through the whole program: one that works on a real server, and guests that misbehave and harm nobody else.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::{Value, json};

use crate::support::{Rig, alone, repository};

/// The folder of the built guests: `ORCHESTRATOR_GUESTS`, else where `cargo xtask build --guests` puts them.
pub fn guest(name: &str) -> Result<PathBuf> {
    let folder =
        std::env::var_os("ORCHESTRATOR_GUESTS").map_or_else(|| repository().join("target/guests"), PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    ensure!(path.is_file(), "{} is missing: run `cargo xtask build --guests`", path.display());
    Ok(path)
}

/// A program with these guests installed.
async fn with_guests(names: &[&str], toml: &str) -> Result<(Client, Place)> {
    let place = Place::new()?;
    for name in names {
        place.install_plugin(&guest(name)?)?;
    }
    place.configure(toml)?;
    let client = Launch::new(&place).start().await?;
    Ok((client, place))
}

/// The entry of `plugin_list` whose name, or file, is this.
async fn listed(client: &Client, name: &str) -> Result<Value> {
    let list = client.call("plugin_list", json!({})).await?.ok()?;
    let plugins = list.structured["plugins"].as_array().context("no plugins")?.clone();
    let is_it = |plugin: &Value| {
        plugin["name"] == name
            || plugin["source"].as_str().is_some_and(|source| source.ends_with(&format!("/{name}.wasm")))
    };
    plugins.iter().find(|plugin| is_it(plugin)).cloned().with_context(|| format!("{name} is not listed: {plugins:#?}"))
}

/// Whether the rest goes on: a core tool answers, and the bundled plugin is there.
async fn all_is_well(client: &Client) -> Result<()> {
    client.call("queue_stats", json!({})).await?.ok()?;
    let monitoring = listed(client, "monitoring").await?;
    ensure!(monitoring["state"] == "ready", "{monitoring:#}");
    Ok(())
}

#[tokio::test]
async fn the_bundled_plugin_reports_a_real_server() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.client.call("get_system_resources", json!({"alias": "box"})).await?.ok()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    assert!(result.structured.to_string().contains(kernel.trim()), "{:#}", result.structured);
    let total = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = total.split_whitespace().nth(1).context("no MemTotal")?.parse()?;
    assert!(result.structured.to_string().contains(&(kib * 1024).to_string()), "{:#}", result.structured);
    let job = rig.only_job("box").await?;
    assert_eq!(job["tool"], "get_system_resources");
    assert_eq!(job["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn a_bundled_plugin_is_listed_with_its_tools_and_grants() -> Result<()> {
    let (client, _place) = alone().await?;
    let plugin = listed(&client, "monitoring").await?;
    assert_eq!(plugin["source"], "bundled");
    assert_eq!(plugin["state"], "ready");
    assert!(plugin["tools"].as_array().is_some_and(|tools| tools.contains(&json!("get_system_resources"))));
    assert_eq!(plugin["digest"].as_str().map(str::len), Some(64));
    assert!(plugin["grants"].to_string().contains("exec"), "{plugin:#}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_is_switched_off_by_the_operator() -> Result<()> {
    let (client, _place) = with_guests(&[], "[plugins.monitoring]\nenabled = false\n").await?;
    assert!(!client.tools().await?.iter().any(|tool| tool.name == "get_system_resources"));
    assert_eq!(listed(&client, "monitoring").await?["state"], "disabled");
    Ok(())
}

#[tokio::test]
async fn a_plugin_from_the_folder_is_loaded_and_gets_its_settings() -> Result<()> {
    let (client, _place) = with_guests(&["echo"], "[plugins.echo.settings]\ncolour = \"blue\"\n").await?;
    let result = client.call("echo", json!({"a": [1, "ü"]})).await?.ok()?;
    assert_eq!(result.structured["arguments"], json!({"a": [1, "ü"]}));
    let settings = client.call("guest_settings", json!({})).await?.ok()?;
    assert!(settings.structured.to_string().contains("blue"), "{:#}", settings.structured);
    let plugin = listed(&client, "echo").await?;
    assert!(plugin["source"].as_str().is_some_and(|source| source.ends_with("echo.wasm")), "{plugin:#}");
    Ok(())
}

#[tokio::test]
async fn what_a_plugin_keeps_is_there_after_a_restart_and_its_secret_is_nowhere_to_be_read() -> Result<()> {
    let (client, place) = with_guests(&["echo"], "").await?;
    client.call("guest_kv", json!({"op": "set", "key": "colour", "value": "blue"})).await?.ok()?;
    client.call("guest_secret", json!({"op": "set", "key": "token", "value": "hunter2-hunter2"})).await?.ok()?;
    client.close().await?;
    let client = Launch::new(&place).start().await?;
    let kept = client.call("guest_kv", json!({"op": "get", "key": "colour"})).await?.ok()?;
    assert_eq!(kept.structured["answer"], "blue");
    let exists = client.call("guest_secret", json!({"op": "exists", "key": "token"})).await?.ok()?;
    assert_eq!(exists.structured["answer"], true);
    let long = json!({"op": "set", "key": "colour", "value": "x", "repeat": 65_537});
    let problem = client.call("guest_kv", long).await?.problem("INVALID_ARGUMENT")?;
    problem.names(&["colour", "65537 bytes", "65536"])?;
    client.close().await?;
    for file in place.data_files()? {
        let bytes = std::fs::read(&file)?;
        ensure!(!bytes.windows(15).any(|window| window == b"hunter2-hunter2"), "{} holds it", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_loops_is_ended_and_harms_nobody() -> Result<()> {
    let (client, _place) = with_guests(&["loops"], "[plugin_limits]\ncompute_s = 1\n").await?;
    let started = Instant::now();
    let looping = client.begin_call("guest_loops", json!({})).await?;
    // While it loops, the others are served.
    let stats = tokio::time::timeout(Duration::from_secs(5), client.call("queue_stats", json!({}))).await;
    stats.context("a looping plugin holds up the others")??.ok()?;
    let problem = client.finish_call("guest_loops", looping).await?.problem("PLUGIN_TIMEOUT")?;
    problem.names(&["loops", "0.1.0"])?;
    assert!(started.elapsed() < Duration::from_secs(20));
    all_is_well(&client).await
}

#[tokio::test]
async fn a_plugin_that_eats_memory_is_ended_and_harms_nobody() -> Result<()> {
    let (client, _place) = with_guests(&["eats"], "").await?;
    client.call("guest_eats", json!({})).await?.problem("PLUGIN_FAILED")?.names(&["eats", "memory"])?;
    all_is_well(&client).await
}

#[tokio::test]
async fn a_plugin_that_traps_is_reported_and_harms_nobody() -> Result<()> {
    let (client, _place) = with_guests(&["traps"], "").await?;
    for _ in 0..3 {
        client.call("guest_traps", json!({})).await?.problem("PLUGIN_FAILED")?.names(&["traps", "0.1.0"])?;
    }
    let plugin = listed(&client, "traps").await?;
    assert_eq!(plugin["state"], "ready", "{plugin:#}");
    assert!(plugin.to_string().contains("PLUGIN_FAILED"), "the last error is not shown: {plugin:#}");
    all_is_well(&client).await
}

/// Loads a component that must be refused; returns why.
async fn refused(client: &Client, name: &str) -> Result<String> {
    let plugin = listed(client, name).await?;
    ensure!(plugin["state"] == "failed", "{name}: {plugin:#}");
    all_is_well(client).await?;
    let told = plugin["error"].as_str().or(plugin["problem"].as_str()).unwrap_or_default();
    ensure!(!told.is_empty(), "{name} does not say why: {plugin:#}");
    Ok(told.to_owned())
}

#[tokio::test]
async fn guests_that_cannot_be_accepted_are_refused_with_the_reason() -> Result<()> {
    let names = ["bad-name", "clash", "garbage-schema", "loops-in-describe"];
    let (client, _place) = with_guests(&names, "[plugin_limits]\ncompute_s = 1\n").await?;
    assert!(refused(&client, "bad-name").await?.contains("bad name"));
    assert!(refused(&client, "clash").await?.contains("task_exec"));
    assert!(refused(&client, "garbage-schema").await?.contains("guest_garbage"));
    refused(&client, "loops-in-describe").await?;
    let tools = client.tools().await?;
    assert_eq!(tools.iter().filter(|tool| tool.name == "task_exec").count(), 1);
    client.call("system_diagnostics", json!({})).await?.ok()?;
    Ok(())
}

fn patched(component: &Path, from: &str, to: &str) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(component)?;
    ensure!(from.len() == to.len());
    let mut found = 0;
    let mut at = 0;
    while let Some(offset) = bytes[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        bytes[at + offset..at + offset + to.len()].copy_from_slice(to.as_bytes());
        at += offset + to.len();
        found += 1;
    }
    ensure!(found > 0, "{from} is not in {}", component.display());
    Ok(bytes)
}

#[tokio::test]
async fn files_that_are_no_plugin_of_this_contract_are_refused_with_the_reason() -> Result<()> {
    let place = Place::new()?;
    place.make_data()?;
    let folder = place.data().join("plugins");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("poem.wasm"), "Shall I compare thee to a summer's day?\n")?;
    std::fs::write(folder.join("empty.wasm"), "")?;
    // A core module, the smallest there is: magic number and version 1.
    std::fs::write(folder.join("module.wasm"), b"\0asm\x01\0\0\0")?;
    let later = patched(&guest("echo")?, "orchestrator:plugin/tools@0.1.0", "orchestrator:plugin/tools@0.9.0")?;
    std::fs::write(folder.join("later.wasm"), later)?;
    let half = std::fs::read(guest("echo")?)?;
    std::fs::write(folder.join("half.wasm"), &half[..half.len() / 2])?;
    std::fs::write(folder.join("notes.txt"), "not looked at")?;
    std::fs::create_dir(folder.join("folder.wasm"))?;
    let client = Launch::new(&place).start().await?;
    for name in ["poem", "empty", "module", "half"] {
        let told = refused(&client, name).await?;
        assert!(told.contains("component"), "{name}: {told}");
    }
    let told = refused(&client, "later").await?;
    assert!(told.contains("0.9.0") && told.contains("0.1.0"), "both versions are to be named: {told}");
    Ok(())
}

#[tokio::test]
async fn a_plugin_without_a_grant_is_told_which_line_to_ask_for() -> Result<()> {
    let place = Place::new()?;
    place.install_plugin(&guest("echo")?)?;
    let rig = Rig::in_place(place, Options::default(), |launch| launch).await?;
    let run = json!({"alias": "box", "command": {"program": "echo", "args": ["$(id)", "a b"]}});
    let problem = rig.client.call("guest_exec", run.clone()).await?.problem("NOT_GRANTED")?;
    problem.names(&["echo", "orchestrator.toml", "[plugins.echo.grants]", "servers"])?;
    assert_eq!(rig.sshd.logins(), 0, "a connection was made for a call that was not granted");
    let servers = rig.client.call("guest_servers", json!({})).await?.ok()?;
    assert_eq!(servers.structured["servers"], json!([]), "a plugin sees servers that it was not granted");

    // What is said to be missing is granted, once for the server and once for the command.
    let toml = "[plugins.echo.grants]\nservers = [\"box\"]\nexec = [[\"echo\", \"*\"]]\n";
    rig.place.configure(toml)?;
    let rig = rig.restart().await?;
    let result = rig.client.call("guest_exec", run).await?.ok()?;
    assert_eq!(result.structured["stdout"], "$(id) a b\n", "an argument was read by a shell");
    let other = json!({"alias": "box", "command": {"program": "id"}});
    rig.client.call("guest_exec", other).await?.problem("NOT_GRANTED")?.names(&["id"])?;
    Ok(())
}

#[tokio::test]
async fn what_a_plugin_prints_does_not_reach_standard_output() -> Result<()> {
    let (client, _place) = with_guests(&["echo"], "").await?;
    client.call("guest_print", json!({"message": "{\"jsonrpc\": \"stray\"}\n"})).await?.ok()?;
    client.check_purity()
}

#[tokio::test]
async fn a_plugins_problem_keeps_its_code_when_it_is_one_of_ours() -> Result<()> {
    let (client, _place) = with_guests(&["echo"], "").await?;
    client.call("guest_problem", json!({"code": "SERVER_NOT_FOUND"})).await?.problem("SERVER_NOT_FOUND")?;
    let own = client.call("guest_problem", json!({"code": "MY_OWN"})).await?.problem("PLUGIN_FAILED")?;
    assert_eq!(own.details["plugin_code"], "MY_OWN", "{}", own.details);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_plugin_call_ends() -> Result<()> {
    let (client, _place) = with_guests(&["echo"], "").await?;
    let endless = client.begin_call_with_token("guest_progress", json!({"steps": 0}), "p").await?;
    client.notification(|note| note["params"]["progressToken"] == "p").await?;
    client.cancel(endless.id).await?;
    let job = client.call("task_history", json!({"tool": "guest_progress"})).await?.ok()?;
    let id = job.structured["jobs"][0]["id"].clone();
    let ended = client.call("task_wait", json!({"id": id, "timeout": 20})).await?;
    assert_eq!(ended.str("status"), "cancelled", "{:#}", ended.structured);
    Ok(())
}

#[tokio::test]
async fn a_second_start_takes_descriptions_from_the_cache() -> Result<()> {
    let place = Place::new()?;
    place.install_plugin(&guest("echo")?)?;
    let first = Launch::new(&place).start().await?;
    let names: Vec<String> = first.tools().await?.iter().map(|tool| tool.name.clone()).collect();
    first.close().await?;
    let second = Launch::new(&place).start().await?;
    let again: Vec<String> = second.tools().await?.iter().map(|tool| tool.name.clone()).collect();
    assert_eq!(names, again);
    second.call("echo", json!({})).await?.ok()?;
    Ok(())
}
