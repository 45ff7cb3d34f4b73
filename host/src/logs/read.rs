//! Reading the log back: the last lines that match, newest last.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Level, file};
use crate::error::Problem;

/// Where the log is read.
#[derive(Clone, Debug)]
pub struct Logs {
    directory: PathBuf,
    /// Whether lines also go to standard error.
    pub(super) spoken: Arc<AtomicBool>,
}

/// Which lines are wanted.
#[derive(Clone, Debug)]
pub struct Query {
    /// This level and all that matter more.
    pub level: Level,
    /// Text that must occur somewhere in the line, in any case.
    pub search: Option<String>,
    pub limit: usize,
}

/// A line as the JSON layer writes it.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    level: String,
    #[serde(default)]
    message: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Logs {
    pub(super) fn new(directory: PathBuf) -> Self {
        Logs { directory, spoken: Arc::new(AtomicBool::new(true)) }
    }

    /// Writes to the file only from now on: whoever started us no longer listens.
    pub fn hush(&self) {
        self.spoken.store(false, Ordering::Relaxed);
    }

    /// The last lines that match. Memory is bounded by `limit`: the files are read as a stream.
    pub async fn last(&self, query: Query) -> Result<Vec<String>, Problem> {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            let mut kept = VecDeque::with_capacity(query.limit.min(1024));
            for name in [file::PREVIOUS, file::CURRENT] {
                let Ok(opened) = std::fs::File::open(directory.join(name)) else { continue };
                for line in BufReader::new(opened).lines().map_while(Result::ok) {
                    if let Some(shown) = matching(&line, &query) {
                        if kept.len() == query.limit {
                            kept.pop_front();
                        }
                        kept.push_back(shown);
                    }
                }
            }
            kept.into()
        })
        .await
        .map_err(|_| Problem::internal("reading the log was interrupted"))
    }
}

/// A line as it is shown, if it matches.
fn matching(line: &str, query: &Query) -> Option<String> {
    let line: Line = serde_json::from_str(line).ok()?;
    let level = match line.level.as_str() {
        "ERROR" => Level::Error,
        "WARN" => Level::Warn,
        "INFO" => Level::Info,
        "DEBUG" => Level::Debug,
        _ => Level::Trace,
    };
    if level > query.level {
        return None;
    }
    let mut shown = format!("{} {:5} {}", line.timestamp, line.level, line.message);
    for (name, value) in line.fields.iter().filter(|(name, _)| *name != "target") {
        match value {
            Value::String(text) => shown.push_str(&format!(" {name}={text}")),
            other => shown.push_str(&format!(" {name}={other}")),
        }
    }
    match &query.search {
        Some(text) if !shown.to_lowercase().contains(&text.to_lowercase()) => None,
        _ => Some(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, level: Level, search: Option<&str>, expected: Option<&str>) {
        let query = Query { level, search: search.map(str::to_owned), limit: 1 };
        assert_eq!(matching(line, &query).as_deref(), expected);
    }

    #[test]
    fn lines_are_chosen_by_level_and_text() {
        let line = r#"{"timestamp":"T","level":"INFO","message":"connected","target":"ssh","alias":"web","port":22}"#;
        check(line, Level::Info, None, Some("T INFO  connected alias=web port=22"));
        check(line, Level::Warn, None, None);
        check(line, Level::Debug, Some("WEB"), Some("T INFO  connected alias=web port=22"));
        check(line, Level::Debug, Some("db"), None);
        check("no json", Level::Trace, None, None);
    }
}
