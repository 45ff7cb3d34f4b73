//! The lab's hosts, as `cargo xtask lab up` leaves them: how they are reached, and what a host says itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Client, Launch};
use crate::place::Place;
use crate::result::ToolResult;

/// A program that knows the lab's hosts: `debian`, `ops` and `ada` (users there), `bare`, `busybox`.
/// Dropped in this order: the client goes before its place.
pub struct Lab {
    pub client: Client,
    pub place: Place,
}

/// What a client of one's own needs to log in to a host.
pub struct Login {
    pub address: SocketAddr,
    pub host_key: String,
    pub key: PathBuf,
}

impl Lab {
    /// Starts a program on the hosts of the lab, which must be up.
    pub async fn enter(adapt: impl FnOnce(Launch) -> Launch) -> Result<Lab> {
        Lab::enter_from(Place::new()?, adapt).await
    }

    /// The same from a place that something was put into already.
    pub async fn enter_from(place: Place, adapt: impl FnOnce(Launch) -> Launch) -> Result<Lab> {
        let client = adapt(Launch::new(&place)).start().await?;
        let lab = Lab { client, place };
        for (alias, host, user) in [
            ("debian", "debian", "root"),
            ("ops", "debian", "ops"),
            ("ada", "debian", "ada"),
            ("bare", "bare", "root"),
            ("busybox", "busybox", "root"),
        ] {
            lab.add(alias, host, user).await?;
        }
        // For sudo; the login is by the key.
        lab.client.call("server_add", json!({"alias": "ada", "password": "engine"})).await?.ok()?;
        Ok(lab)
    }

    /// Makes a user of a host known under an alias.
    pub async fn add(&self, alias: &str, host: &str, user: &str) -> Result<()> {
        let inventory = inventory()?;
        let at = &inventory["hosts"][host];
        let server = json!({
            "alias": alias, "host": at["host"], "port": at["port"], "user": user,
            "keyPath": inventory["key"], "hostKey": at["hostKey"],
        });
        self.client.call("server_add", server).await?.ok()?;
        Ok(())
    }

    /// Kills the program and starts it again on the same data.
    pub async fn crash(self) -> Result<Lab> {
        let Lab { client, place } = self;
        client.kill().await?;
        drop(client);
        let client = Launch::new(&place).start().await?;
        Ok(Lab { client, place })
    }

    pub async fn call(&self, tool: &str, alias: &str, mut arguments: Value) -> Result<ToolResult> {
        arguments["alias"] = json!(alias);
        self.client.call(tool, arguments).await
    }

    /// What a host says itself.
    pub async fn says(&self, alias: &str, cmd: &str) -> Result<String> {
        let said = self.call("task_exec", alias, json!({"cmd": cmd})).await?;
        ensure!(said.structured["exit_code"] == 0, "{cmd} on {alias}: {}", said.text);
        Ok(said.str("stdout").trim_end().to_owned())
    }
}

/// How to log in to a host of the lab.
pub fn login(host: &str) -> Result<Login> {
    let inventory = inventory()?;
    let at = &inventory["hosts"][host];
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no {host} in {inventory:#}"));
    let address = format!("{}:{}", text(&at["host"])?, at["port"]);
    let address = address.parse().with_context(|| format!("{address} is no address"))?;
    Ok(Login { address, host_key: text(&at["hostKey"])?, key: text(&inventory["key"])?.into() })
}

/// What `cargo xtask lab up` wrote down.
fn inventory() -> Result<Value> {
    let path = path()?;
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("no lab at {}: cargo xtask lab up", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Where the hosts are written down: `ORCHESTRATOR_LAB`, else where `cargo xtask lab up` puts it.
fn path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORCHESTRATOR_LAB") {
        return Ok(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("mcp-orchestrator-lab/lab.json"))
}
