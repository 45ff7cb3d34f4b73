//! Starting the program as an MCP client does: pipes, a clean environment, a home of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::{Mutex, OnceCell};

use crate::place::Place;

use super::wire::Wire;
use super::{Client, Version};

/// How the program is started.
pub struct Launch {
    binary: PathBuf,
    home: PathBuf,
    data: PathBuf,
    shared: bool,
    env: Vec<(OsString, OsString)>,
    version: Version,
    capabilities: Value,
    patience: Duration,
}

impl Launch {
    /// The program under test, in `place`, in the newest version that has a handshake. It does everything in one process,
    /// so that a test can end that process and look at it.
    pub fn new(place: &Place) -> Launch {
        Launch {
            binary: binary(),
            home: place.home(),
            data: place.data(),
            shared: false,
            env: Vec::new(),
            version: Version::V2025_11_25,
            capabilities: json!({}),
            patience: Duration::from_secs(60),
        }
    }

    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Launch {
        self.binary = binary.into();
        self
    }

    pub fn version(mut self, version: Version) -> Launch {
        self.version = version;
        self
    }

    /// What the client declares that it can do, such as `{"elicitation": {}}`.
    pub fn capabilities(mut self, capabilities: Value) -> Launch {
        self.capabilities = capabilities;
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Launch {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn data(mut self, data: impl Into<PathBuf>) -> Launch {
        self.data = data.into();
        self
    }

    /// Through a daemon, as clients start it. Whoever calls this sees to the daemon's end: see [`crate::daemon`]. One that is
    /// forgotten all the same goes soon.
    pub fn shared(mut self) -> Launch {
        self.shared = true;
        self.env("MCP_DAEMON_IDLE_S", "20")
    }

    pub fn patience(mut self, patience: Duration) -> Launch {
        self.patience = patience;
        self
    }

    /// Starts the program and greets it.
    pub async fn start(self) -> Result<Client> {
        let mut client = self.spawn().await?;
        client.greeting = client.greet().await?;
        Ok(client)
    }

    /// Starts the program and says nothing yet.
    pub async fn spawn(self) -> Result<Client> {
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {} (build it with `cargo xtask build`)", self.binary.display()))?;
        let pid = child.id().context("the program ended at once")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no pipe from standard output")?;
        let stderr = child.stderr.take().context("no pipe from standard error")?;
        let wire = Arc::new(Wire::new(self.capabilities != json!({})));
        let reading = vec![tokio::spawn(wire.clone().read(stdout)), tokio::spawn(wire.clone().listen(stderr))];
        Ok(Client {
            version: self.version,
            capabilities: self.capabilities,
            wire,
            stdin: Mutex::new(stdin),
            child: Mutex::new(child),
            pid,
            reading,
            next_id: AtomicU64::new(1),
            tools: OnceCell::new(),
            greeting: Value::Null,
            patience: self.patience,
        })
    }

    /// Runs the program to its end with an empty standard input, for starts that must fail.
    pub async fn run(self) -> Result<std::process::Output> {
        let mut command = self.command();
        command.stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(self.patience, command.output())
            .await
            .context("the program does not end")?
            .context("start")
    }

    /// The program with its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args((!self.shared).then_some("--standalone"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.home)
            .env("MCP_DATA_DIR", &self.data)
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The program under test: `ORCHESTRATOR_BIN`, else the debug build beside this test or tool.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ORCHESTRATOR_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or_else(|| std::path::Path::new("."));
    // A test binary stands in `deps/`, a tool one folder above.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join("mcp-orchestrator")
}
