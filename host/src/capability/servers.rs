//! Servers as the rest of the program sees them: what is known of each, and commands on it.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::bulk::Bulk;
use super::command::{Buffer, Watched, Wire};
use super::{Argv, Captured, Finished, OutputSink, Shell, Ways};
use crate::audit::{Audit, Entry};
use crate::call::Call;
use crate::error::Problem;
use crate::failpoint::failpoint;
use crate::inventory::{Inventory, Server};
use crate::secrets::Vault;
use crate::sftp::Commons;
use crate::ssh::{self, Forwarded, Pool, Purpose, ServerStats, SshError};

/// How many connections may end under a command that has not left this machine.
const UNSENT: u32 = 3;

/// What may be told about a server to anybody: never a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerFacts {
    pub alias: String,
    /// Sorted.
    pub tags: Vec<String>,
    pub description: Option<String>,
}

impl From<&Server> for ServerFacts {
    fn from(server: &Server) -> Self {
        let mut tags = server.tags.clone();
        tags.sort();
        ServerFacts { alias: server.alias.clone(), tags, description: server.description.clone() }
    }
}

/// The servers that are known, and commands on them. Cheap to clone.
#[derive(Clone)]
pub struct Servers(Arc<Parts>);

pub(super) struct Parts {
    pub(super) inventory: Inventory,
    pub(super) vault: Vault,
    pub(super) pool: Pool,
    pub(super) ways: Ways,
    audit: Audit,
    /// What all transfers of the process share.
    pub(super) commons: Commons,
    pub(super) bulk: Bulk,
}

impl Servers {
    pub fn new(inventory: Inventory, vault: Vault, pool: Pool, ways: Ways, audit: Audit, commons: Commons) -> Self {
        Servers(Arc::new(Parts { inventory, vault, pool, ways, audit, commons, bulk: Bulk::default() }))
    }

    /// Every server, sorted by alias.
    pub fn list(&self) -> Vec<ServerFacts> {
        self.all().iter().map(|server| ServerFacts::from(&**server)).collect()
    }

    /// One server, or `SERVER_NOT_FOUND` with the nearest known alias in the hint.
    pub fn describe(&self, alias: &str) -> Result<ServerFacts, Problem> {
        self.find(alias).map(|server| ServerFacts::from(&*server))
    }

    /// The pool's state, for diagnostics.
    pub fn pool_stats(&self) -> Vec<ServerStats> {
        self.0.pool.stats()
    }

    pub fn is_connected(&self, alias: &str) -> bool {
        self.0.pool.is_connected(alias)
    }

    /// Runs a line in the login shell; what it prints goes to `sink` as it comes.
    pub async fn shell<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        shell: Shell,
        sink: &mut S,
    ) -> Result<Finished, Problem> {
        let password = self.sudo_password(alias, shell.sudo).await?;
        self.run(call, alias, shell.wire(password.as_ref())?, sink).await
    }

    /// Runs a line in the login shell, in a terminal on which somebody types what comes from `typed`.
    pub async fn terminal<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        shell: Shell,
        typed: mpsc::Receiver<Zeroizing<Vec<u8>>>,
        sink: &mut S,
    ) -> Result<Finished, Problem> {
        let wire = Wire { pty: true, typed: Some(typed), ..shell.wire(None)? };
        self.run(call, alias, wire, sink).await
    }

    /// Runs one program and keeps at most `limit` bytes of each stream.
    pub async fn capture(&self, call: &Call, alias: &str, argv: Argv, limit: usize) -> Result<Captured, Problem> {
        let mut buffer = Buffer::new(limit);
        let finished = self.run(call, alias, argv.wire()?, &mut buffer).await?;
        Ok(buffer.into_captured(finished))
    }

    /// Runs a command, and writes down that it was run and how it ended.
    pub(super) async fn run<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        wire: Wire,
        sink: &mut S,
    ) -> Result<Finished, Problem> {
        self.find(alias)?;
        let asked = Some(wire.asked.clone());
        let mut sent = false;
        let action = if wire.watched.is_some() { "spawn" } else { "exec" };
        let done = pin!(self.act(call, alias, wire, sink, &mut sent));
        let code = |exit: &ssh::Exit| exit.code.map(|code| format!("exit {code}"));
        let exit = self.audited(call, Some(alias), action, asked, done, code).await?;
        Ok(Finished { exit_code: exit.code, exit_signal: exit.signal, duration: exit.duration, stopped: exit.stopped })
    }

    /// The one way to a command on a server. `sent` tells whether anything may have had an effect there.
    pub(super) async fn act<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        wire: Wire,
        sink: &mut S,
        sent: &mut bool,
    ) -> Result<ssh::Exit, Problem> {
        let server = self.find(alias)?;
        let call = match wire.timeout {
            Some(timeout) => call.clone().within(timeout),
            None => call.clone(),
        };
        let stdin = wire.stdin.map(Bytes::from);
        let Wire { line, pty, quota, typed, watched, .. } = wire;
        let (purpose, signals, pid) = match watched {
            Some(Watched { signals, pid }) => (Purpose::Processes, Some(signals), pid),
            None => (Purpose::Commands, None, Default::default()),
        };
        let mut request = ssh::Request { line, stdin, pty, quota, typed, signals, pid };
        let mut tries = 1;
        loop {
            let lease = self.0.pool.channel(alias, purpose, || self.target(&server), &call).await?;
            // From here on something happens on the server, so the job must be on disk, unless it only reads.
            call.recorded.wait_to_read().await?;
            *sent = true;
            failpoint("effect-next");
            match ssh::exec(lease, &mut request, &call, sink).await {
                // The connection ended between two looks at it. Nothing was run, so nobody needs to notice.
                Err(error @ SshError::Lost { .. }) => {
                    *sent = false;
                    if tries == UNSENT {
                        return Err(error.into());
                    }
                    tries += 1;
                }
                result => {
                    failpoint("effect-done");
                    return Ok(result?);
                }
            }
        }
    }

    /// Has a server connect to a host as it knows it.
    pub(super) async fn forward(&self, call: &Call, alias: &str, host: &str, port: u16) -> Result<Forwarded, SshError> {
        let server = self.find(alias).map_err(|problem| SshError::Target(Box::new(problem)))?;
        self.0.pool.forward(alias, || self.target(&server), host, port, call).await
    }

    /// Does something to a server or from here, and writes down that it was done and how it ended.
    /// What is large comes pinned: an argument is held twice, in its own place and in the one where it is awaited.
    pub(super) async fn audited<T>(
        &self,
        call: &Call,
        alias: Option<&str>,
        action: &str,
        command: Option<String>,
        act: impl Future<Output = Result<T, Problem>>,
        result: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, Problem> {
        let (at, started) = (Timestamp::now(), Instant::now());
        let done = act.await;
        let outcome = match &done {
            Ok(done) => result(done).map_or(Cow::Borrowed("ok"), Cow::Owned),
            Err(problem) => Cow::Borrowed(problem.code.as_str()),
        };
        let entry = Entry {
            at,
            job: call.job,
            tool: &call.tool,
            caller: &call.caller,
            plugin: call.plugin.as_deref(),
            server: alias,
            action,
            command: command.as_deref(),
            outcome: &outcome,
            duration_ms: started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        };
        self.0.audit.record(&entry);
        done
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0
    }
}
