//! An MCP client over stdio that looks at every byte: each line on standard output must be one valid JSON-RPC message, and
//! each `structuredContent` must match the output schema that the tool promised.
//!
//! It is no client library: it speaks what the tests need, in each protocol version that the program serves.

mod launch;
mod lifecycle;
mod tools;
mod wire;

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use launch::{Launch, binary};
pub use lifecycle::Version;
pub use tools::Tool;
pub use wire::{Pending, RpcError};

use wire::Wire;

/// A running program and the conversation with it. All methods take `&self`, so that several requests can be under way.
pub struct Client {
    version: Version,
    capabilities: Value,
    wire: Arc<Wire>,
    // Tokio's lock, held while one line is written, so that lines of concurrent requests don't mix.
    stdin: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
    pid: u32,
    reading: Vec<JoinHandle<()>>,
    next_id: AtomicU64,
    tools: OnceCell<Vec<Tool>>,
    /// What the program answered to `initialize` or `server/discover`.
    pub greeting: Value,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Client {
    pub fn version(&self) -> Version {
        self.version
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What the program has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.wire.stderr()
    }

    /// Sends a request and waits for its result. An error answer is an [`RpcError`] inside the `anyhow::Error`.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value> {
        let pending = self.begin(method, params).await?;
        self.finish(pending).await
    }

    /// Sends a request without waiting for its answer.
    pub async fn begin(&self, method: &str, params: Value) -> Result<Pending> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let pending = self.wire.expect(id, method);
        let params = self.version.with_meta(params, &self.capabilities);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        Ok(pending)
    }

    /// Waits for the answer to a request.
    pub async fn finish(&self, pending: Pending) -> Result<Value> {
        let what = pending.method.clone();
        match timeout(self.patience, pending.answer).await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(error))) => Err(error).with_context(|| format!("{what} was answered with an error")),
            Ok(Err(_)) => Err(self.broken(&what)),
            Err(_) => Err(anyhow!("{what} was not answered within {:?}{}", self.patience, self.context())),
        }
    }

    pub async fn notify(&self, method: &str, params: Value) -> Result<()> {
        let params = self.version.with_meta(params, &self.capabilities);
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await
    }

    /// Asks for a request to be given up.
    pub async fn cancel(&self, id: u64) -> Result<()> {
        self.notify("notifications/cancelled", json!({"requestId": id, "reason": "no longer needed"})).await
    }

    async fn send(&self, message: &Value) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.send_raw(&line).await
    }

    /// Writes bytes to the program's standard input as they are.
    pub async fn send_raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdin = self.stdin.lock().await;
        let Some(pipe) = stdin.as_mut() else { bail!("standard input was closed before") };
        let written = async {
            pipe.write_all(bytes).await?;
            pipe.flush().await
        };
        match timeout(self.patience, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(anyhow!("writing to the program: {error}{}", self.context())),
            Err(_) => Err(anyhow!("the program does not read its input{}", self.context())),
        }
    }

    /// The notifications that have come so far, oldest first.
    pub fn notifications(&self) -> Vec<Value> {
        self.wire.notifications()
    }

    /// Waits for a notification that `wanted` accepts, one that has come already included.
    pub async fn notification(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        timeout(self.patience, self.wire.notification(wanted))
            .await
            .map_err(|_| anyhow!("no such notification within {:?}{}", self.patience, self.context()))
    }

    /// Waits for a request of the program, and answers it. Returns the request.
    pub async fn answer(&self, method: &str, result: Value) -> Result<Value> {
        let request = timeout(self.patience, self.wire.asked())
            .await
            .map_err(|_| anyhow!("the program asked nothing within {:?}{}", self.patience, self.context()))?;
        if request["method"] != method {
            bail!("{method} was expected: {request}");
        }
        self.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await?;
        Ok(request)
    }

    /// Error answers without an id: what the program says to lines that it cannot read.
    pub fn nameless_errors(&self) -> Vec<Value> {
        self.wire.nameless_errors()
    }

    /// Fails when the program has written anything on standard output that is no message.
    pub fn check_purity(&self) -> Result<()> {
        match self.wire.fault() {
            Some(fault) => Err(anyhow!("standard output is not clean: {fault}{}", self.context())),
            None => Ok(()),
        }
    }

    /// Closes standard input, as a client does that goes, and waits for the end of the program.
    pub async fn close(&self) -> Result<ExitStatus> {
        self.stdin.lock().await.take();
        let status = self.ended(Duration::from_secs(10)).await?;
        self.check_purity()?;
        Ok(status)
    }

    /// Waits for the end of the program and of its output.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        let mut child = self.child.lock().await;
        let Ok(status) = timeout(limit, child.wait()).await else {
            bail!("the program had not ended after {limit:?}{}", self.context());
        };
        timeout(limit, self.wire.closed())
            .await
            .map_err(|_| anyhow!("the program has ended, its output is still open"))?;
        Ok(status?)
    }

    /// From now on the program may die at any moment, and half a line at its end is no fault.
    pub fn expect_death(&self) {
        self.wire.doom();
    }

    /// Ends the program as a crash does.
    pub async fn kill(&self) -> Result<()> {
        self.expect_death();
        let mut child = self.child.lock().await;
        child.start_kill()?;
        child.wait().await?;
        Ok(())
    }

    fn broken(&self, what: &str) -> anyhow::Error {
        let fault = self.wire.fault().unwrap_or_else(|| "the program closed its output".to_owned());
        anyhow!("{what} got no answer: {fault}{}", self.context())
    }

    /// The program's own words, for a failure's message.
    fn context(&self) -> String {
        let stderr = self.wire.stderr();
        let tail: Vec<&str> = stderr.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        format!("\n--- standard error of the program ---\n{}", tail.join("\n"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for task in &self.reading {
            task.abort();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.context());
        } else if let Some(fault) = self.wire.fault() {
            panic!("standard output is not clean: {fault}{}", self.context());
        }
    }
}

/// An object of arguments from a `json!`.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}
