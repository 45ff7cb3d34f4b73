//! What people and models get wrong in a call: each error says what, where and what to do.

use std::net::TcpListener;

use anyhow::{Context, Result};
use orchestrator_tests::client::Client;
use serde_json::{Value, json};

use crate::support::{Rig, alone};

async fn add(client: &Client, host: &str, port: u16) -> Result<()> {
    let arguments = json!({"alias": "box", "host": host, "port": port, "user": "ops", "password": "x"});
    client.call("server_add", arguments).await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_named() -> Result<()> {
    let (client, _place) = alone().await?;
    // The port was free a moment ago, and nobody else is told about it.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    add(&client, "127.0.0.1", port).await?;
    let problem =
        client.call("task_exec", json!({"alias": "box", "cmd": "true"})).await?.problem("CONNECTION_FAILED")?;
    problem.names(&["box", "127.0.0.1", &port.to_string()])?;
    problem.at("connect")?;
    assert_eq!(problem.details["reason"], "ECONNREFUSED", "{}", problem.details);
    assert!(problem.retryable, "a port may be opened later");
    Ok(())
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() -> Result<()> {
    let (client, _place) = alone().await?;
    add(&client, "no-such-host.invalid", 22).await?;
    let problem =
        client.call("task_exec", json!({"alias": "box", "cmd": "true"})).await?.problem("CONNECTION_FAILED")?;
    problem.names(&["box", "no-such-host.invalid"])?;
    problem.at("resolve")
}

#[tokio::test]
async fn a_port_with_something_else_behind_it_is_no_ssh_server() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let other = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let (client, _place) = alone().await?;
    add(&client, "127.0.0.1", port).await?;
    let result = client.call("task_exec", json!({"alias": "box", "cmd": "true", "timeout": 10})).await?;
    other.abort();
    let problem = result.problem("CONNECTION_FAILED")?;
    problem.names(&["box", &port.to_string()])?;
    problem.at("handshake")
}

#[tokio::test]
async fn an_unknown_alias_brings_the_nearest_known_one() -> Result<()> {
    let (client, _place) = alone().await?;
    let none = client.call("task_exec", json!({"alias": "production", "cmd": "true"})).await?;
    none.problem("SERVER_NOT_FOUND")?.names(&["production", "server_add"])?;
    for alias in ["production", "staging"] {
        let arguments = json!({"alias": alias, "host": "192.0.2.1", "user": "ops", "password": "x"});
        client.call("server_add", arguments).await?.ok()?;
    }
    let problem =
        client.call("task_exec", json!({"alias": "producton", "cmd": "true"})).await?.problem("SERVER_NOT_FOUND")?;
    problem.names(&["\"producton\"", "production"])?;
    assert!(!problem.hint.contains("staging") || problem.hint.contains("production"), "{}", problem.hint);
    Ok(())
}

#[tokio::test]
async fn a_plugins_tool_knows_unknown_servers_too() -> Result<()> {
    let rig = Rig::start().await?;
    let problem =
        rig.client.call("get_system_resources", json!({"alias": "bok"})).await?.problem("SERVER_NOT_FOUND")?;
    problem.names(&["bok", "box"])
}

#[tokio::test]
async fn a_missing_argument_is_named() -> Result<()> {
    let (client, _place) = alone().await?;
    for (tool, arguments, name) in [
        ("task_exec", json!({"alias": "box"}), "cmd"),
        ("task_exec", json!({"cmd": "true"}), "alias"),
        ("task_status", json!({}), "id"),
        ("server_add", json!({"host": "h", "user": "u", "password": "x"}), "alias"),
        ("server_remove", json!({}), "alias"),
        ("get_system_resources", json!({}), "alias"),
    ] {
        refused(&client, tool, arguments, name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_argument_of_the_wrong_type_is_named() -> Result<()> {
    let (client, _place) = alone().await?;
    for (tool, arguments, name) in [
        ("task_exec", json!({"alias": "box", "cmd": 5}), "cmd"),
        ("task_exec", json!({"alias": {"name": "box"}, "cmd": "true"}), "alias"),
        ("task_status", json!({"id": 7}), "id"),
        ("task_history", json!({"limit": "many"}), "limit"),
        ("task_history", json!({"status": "sleeping"}), "status"),
        ("server_add", json!({"alias": "a", "host": "h", "user": "u", "password": "x", "port": "ssh"}), "port"),
        ("server_add", json!({"alias": "a", "host": "h", "user": "u", "password": "x", "tags": "web"}), "tags"),
        ("get_system_resources", json!({"alias": 5}), "alias"),
    ] {
        refused(&client, tool, arguments, name).await?;
    }
    Ok(())
}

async fn refused(client: &Client, tool: &str, arguments: Value, name: &str) -> Result<()> {
    let told = format!("{tool} {arguments}");
    let result = client.call(tool, arguments).await.with_context(|| told.clone())?;
    result.problem("INVALID_ARGUMENT").and_then(|problem| problem.names(&[name])).context(told)
}

#[tokio::test]
async fn an_argument_that_no_tool_has_is_named() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec_with("echo ran", json!({"time_out": 5})).await?;
    result.problem("INVALID_ARGUMENT")?.names(&["time_out", "timeout"])
}

#[tokio::test]
async fn arguments_that_are_no_object_are_refused() -> Result<()> {
    let (client, _place) = alone().await?;
    for arguments in [json!([1]), json!("x"), json!(5)] {
        let answer = client.request("tools/call", json!({"name": "queue_stats", "arguments": arguments})).await;
        assert!(answer.is_err(), "{arguments} was taken as arguments: {answer:?}");
    }
    client.call("queue_stats", json!({})).await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_job_is_named() -> Result<()> {
    let (client, _place) = alone().await?;
    for id in ["j0000000000001", "nonsense", "", "j01abc2def3gh4zzzzzzzzz", "../../etc/passwd"] {
        for tool in ["task_status", "task_wait", "task_cancel", "task_output", "task_retry"] {
            let result = client.call(tool, json!({"id": id})).await?;
            let problem = result.problem("TASK_NOT_FOUND").with_context(|| format!("{tool} {id:?}"))?;
            problem.names(&[id, "task_history"]).with_context(|| format!("{tool} {id:?}"))?;
        }
    }
    Ok(())
}
