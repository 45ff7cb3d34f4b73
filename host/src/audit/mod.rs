//! What was done to whom on whose behalf: one JSON line per action in `audit.jsonl`.
//!
//! A line is with the system before the action is answered, so it outlives a program that is killed the moment after. It never
//! holds what was sent to a command's standard input, values of environment variables, or credentials.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::call::JobId;

/// Longer commands are cut.
const COMMAND_LIMIT: usize = 4 << 10;

/// One action.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry<'a> {
    pub at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    pub tool: &'a str,
    /// The MCP client.
    pub caller: &'a str,
    /// Name and version of the plugin that acted, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'a str>,
    /// What was done: `exec`, `upload`, `server_add` …
    pub action: &'a str,
    /// The command line as it was asked for, if the action is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "in_part")]
    pub command: Option<&'a str>,
    /// `ok`, `exit 1`, `denied`, or an error code.
    pub outcome: &'a str,
    pub duration_ms: u64,
}

/// Why the audit log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the audit log {path}: {source}")]
pub struct AuditError {
    path: PathBuf,
    source: std::io::Error,
}

/// The open audit log. Clones share it.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    failed: AtomicU64,
}

impl Audit {
    /// Opens or creates the log at `path`, mode 0600.
    pub fn open(path: &Path) -> Result<Audit, AuditError> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| AuditError { path: path.to_owned(), source })?;
        Ok(Audit(Arc::new(Inner { file, failed: AtomicU64::new(0) })))
    }

    /// Appends a line. It goes to the system's memory and not yet to the disk, which is quicker than to wake another thread that
    /// would do it. One write per line: with O_APPEND those of several threads and processes never mix.
    pub fn record(&self, entry: &Entry<'_>) {
        let written = serde_json::to_vec(entry).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            (&self.0.file).write_all(&line)
        });
        if let Err(error) = written {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "an audit line was lost");
        }
    }

    /// How many lines could not be written since the start.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }
}

/// Called for a command that there is.
fn in_part<S: Serializer>(command: &Option<&str>, to: S) -> Result<S::Ok, S::Error> {
    let whole = command.unwrap_or_default();
    match whole.get(..whole.floor_char_boundary(COMMAND_LIMIT)) {
        Some(part) if part.len() < whole.len() => to.collect_str(&format_args!("{part}… ({} bytes)", whole.len())),
        _ => to.serialize_str(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn entry(command: &str) -> Entry<'_> {
        Entry {
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
            job: Some(JobId(1)),
            tool: "task_exec",
            caller: "tests 1",
            plugin: None,
            server: Some("web"),
            action: "exec",
            command: Some(command),
            outcome: "exit 0",
            duration_ms: 12,
        }
    }

    #[test]
    fn a_line_holds_the_whole_action() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&path).unwrap();
        audit.record(&entry("uptime\nid"));
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

    #[test]
    fn lines_of_several_threads_and_processes_arrive_whole() {
        const LINES: usize = 500;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        // Two logs on one file, as two processes have.
        let audits = [Audit::open(&path).unwrap(), Audit::open(&path).unwrap()];
        std::thread::scope(|scope| {
            for audit in audits.iter().flat_map(|audit| [audit; 4]) {
                scope.spawn(move || (0..LINES).for_each(|_| audit.record(&entry(&"x".repeat(100)))));
            }
        });
        assert!(audits.iter().all(|audit| audit.failed() == 0));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2 * 4 * LINES);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted() {
        let audit = Audit(Arc::new(Inner {
            // Nothing can be written to it.
            file: File::open("/dev/null").unwrap(),
            failed: AtomicU64::new(0),
        }));
        audit.record(&entry("uptime"));
        assert_eq!(audit.failed(), 1);
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        let shown = |command: &str| serde_json::to_value(entry(command)).unwrap()["command"].clone();
        let long = "ä".repeat(COMMAND_LIMIT);
        assert_eq!(shown(&long), format!("{}… ({} bytes)", "ä".repeat(COMMAND_LIMIT / 2), COMMAND_LIMIT * 2));
        assert_eq!(shown("uptime"), "uptime");
    }
}
