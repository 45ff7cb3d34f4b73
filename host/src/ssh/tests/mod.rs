//! The wire against servers: one in this process that misbehaves on request, and a real OpenSSH `sshd`.

mod ahead;
mod commands;
mod fake;
mod logins;
mod openssh;
mod pooling;
mod questions;
mod windows;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::call::Call;
use crate::error::Problem;

/// Keeps what a command printed.
#[derive(Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl OutputSink for Kept {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        Ok(())
    }
}

fn settings(max: usize, min: usize) -> PoolSettings {
    PoolSettings {
        max_connections: max,
        min_connections: min,
        idle_timeout: Duration::from_secs(300),
        keep_alive_interval: None,
        connect_limit: Duration::from_secs(20),
        trusted_silence: Duration::from_secs(10),
        // Tests that want channels opened ahead say so.
        far: None,
    }
}

/// Long enough for a machine that builds something else at the same time.
fn call() -> Call {
    Call::new("test", "test").within(Duration::from_secs(120))
}

fn no_known_hosts() -> HostKeys {
    HostKeys::from_files(vec![PathBuf::from("/nonexistent/known_hosts")])
}

fn request(line: &str) -> Request {
    Request { line: line.to_owned(), ..Request::default() }
}

async fn run_with(pool: &Pool, target: &Target, mut request: Request, call: &Call) -> Result<(Exit, Kept), SshError> {
    let lease = pool.channel(&target.alias, Purpose::Commands, || async { Ok(target.clone()) }, call).await?;
    let mut kept = Kept::default();
    let exit = exec(lease, &mut request, call, &mut kept).await?;
    Ok((exit, kept))
}

async fn run(pool: &Pool, target: &Target, line: &str) -> Result<(Exit, Kept), SshError> {
    run_with(pool, target, request(line), &call()).await
}

/// Waits until the condition holds; a test that never gets there fails by the time limit, not by a guess.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
