//! Servers that are reached through a proxy only: SOCKS5 as OpenSSH's `-D` speaks it, and CONNECT of HTTP.

use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::wait;
use orchestrator_tests::web::Web;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::Rig;

/// `ssh -D`, which is killed when it is dropped.
struct Socks {
    child: Child,
    port: u16,
}

impl Socks {
    async fn start(rig: &Rig) -> Result<Socks> {
        let port = StdListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let known = rig.place.root().join("known");
        std::fs::write(&known, rig.sshd.known_hosts())?;
        let child = Command::new("ssh")
            .args(["-F", "none", "-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-i"])
            .arg(&rig.sshd.client_key.path)
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .args(["-D", &format!("127.0.0.1:{port}"), "-p", &rig.sshd.port().to_string()])
            .arg(format!("{}@127.0.0.1", rig.sshd.user))
            .stdin(Stdio::null())
            .spawn()
            .context("starting ssh")?;
        let socks = Socks { child, port };
        let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait::until("ssh -D to listen", Duration::from_secs(60), up).await?;
        Ok(socks)
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        // It fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP proxy that knows CONNECT and one answer, and counts.
struct Http {
    port: u16,
    asked: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Http {
    async fn start(answer: &'static str) -> Result<Http> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(client, answer));
            }
        });
        Ok(Http { port, asked, accepting })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, answer: &'static str) -> Result<()> {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        ensure!(client.read_line(&mut request).await? > 0, "the client went away");
    }
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("no CONNECT")?;
    let mut server = match answer.contains(" 200 ") {
        true => Some(TcpStream::connect(target).await?),
        false => None,
    };
    client.write_all(answer.as_bytes()).await?;
    if let Some(server) = &mut server {
        tokio::io::copy_bidirectional(&mut client, server).await?;
    }
    Ok(())
}

/// Adds the sshd as `far`, reached like this, and runs a command there.
async fn through(rig: &Rig, proxy: &str) -> Result<orchestrator_tests::result::ToolResult> {
    let mut arguments = rig.server("far");
    arguments["proxy"] = json!(proxy);
    rig.client.call("server_add", arguments).await?.ok()?;
    rig.client.call("task_exec", json!({"alias": "far", "cmd": "echo far"})).await
}

#[tokio::test]
async fn a_command_runs_through_a_socks_proxy() -> Result<()> {
    let rig = Rig::start().await?;
    let socks = Socks::start(&rig).await?;
    let logins = rig.sshd.logins();
    let result = through(&rig, &format!("socks5://127.0.0.1:{}", socks.port)).await?.ok()?;
    assert_eq!(result.str("stdout"), "far\n");
    assert_eq!(rig.sshd.logins(), logins + 1);
    let listed = rig.client.call("server_list", json!({})).await?.ok()?;
    ensure!(listed.text.contains(&format!("proxy socks5://127.0.0.1:{}", socks.port)), "{}", listed.text);
    // Without the proxy there is no way.
    drop(socks);
    let result = through(&rig, "socks5://127.0.0.1:1").await?;
    result.problem("CONNECTION_FAILED")?.names(&["the proxy socks5://127.0.0.1:1", "MCP_PROXY"])
}

#[tokio::test]
async fn a_proxy_of_the_settings_is_for_all_servers_but_those_that_say_none() -> Result<()> {
    let proxy = Http::start("HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n").await?;
    let rig = Rig::with_env("MCP_PROXY", &format!("http://127.0.0.1:{}", proxy.port)).await?;
    rig.exec("true").await?.ok()?;
    assert_eq!(proxy.asked.load(Ordering::SeqCst), 1);
    through(&rig, "none").await?.ok()?;
    assert_eq!(proxy.asked.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn a_request_goes_past_the_proxy_unless_it_goes_through_a_server() -> Result<()> {
    let proxy = Http::start("HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let rig = Rig::with_env("MCP_PROXY", &format!("http://127.0.0.1:{}", proxy.port)).await?;
    let web = Web::start().await?;
    let add = json!({"alias": "shop", "url": web.url("/ok")});
    rig.client.call("api_add", add).await?.ok()?;
    let here = rig.client.call("api_check", json!({"alias": "shop"})).await?.ok()?;
    assert_eq!((&here.structured["status"], proxy.asked.load(Ordering::SeqCst)), (&json!("UP"), 0), "{}", here.text);
    let there = rig.client.call("api_check", json!({"alias": "shop", "server_alias": "box"})).await?.ok()?;
    assert_eq!((&there.structured["status"], proxy.asked.load(Ordering::SeqCst)), (&json!("UP"), 1), "{}", there.text);
    // Somebody for whom the proxy is the only way has to be told that it was not taken.
    rig.client.call("api_add", json!({"alias": "gone", "url": "http://127.0.0.1:1"})).await?.ok()?;
    let told = rig.client.call("api_check", json!({"alias": "gone"})).await?;
    ensure!(told.text.contains("MCP_PROXY is for SSH"), "{}", told.text);
    let told = rig.client.call("api_check", json!({"alias": "gone", "server_alias": "box"})).await?;
    ensure!(!told.text.contains("MCP_PROXY"), "{}", told.text);
    Ok(())
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told() -> Result<()> {
    let rig = Rig::start().await?;
    for (answer, told) in [
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "login"),
        ("SSH-2.0-nothing\r\n\r\n", "does not speak HTTP"),
    ] {
        let proxy = Http::start(answer).await?;
        let result = through(&rig, &format!("http://127.0.0.1:{}", proxy.port)).await?;
        result.problem("CONNECTION_FAILED")?.names(&["far", told])?;
    }
    let mut arguments = rig.server("bad");
    arguments["proxy"] = json!("http://ada:secret@127.0.0.1");
    let problem = rig.client.call("server_add", arguments).await?.problem("INVALID_ARGUMENT")?;
    problem.names(&["proxy", "proxyPassword"])?;
    ensure!(!problem.message.contains("secret"), "{}", problem.message);
    Ok(())
}
