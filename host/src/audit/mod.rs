//! What was done to whom on whose behalf: one JSON line per action in `audit.jsonl`.
//!
//! It never holds what was sent to a command's standard input, values of environment variables, or credentials.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::call::JobId;

/// How many lines wait at most before the next one has to wait for a place.
const QUEUE: usize = 1024;
/// Longer commands are cut.
const COMMAND_LIMIT: usize = 4 << 10;

/// One action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    pub tool: String,
    /// The MCP client.
    pub caller: String,
    /// Name and version of the plugin that acted, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What was done: `exec`, `upload`, `server_add` …
    pub action: String,
    /// The command line as it was asked for, if the action is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `ok`, `exit 1`, `denied`, or an error code.
    pub outcome: String,
    pub duration_ms: u64,
}

/// Why the audit log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("could not open the audit log {path}: {source}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("could not start the writer of the audit log: {0}")]
    Start(std::io::Error),
}

/// The open audit log. Clones share it; the last one to go waits for the lines to be written.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Bounded; who is too fast waits, since a line must not be lost. `None` only while it is being dropped.
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    failed: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl Audit {
    /// Opens or creates the log at `path`, mode 0600, and starts its writer.
    pub fn open(path: &Path) -> Result<Audit, AuditError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| AuditError::Open { path: path.to_owned(), source })?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let failed = Arc::new(AtomicU64::new(0));
        let thread = std::thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn({
                let failed = failed.clone();
                move || write_lines(file, lines, &failed)
            })
            .map_err(AuditError::Start)?;
        Ok(Audit(Arc::new(Inner { queue: Some(queue), thread: Some(thread), failed })))
    }

    /// Hands a line to the writer. Waits while too many are waiting.
    pub async fn record(&self, mut entry: Entry) {
        if let Some(command) = &mut entry.command {
            cut(command);
        }
        match serde_json::to_vec(&entry) {
            Ok(mut line) => {
                line.push(b'\n');
                self.send(Message::Line(line)).await;
            }
            Err(error) => self.0.fail(&error),
        }
    }

    /// Returns once everything recorded before is in the file.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.send(Message::Flush(done)).await;
        let _ = is_done.await;
    }

    /// How many lines could not be written since the start.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    async fn send(&self, message: Message) {
        if let Some(queue) = &self.0.queue
            && let Err(error) = queue.send(message).await
        {
            self.0.fail(&error);
        }
    }
}

impl Inner {
    fn fail(&self, error: &dyn std::fmt::Display) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "an audit line was lost");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One write per line: with O_APPEND lines of several processes then never mix.
fn write_lines(mut file: File, mut lines: mpsc::Receiver<Message>, failed: &AtomicU64) {
    while let Some(message) = lines.blocking_recv() {
        match message {
            Message::Line(line) => {
                if let Err(error) = file.write_all(&line) {
                    failed.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "an audit line was lost");
                }
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

fn cut(command: &mut String) {
    if command.len() > COMMAND_LIMIT {
        let dropped = command.len();
        command.truncate(command.floor_char_boundary(COMMAND_LIMIT));
        command.push_str(&format!("… ({} bytes)", dropped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(command: &str) -> Entry {
        Entry {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            job: Some(JobId(1)),
            tool: "task_exec".to_owned(),
            caller: "tests 1".to_owned(),
            plugin: None,
            server: Some("web".to_owned()),
            action: "exec".to_owned(),
            command: Some(command.to_owned()),
            outcome: "exit 0".to_owned(),
            duration_ms: 12,
        }
    }

    #[tokio::test]
    async fn a_line_holds_the_whole_action() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(entry("uptime\nid")).await;
        audit.flush().await;
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            concat!(
                r#"{"at":"2026-01-02T03:04:05Z","job":"j0000000000001","tool":"task_exec","caller":"tests 1","server":"web","#,
                r#""action":"exec","command":"uptime\nid","outcome":"exit 0","duration_ms":12}"#,
                "\n"
            )
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_lines_than_the_queue_holds_all_arrive_whole_and_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        // Two logs on one file, as two processes have.
        for audit in [Audit::open(&path).unwrap(), Audit::open(&path).unwrap()] {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let audit = audit.clone();
                tasks.spawn(async move {
                    for _ in 0..QUEUE / 2 {
                        audit.record(entry(&"x".repeat(100))).await;
                    }
                });
            }
            tasks.join_all().await;
            assert_eq!(audit.failed(), 0);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2 * 8 * QUEUE / 2);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        let mut command = "ä".repeat(COMMAND_LIMIT);
        cut(&mut command);
        assert_eq!(command, format!("{}… ({} bytes)", "ä".repeat(COMMAND_LIMIT / 2), COMMAND_LIMIT * 2));
        let mut short = "uptime".to_owned();
        cut(&mut short);
        assert_eq!(short, "uptime");
    }
}
