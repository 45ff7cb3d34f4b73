//! Proxies that want a login: SOCKS5 by user and password (RFC 1929), HTTP by Basic (RFC 7617). The password is a secret.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::Rig;

const PASSWORD: &str = "kestrel:Zm4-unmistakable";
/// `ada` with that password, in base 64.
const BASIC: &str = "YWRhOmtlc3RyZWw6Wm00LXVubWlzdGFrYWJsZQ==";

#[derive(Clone, Copy, Debug)]
enum Kind {
    Socks5,
    Http,
}

/// A proxy that lets nobody through but `ada`. What it was told is written down.
struct Guarded {
    url: String,
    logins: Arc<Mutex<Vec<bool>>>,
    accepting: JoinHandle<()>,
}

impl Guarded {
    async fn start(kind: Kind) -> Result<Guarded> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let logins = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&logins);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    match kind {
                        Kind::Socks5 => socks(client, &seen).await,
                        Kind::Http => http(client, &seen).await,
                    }
                });
            }
        });
        let scheme = match kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        Ok(Guarded { url: format!("{scheme}://USER127.0.0.1:{port}"), logins, accepting })
    }

    /// Its address with this user, `ada@`, or without one.
    fn url(&self, user: &str) -> String {
        self.url.replace("USER", user)
    }

    /// The logins that were tried, and whether they were right.
    fn logins(&self) -> Vec<bool> {
        self.logins.lock().map(|logins| logins.clone()).unwrap_or_default()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn note(seen: &Mutex<Vec<bool>>, right: bool) {
    if let Ok(mut seen) = seen.lock() {
        seen.push(right);
    }
}

async fn text(stream: &mut TcpStream) -> Result<String> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes)?)
}

async fn socks(mut client: TcpStream, seen: &Mutex<Vec<bool>>) -> Result<()> {
    ensure!(client.read_u8().await? == 5);
    if !text(&mut client).await?.contains('\u{2}') {
        client.write_all(&[5, 0xff]).await?;
        bail!("no login is offered");
    }
    client.write_all(&[5, 2]).await?;
    ensure!(client.read_u8().await? == 1);
    let (user, password) = (text(&mut client).await?, text(&mut client).await?);
    let right = user == "ada" && password == PASSWORD;
    note(seen, right);
    client.write_all(&[1, u8::from(!right)]).await?;
    ensure!(right);
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    ensure!(request == [5, 1, 0, 1], "{request:?}");
    let (address, port) = (client.read_u32().await?, client.read_u16().await?);
    let mut server = TcpStream::connect((std::net::Ipv4Addr::from(address), port)).await?;
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 22]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn http(mut client: TcpStream, seen: &Mutex<Vec<bool>>) -> Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await?);
    }
    let request = String::from_utf8(request)?;
    let login = request.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic "));
    let right = login == Some(BASIC);
    if login.is_some() {
        note(seen, right);
    }
    if !right {
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"way out\"\r\n\r\n";
        client.write_all(refusal.as_bytes()).await?;
        bail!("no login");
    }
    let target = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).context("no CONNECT")?;
    let mut server = TcpStream::connect(target).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn far(rig: &Rig, cmd: &str) -> Result<ToolResult> {
    rig.client.call("task_exec", json!({"alias": "far", "cmd": cmd})).await
}

#[tokio::test]
async fn a_server_behind_a_proxy_with_a_login_is_reached_and_the_password_is_nowhere_to_be_read() -> Result<()> {
    for kind in [Kind::Socks5, Kind::Http] {
        let proxy = Guarded::start(kind).await?;
        let rig = Rig::with_env("MCP_DEBUG", "true").await?;
        let mut server = rig.server("far");
        server["proxy"] = json!(proxy.url("ada@"));
        server["proxyPassword"] = json!(PASSWORD);
        let added = rig.client.call("server_add", server).await?.ok()?;
        assert_eq!(far(&rig, "echo far").await?.ok()?.str("stdout"), "far\n", "{kind:?}");
        assert_eq!(proxy.logins(), [true]);
        let mut said = format!("{}{}", added.text, added.structured);
        ensure!(said.contains(&proxy.url("ada@")), "{said}");
        // Another password is refused, told, and not tried again.
        let wrong = json!({"alias": "far", "proxyPassword": "mistaken-Zm4-unmistakable"});
        rig.client.call("server_add", wrong).await?.ok()?;
        let refused = far(&rig, "true").await?;
        said.push_str(&format!("{}{}", refused.text, refused.structured));
        let problem = refused.problem("CONNECTION_FAILED")?;
        problem.names(&["refused the login of \"ada\"", "proxyPassword", &proxy.url("ada@")])?;
        assert_eq!(problem.details["reason"], "PROXY_LOGIN_REFUSED");
        assert!(!problem.retryable);
        assert_eq!(proxy.logins(), [true, false], "{kind:?}");
        for tool in ["server_list", "task_history", "task_logs", "system_diagnostics", "pool_stats"] {
            let result = rig.client.call(tool, json!({})).await?;
            said.push_str(&format!("{}{}", result.text, result.structured));
        }
        said.push_str(&rig.client.stderr());
        let Rig { client, place, sshd: _sshd } = rig;
        client.close().await?;
        assert!(!said.contains("Zm4-unmistakable") && !said.contains(BASIC), "the password was told: {said}");
        for file in place.data_files()? {
            let bytes = std::fs::read(&file)?;
            let held = bytes.windows(16).any(|window| window == b"Zm4-unmistakable");
            ensure!(!held, "the password is in {}", file.display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_wants_a_login_says_what_is_missing() -> Result<()> {
    let rig = Rig::start().await?;
    for kind in [Kind::Socks5, Kind::Http] {
        let proxy = Guarded::start(kind).await?;
        let mut server = rig.server("far");
        server["proxy"] = json!(proxy.url(""));
        rig.client.call("server_add", server.clone()).await?.ok()?;
        let problem = far(&rig, "true").await?.problem("CONNECTION_FAILED")?;
        problem.names(&["it wants a login", "USER@", "proxyPassword", "MCP_PROXY_PASSWORD"])?;
        assert_eq!(problem.details["reason"], "PROXY_LOGIN_WANTED");
        server["proxy"] = json!(proxy.url("ada@"));
        let refused = rig.client.call("server_add", server.clone()).await?.problem("INVALID_ARGUMENT")?;
        refused.names(&["proxyPassword", "ada"])?;
        // A known password is not told to another proxy.
        server["proxyPassword"] = json!(PASSWORD);
        rig.client.call("server_add", server).await?.ok()?;
        let elsewhere = json!({"alias": "far", "proxy": "socks5://ada@192.0.2.1"});
        rig.client.call("server_add", elsewhere).await?.problem("INVALID_ARGUMENT")?.names(&["proxyPassword"])?;
        assert_eq!(proxy.logins(), Vec::<bool>::new());
    }
    Ok(())
}

#[tokio::test]
async fn the_proxy_of_the_settings_logs_in_with_a_password_or_what_refers_to_one() -> Result<()> {
    for (kind, password) in [(Kind::Socks5, PASSWORD.to_owned()), (Kind::Http, "env:WAY_OUT".to_owned())] {
        let proxy = Guarded::start(kind).await?;
        let url = proxy.url("ada@");
        let rig = Rig::with(Options::default(), |launch| {
            launch.env("MCP_PROXY", &url).env("MCP_PROXY_PASSWORD", password).env("WAY_OUT", PASSWORD)
        })
        .await?;
        rig.exec("true").await?.ok()?;
        assert_eq!(proxy.logins(), [true]);
    }
    let place = Place::new()?;
    let launch = orchestrator_tests::client::Launch::new(&place).env("MCP_PROXY", "http://ada@127.0.0.1");
    let output = launch.run().await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("MCP_PROXY_PASSWORD"), "{said}");
    Ok(())
}
