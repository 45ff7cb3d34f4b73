//! Servers that say no before a command could run: the message names the step and what to do, and nothing was run.

use anyhow::Result;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::{Rig, alone, exec_arguments};

/// What a call is told by something that listens on a port and sends `greeting`, then closes.
async fn told_by(greeting: &'static [u8]) -> Result<ToolResult> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(greeting).await;
        }
    });
    let (client, _place) = alone().await?;
    let server = json!({
        "alias": "box", "host": "127.0.0.1", "port": port, "user": "ada", "password": "engine",
        "hostKey": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
    });
    client.call("server_add", server).await?.ok()?;
    let told = client.call("task_exec", exec_arguments("true", json!({"timeout": 20}))).await;
    answering.abort();
    told
}

#[tokio::test]
async fn what_is_no_ssh_server_is_told_so() -> Result<()> {
    for greeting in [&b""[..], b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"] {
        let told = told_by(greeting).await?;
        let problem = told.problem("CONNECTION_FAILED")?;
        problem.names(&["box", "127.0.0.1"])?;
        problem.at("handshake")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_with_no_algorithm_in_common_is_told_with_its_algorithms() -> Result<()> {
    for (lines, offered) in [
        (&["KexAlgorithms diffie-hellman-group1-sha1"][..], "diffie-hellman-group1-sha1"),
        (&["Ciphers 3des-cbc"], "3des-cbc"),
        (&["Ciphers aes128-ctr", "MACs hmac-md5"], "hmac-md5"),
    ] {
        let config = lines.iter().map(|line| (*line).to_owned()).collect();
        let options = Options { config, ..Options::default() };
        let rig = Rig::with(options, |launch| launch).await?;
        let told = rig.exec("true").await?;
        let problem = told.problem("CONNECTION_FAILED")?;
        problem.names(&["box", offered])?;
        problem.at("handshake")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_terminals_is_told_so_and_runs_commands() -> Result<()> {
    let options = Options { config: vec!["PermitTTY no".to_owned()], ..Options::default() };
    let rig = Rig::with(options, |launch| launch).await?;
    let told = rig.client.call("task_exec_interactive", exec_arguments("read x", json!({"responses": {}}))).await?;
    let problem = told.problem("CONNECTION_FAILED")?;
    problem.names(&["terminal", "PermitTTY"])?;
    problem.at("run")?;
    assert_eq!(rig.exec("echo here").await?.ok()?.str("stdout"), "here\n");
    Ok(())
}
