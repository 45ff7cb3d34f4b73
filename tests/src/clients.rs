//! MCP clients as people have them: the SDKs for Python and TypeScript, and the inspector, which `cargo xtask clients`
//! installs outside of this repository.
//!
//! What a user of an SDK would write is in `tests/clients`; here is what such a program needs around it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::binary;
use crate::daemon::Daemon;
use crate::place::Place;
use crate::sshd::Sshd;

/// How long one client may take for its part. Starting one takes a second on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// An SDK, and the era of the protocol that it is told to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `mcp` 2.x, with the handshake (2025-11-25).
    PythonLegacy,
    /// The same as it is by default: 2026-07-28 where the server has it.
    PythonModern,
    /// `@modelcontextprotocol/sdk` 1.x.
    TypeScriptFirst,
    /// `@modelcontextprotocol/client` 2.x as it is by default: with the handshake.
    TypeScriptLegacy,
    /// The same when it may ask for 2026-07-28.
    TypeScriptModern,
}

impl Sdk {
    pub const ALL: [Sdk; 5] =
        [Sdk::PythonLegacy, Sdk::PythonModern, Sdk::TypeScriptFirst, Sdk::TypeScriptLegacy, Sdk::TypeScriptModern];

    /// Those that have MCP tasks: the extension belongs to 2026-07-28.
    pub const WITH_TASKS: [Sdk; 2] = [Sdk::PythonModern, Sdk::TypeScriptModern];

    fn era(self) -> &'static str {
        match self {
            Sdk::PythonLegacy | Sdk::TypeScriptLegacy => "legacy",
            Sdk::PythonModern | Sdk::TypeScriptModern => "modern",
            Sdk::TypeScriptFirst => "first",
        }
    }

    fn is_python(self) -> bool {
        matches!(self, Sdk::PythonLegacy | Sdk::PythonModern)
    }
}

/// A server, and a place in which clients start the program as their configuration says: without arguments, so that they
/// share a daemon. Dropped in this order: the daemon ends before its server, and the place goes last.
pub struct Scene {
    _daemon: Daemon,
    pub sshd: Sshd,
    pub place: Place,
    installed: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Scene {
    pub async fn set(env: &[(&'static str, &str)]) -> Result<Scene> {
        let installed = installed()?;
        let sshd = Sshd::start().await?;
        let place = Place::new()?;
        // A module is looked for beside the file that imports it.
        symlink(installed.join("node_modules"), place.root().join("node_modules"))?;
        std::fs::copy(program("client.mjs"), place.root().join("client.mjs"))?;
        let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        env.push(("HOME", place.home().display().to_string()));
        env.push(("MCP_DATA_DIR", place.data().display().to_string()));
        // Should the one that stops it be killed.
        env.push(("MCP_DAEMON_IDLE_S", "60".to_owned()));
        Ok(Scene { _daemon: Daemon::of(&place), sshd, place, installed, env })
    }

    /// How a client starts the program, as its configuration has it.
    pub fn launch(&self) -> Value {
        let env: serde_json::Map<_, _> =
            self.env.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({"command": binary(), "args": [], "env": env})
    }

    /// The arguments of `server_add` for the server, whose host key is known.
    pub fn server(&self) -> Value {
        let mut server = self.unknown_server();
        server["hostKey"] = json!(self.sshd.fingerprint());
        server
    }

    /// The same without the host key.
    pub fn unknown_server(&self) -> Value {
        json!({
            "alias": "box", "host": "127.0.0.1", "port": self.sshd.port(), "user": self.sshd.user,
            "keyPath": self.sshd.client_key.path,
        })
    }

    /// Lets the client do its part, which must succeed. `more` are further words for it, or others than the scene's.
    pub async fn play(&self, sdk: Sdk, subject: &str, more: Value) -> Result<()> {
        let output = finished(self.command(sdk, subject, more)?).await?;
        ensure!(
            output.status.success(),
            "{sdk:?}: {subject} {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Starts a part that does not end by itself, and returns the first line that the client prints.
    pub async fn begin(&self, sdk: Sdk, subject: &str, more: Value) -> Result<(Child, String)> {
        let mut child = self.command(sdk, subject, more)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no pipe from standard output")?;
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        match line.with_context(|| format!("{sdk:?}: {subject} tells nothing"))?? {
            Some(line) => Ok((child, line)),
            None => bail!("{sdk:?}: {subject} ended, and what it says is above"),
        }
    }

    fn command(&self, sdk: Sdk, subject: &str, more: Value) -> Result<Command> {
        let mut scene = self.launch();
        scene["server"] = self.server();
        scene["fingerprint"] = json!(self.sshd.fingerprint());
        if let (Some(scene), Value::Object(more)) = (scene.as_object_mut(), more) {
            scene.extend(more);
        }
        let mut command = if sdk.is_python() {
            let mut python = self.tool(&self.installed.join("venv/bin/python"));
            python.arg(program("client.py"));
            python
        } else {
            let mut node = self.tool(&self.installed.join("node"));
            node.arg(self.place.root().join("client.mjs"));
            node
        };
        command.args([subject, sdk.era(), &scene.to_string()]);
        Ok(command)
    }

    /// Runs the inspector's command line on the program, and returns how it ended.
    pub async fn inspect(&self, era: &str, arguments: &[&str]) -> Result<Output> {
        let config = self.place.root().join("mcp.json");
        std::fs::write(&config, json!({"mcpServers": {"orchestrator": self.launch()}}).to_string())?;
        let mut inspector = self.tool(&self.installed.join("node"));
        inspector
            .arg(self.installed.join("node_modules/.bin/mcp-inspector"))
            .args(["--cli", "--server", "orchestrator", "--format", "json", "--protocol-era", era, "--config"])
            .arg(config)
            .args(arguments)
            // It looks for a desktop's keychain otherwise, and says at length that there is none.
            .env("MCP_INSPECTOR_SECRET_STORE", "memory");
        finished(inspector).await
    }

    /// A program of the clients', which has nothing of the environment of the tests.
    fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.place.home())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

async fn finished(mut command: Command) -> Result<Output> {
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    output.with_context(|| format!("{command:?} does not end"))?.with_context(|| format!("{command:?} does not start"))
}

/// Where `cargo xtask clients` has put them.
fn installed() -> Result<PathBuf> {
    std::env::var_os("ORCHESTRATOR_CLIENTS").map(PathBuf::from).context("no clients are installed: cargo xtask clients")
}

/// A program of `tests/clients`.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}
