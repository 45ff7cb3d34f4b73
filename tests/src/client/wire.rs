//! The lines that come from the program: read, checked, handed to whoever waits for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{oneshot, watch};

/// An answer that is a JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JSON-RPC error {}: {} {}", self.code, self.message, self.data)
    }
}

impl std::error::Error for RpcError {}

/// A request that was sent and is not answered yet.
pub struct Pending {
    pub id: u64,
    pub method: String,
    pub(super) answer: oneshot::Receiver<Result<Value, RpcError>>,
}

/// What has come from the program.
pub(super) struct Wire {
    // A plain lock: never held across an await.
    state: Mutex<State>,
    // Counts what has come, so that a waiter looks again; the last value is all that it needs.
    news: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    /// The client has declared something that the program may ask for.
    may_be_asked: bool,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Result<Value, RpcError>>>,
    notifications: Vec<Value>,
    /// Requests of the program that are not answered yet.
    asked: VecDeque<Value>,
    nameless: Vec<Value>,
    stderr: String,
    fault: Option<String>,
    /// The program is killed by the test, perhaps in the middle of a line.
    doomed: bool,
}

impl Wire {
    pub(super) fn new(may_be_asked: bool) -> Wire {
        let (news, closed) = (watch::Sender::new(0), watch::Sender::new(false));
        Wire { state: Mutex::default(), news, closed, may_be_asked }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn expect(&self, id: u64, method: &str) -> Pending {
        let (answered, answer) = oneshot::channel();
        let mut state = self.state();
        // When the program is gone, nobody will answer: the sender is dropped here and the waiter learns it at once.
        if !*self.closed.borrow() {
            state.waiting.insert(id, answered);
        }
        Pending { id, method: method.to_owned(), answer }
    }

    pub(super) fn notifications(&self) -> Vec<Value> {
        self.state().notifications.clone()
    }

    pub(super) fn nameless_errors(&self) -> Vec<Value> {
        self.state().nameless.clone()
    }

    pub(super) fn stderr(&self) -> String {
        self.state().stderr.clone()
    }

    pub(super) fn doom(&self) {
        self.state().doomed = true;
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }

    pub(super) async fn notification(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut news = self.news.subscribe();
        loop {
            if let Some(found) = self.state().notifications.iter().find(|note| wanted(note)) {
                return found.clone();
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next request of the program.
    pub(super) async fn asked(&self) -> Value {
        let mut news = self.news.subscribe();
        loop {
            if let Some(request) = self.state().asked.pop_front() {
                return request;
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until standard output is closed.
    pub(super) async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Reads standard output to its end.
    pub(super) async fn read(self: std::sync::Arc<Self>, stdout: ChildStdout) {
        let mut lines = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match lines.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    if let Err(fault) = self.take(&line) {
                        let mut state = self.state();
                        state.fault.get_or_insert(fault);
                        // Nobody may go on as if nothing had happened.
                        state.waiting.clear();
                    }
                    self.news.send_modify(|count| *count += 1);
                }
            }
        }
        let mut state = self.state();
        self.closed.send_replace(true);
        state.waiting.clear();
    }

    /// Keeps what the program says on standard error.
    pub(super) async fn listen(self: std::sync::Arc<Self>, mut stderr: ChildStderr) {
        let mut buffer = vec![0; 8192];
        while let Ok(read) = stderr.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            self.state().stderr.push_str(&String::from_utf8_lossy(bytes));
        }
    }

    /// Takes one line; says what is wrong with it.
    fn take(&self, line: &[u8]) -> Result<(), String> {
        let shown = || String::from_utf8_lossy(line.get(..line.len().min(200)).unwrap_or(line)).into_owned();
        if line.last() != Some(&b'\n') {
            if self.state().doomed {
                return Ok(());
            }
            return Err(format!("the last line is not ended: {:?}", shown()));
        }
        let message: Value = serde_json::from_slice(line).map_err(|error| format!("{error} in {:?}", shown()))?;
        if message["jsonrpc"] != "2.0" {
            return Err(format!("not a JSON-RPC 2.0 message: {:?}", shown()));
        }
        let (id, result, error) = (message.get("id"), message.get("result"), message.get("error"));
        if message.get("method").is_some() {
            if id.is_some() && self.may_be_asked {
                self.state().asked.push_back(message);
                return Ok(());
            }
            if id.is_some() {
                return Err(format!("a request from a server that has nothing to ask: {:?}", shown()));
            }
            self.state().notifications.push(message);
            return Ok(());
        }
        let answer = match (result, error) {
            (Some(result), None) => Ok(result.clone()),
            (None, Some(error)) => Err(RpcError {
                code: error["code"].as_i64().ok_or_else(|| format!("an error without a code: {:?}", shown()))?,
                message: error["message"].as_str().unwrap_or_default().to_owned(),
                data: error.get("data").cloned().unwrap_or(Value::Null),
            }),
            _ => return Err(format!("neither a result nor an error: {:?}", shown())),
        };
        match id.and_then(Value::as_u64) {
            Some(id) => {
                let waiting = self.state().waiting.remove(&id);
                let waiting = waiting.ok_or_else(|| format!("an answer nobody waits for: {:?}", shown()))?;
                // The asker may have given up; its answer is not wanted any more.
                let _ = waiting.send(answer);
                Ok(())
            }
            None if answer.is_err() => {
                self.state().nameless.push(message);
                Ok(())
            }
            None => Err(format!("a result without an id: {:?}", shown())),
        }
    }
}
