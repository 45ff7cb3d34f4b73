//! What a bridge and a daemon say to each other before MCP begins, and how two that don't fit part: by version, by settings,
//! and when no daemon can be started at all.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::Launch;
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::place::Place;
use serde_json::{Value, json};

use crate::support::alone;

fn launch(place: &Place) -> Launch {
    Launch::new(place).shared().patience(Duration::from_secs(40))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon of another version: greets, then gives one reply per connection, and closes. Returns what it was asked.
/// After the last reply its socket is gone.
fn stranger(place: &Place, greeting: Value, replies: Vec<Value>) -> Result<JoinHandle<Result<Vec<Value>>>> {
    place.make_data()?;
    let path = place.data().join("orchestrator.sock");
    let listener = UnixListener::bind(&path)?;
    Ok(std::thread::spawn(move || {
        let mut asked = Vec::new();
        let last = replies.len().saturating_sub(1);
        for (number, reply) in replies.into_iter().enumerate() {
            let (stream, _) = listener.accept()?;
            writeln!(&stream, "{greeting}")?;
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line)?;
            asked.push(serde_json::from_str(&line).with_context(|| format!("asked {line:?}"))?);
            if number == last {
                fs::remove_file(&path)?;
            }
            writeln!(&stream, "{reply}")?;
        }
        Ok(asked)
    }))
}

fn old(protocol: u32) -> Value {
    json!({"protocol": protocol, "version": "0.0.1", "build": "old", "pid": 4242, "salt": "s", "settings": {}})
}

fn status(clients: u32) -> Value {
    json!({"clients": clients, "jobs": 0, "uptime_s": 5, "idle_s": 300})
}

fn with(reply: &str, mut status: Value) -> Value {
    status["reply"] = json!(reply);
    status
}

#[tokio::test]
async fn an_older_daemon_that_is_idle_is_replaced() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let old = stranger(&place, old(1), vec![with("stopping", status(0))])?;
    let client = launch(&place).start().await?;
    assert_eq!(old.join().map_err(|_| anyhow::anyhow!("it panicked"))??, [json!({"request": "replace"})]);
    client.call("queue_stats", json!({})).await?.ok()?;
    assert!(daemon.pid()? != 4242);
    assert_eq!(client.stderr(), "");
    Ok(())
}

#[tokio::test]
async fn an_older_daemon_that_is_in_use_goes_on_and_that_is_said() -> Result<()> {
    let place = Place::new()?;
    let old = stranger(&place, old(1), vec![with("busy", status(2)), json!({"reply": "session"})])?;
    let output = launch(&place).run().await?;
    let asked = old.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    assert_eq!(asked, [json!({"request": "replace"}), json!({"request": "session"})]);
    let said = said(&output);
    for word in ["0.0.1", "4242", "this is version", "clients: 2", "daemon stop"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_daemon_of_another_protocol_that_is_in_use_is_named_with_the_way_out() -> Result<()> {
    let place = Place::new()?;
    let old = stranger(&place, old(9), vec![with("busy", status(1))])?;
    let output = launch(&place).run().await?;
    old.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("4242") && said.contains("daemon stop"), "{said}");
    Ok(())
}

#[tokio::test]
async fn settings_that_differ_are_named_without_their_values() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let first = launch(&place).env("MCP_MASTER_KEY", "the first secret").start().await?;
    let other = |place: &Place| launch(place).env("MCP_MASTER_KEY", "the other secret").env("LOG_LEVEL", "debug");
    let second = other(&place).start().await?;
    let told = second.stderr();
    for word in ["LOG_LEVEL", "MCP_MASTER_KEY", "clients: 1", "daemon stop"] {
        assert!(told.contains(word), "{word:?} is missing: {told}");
    }
    assert!(!told.contains("MCP_SYNC_TIMEOUT_S"), "{told}");
    let pid = daemon.pid()?;
    first.close().await?;
    second.close().await?;
    let third = other(&place).start().await?;
    assert_eq!(third.stderr(), "");
    assert_ne!(daemon.pid()?, pid, "the daemon with the old settings went on");
    for file in place.data_files()? {
        let bytes = fs::read(&file)?;
        let found = bytes.windows(10).any(|part| part == b"the first " || part == b"the other ");
        assert!(!found, "{} holds a secret", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_was_put_there_is_loaded_by_the_next_client() -> Result<()> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let first = launch(&place).start().await?;
    let pid = daemon.pid()?;
    first.close().await?;
    fs::create_dir_all(place.data().join("plugins"))?;
    fs::write(place.data().join("plugins/broken.wasm"), "no component")?;
    let second = launch(&place).start().await?;
    assert_ne!(daemon.pid()?, pid);
    let plugins = second.call("plugin_list", json!({})).await?.ok()?;
    assert!(plugins.text.contains("broken"), "{}", plugins.text);
    Ok(())
}

/// Checks that no daemon was started, and that the client says why in the words that a standalone start has.
async fn as_alone(adapt: impl Fn(Launch) -> Launch, place: &Place, words: &[&str]) -> Result<()> {
    let alone = adapt(Launch::new(place)).patience(Duration::from_secs(30)).run().await?;
    let output = adapt(launch(place)).run().await?;
    let (alone, shared) = (said(&alone), said(&output));
    ensure!(output.status.code() == Some(1), "{}: {shared}", output.status);
    ensure!(output.stdout.is_empty(), "{output:?}");
    for word in words {
        ensure!(shared.contains(word), "{word:?} is not named: {shared}");
    }
    let reason = alone.lines().last().context("nothing was said")?;
    ensure!(shared.contains(reason), "alone it says {alone}\nand as a client {shared}");
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why_through_its_client() -> Result<()> {
    let place = Place::new()?;
    as_alone(|launch| launch.data("/sys/kernel/mcp-orchestrator"), &place, &["/sys/kernel/mcp-orchestrator"]).await?;
    as_alone(|launch| launch.env("MCP_SYNC_TIMEOUT_S", "soon"), &place, &["MCP_SYNC_TIMEOUT_S", "soon"]).await?;
    place.configure("sync_timout_s = 5\n")?;
    as_alone(|launch| launch, &place, &["orchestrator.toml", "sync_timeout_s"]).await?;
    place.configure("")?;
    fs::create_dir(place.data().join("orchestrator.redb"))?;
    as_alone(|launch| launch, &place, &["orchestrator.redb", "did not start"]).await?;
    ensure!(Daemon::of(&place).processes().is_empty(), "a daemon stayed");
    Ok(())
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_is_named_and_a_standalone_program_needs_none() -> Result<()> {
    let place = Place::new()?;
    place.make_data()?;
    let daemon = Daemon::of(&place);
    // It cannot be removed as a file.
    fs::create_dir_all(place.data().join("orchestrator.sock/in the way"))?;
    let output = launch(&place).run().await?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    ensure!(said(&output).contains("orchestrator.sock"), "{}", said(&output));
    ensure!(daemon.processes().is_empty(), "a daemon stayed");
    ensure!(Launch::new(&place).run().await?.status.success(), "the daemon left something behind");
    Ok(())
}

#[tokio::test]
async fn a_standalone_program_on_the_same_data_keeps_the_daemon_out() -> Result<()> {
    let (client, place) = alone().await?;
    as_alone(|launch| launch, &place, &["orchestrator.redb", "in use"]).await?;
    client.call("queue_stats", json!({})).await?.ok()?;
    assert!(client.close().await?.success());
    let _daemon = Daemon::of(&place);
    assert!(launch(&place).start().await?.close().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_damaged_database_is_reported_to_the_client_that_started_the_daemon() -> Result<()> {
    let place = Place::new()?;
    place.make_data()?;
    let daemon = Daemon::of(&place);
    fs::write(place.data().join("orchestrator.redb"), "this is not a database\n")?;
    let client = launch(&place).start().await?;
    assert!(client.stderr().contains(".corrupt-"), "{}", client.stderr());
    let told = client.call("system_diagnostics", json!({})).await?;
    assert!(told.text.contains(".corrupt-"), "{}", told.text);
    client.close().await?;
    // The next client has no part in it.
    let next = launch(&place).start().await?;
    assert_eq!(next.stderr(), "");
    assert_eq!(daemon.processes().len(), 1);
    Ok(())
}
