//! What most tests stand on: one sshd, one running program that knows it as `box`, and its host key pinned.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::embedded::{Accounts, Embedded, Faults};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::{Options, Sshd};
use orchestrator_tests::wait;
use serde_json::{Value, json};

/// Dropped in this order: the client goes before its server, and the place last.
pub struct Rig {
    pub client: Client,
    pub sshd: Sshd,
    pub place: Place,
}

impl Rig {
    pub async fn start() -> Result<Rig> {
        Rig::with(Options::default(), |launch| launch).await
    }

    /// With one more variable in the program's environment.
    pub async fn with_env(name: &str, value: &str) -> Result<Rig> {
        Rig::with(Options::default(), |launch| launch.env(name, value)).await
    }

    pub async fn with(options: Options, adapt: impl FnOnce(Launch) -> Launch) -> Result<Rig> {
        Rig::in_place(Place::new()?, options, adapt).await
    }

    pub async fn in_place(place: Place, options: Options, adapt: impl FnOnce(Launch) -> Launch) -> Result<Rig> {
        let sshd = Sshd::start_with(options).await?;
        let client = adapt(Launch::new(&place)).start().await?;
        let rig = Rig { client, sshd, place };
        rig.client.call("server_add", rig.server("box")).await?.ok()?;
        Ok(rig)
    }

    /// The arguments that add the sshd under this alias, pinned.
    pub fn server(&self, alias: &str) -> Value {
        json!({
            "alias": alias, "host": "127.0.0.1", "port": self.sshd.port(), "user": self.sshd.user,
            "keyPath": self.sshd.client_key.path, "hostKey": self.sshd.fingerprint(),
        })
    }

    /// Runs a command on `box`.
    pub async fn exec(&self, cmd: &str) -> Result<ToolResult> {
        self.client.call("task_exec", json!({"alias": "box", "cmd": cmd})).await
    }

    /// Runs a command on `box` with further arguments.
    pub async fn exec_with(&self, cmd: &str, more: Value) -> Result<ToolResult> {
        self.client.call("task_exec", exec_arguments(cmd, more)).await
    }

    /// Ends the program as `end` says and starts it again on the same data.
    pub async fn restart(self) -> Result<Rig> {
        self.client.close().await?;
        self.again().await
    }

    /// Kills the program and starts it again on the same data.
    pub async fn crash(self) -> Result<Rig> {
        self.client.kill().await?;
        self.again().await
    }

    async fn again(self) -> Result<Rig> {
        let Rig { client, sshd, place } = self;
        let version = client.version();
        drop(client);
        let client = Launch::new(&place).version(version).start().await?;
        Ok(Rig { client, sshd, place })
    }

    /// The only job in the history of `alias`.
    pub async fn only_job(&self, alias: &str) -> Result<Value> {
        let history = self.client.call("task_history", json!({"alias": alias})).await?.ok()?;
        let jobs = history.structured["jobs"].as_array().context("no jobs")?.clone();
        ensure!(jobs.len() == 1, "one job was expected: {jobs:#?}");
        jobs.into_iter().next().context("no job")
    }
}

pub fn exec_arguments(cmd: &str, more: Value) -> Value {
    let mut arguments = json!({"alias": "box", "cmd": cmd});
    if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
        arguments.extend(more);
    }
    arguments
}

/// A program without a server.
pub async fn alone() -> Result<(Client, Place)> {
    let place = Place::new()?;
    let client = Launch::new(&place).start().await?;
    Ok((client, place))
}

/// A `sleep` that no other process has: it sleeps for more than a minute, and its command line can be looked for.
pub struct Sleep {
    pub command: String,
}

impl Sleep {
    pub fn new() -> Sleep {
        // The fraction is ours alone; `sleep` reads it as a fraction of a second.
        let unique: u64 = rand::random::<u32>().into();
        Sleep { command: format!("sleep 90.{unique:010}") }
    }

    /// Waits until the `sleep` itself runs, and not only the shell that is about to start it.
    pub async fn runs(&self) -> Result<()> {
        // `/proc` has NUL between the arguments.
        let itself = self.command.replace(' ', "\0");
        let begun = || !wait::processes_with(&itself).is_empty();
        wait::until(&format!("`{}` to run", self.command), Duration::from_secs(20), begun).await
    }

    pub async fn is_gone(&self) -> Result<()> {
        wait::until(&format!("`{}` to be gone", self.command), Duration::from_secs(20), || !self.is_running()).await
    }

    /// The shell that has it in its line counts too.
    pub fn is_running(&self) -> bool {
        let number = self.command.trim_start_matches("sleep ");
        !wait::processes_with(number).is_empty()
    }
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}

/// A program that knows the embedded server as `box`, with a password.
pub async fn with_embedded(faults: Faults) -> Result<(Client, Embedded, Place)> {
    let accounts = Accounts { user: "ada".into(), password: Some("engine".into()), keys: vec![] };
    let server = Embedded::start_with(accounts, faults).await?;
    let place = Place::new()?;
    let client = Launch::new(&place).start().await?;
    let arguments = json!({
        "alias": "box", "host": "127.0.0.1", "port": server.port(), "user": "ada", "password": "engine",
        "hostKey": server.fingerprint,
    });
    client.call("server_add", arguments).await?.ok()?;
    Ok((client, server, place))
}
