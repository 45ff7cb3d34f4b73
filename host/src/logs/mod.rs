//! Our own log: lines on standard error for whoever started us, and JSON lines in `DATA_DIR/logs/` for `task_logs`.
//!
//! Not the audit trail, which says what was done to servers and is never rotated away.

mod file;
mod read;

use std::path::Path;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::writer::OptionalWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use read::{Logs, Query};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Starts logging. `filter` is what the operator set; it holds for both places. What the file can't take is reported on
/// standard error and does not stop the start.
pub fn start(data_dir: &Path, filter: &str) -> Logs {
    let directory = data_dir.join("logs");
    let logs = Logs::new(directory.clone());
    let spoken = logs.spoken.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || match spoken.load(Ordering::Relaxed) {
            true => OptionalWriter::some(std::io::stderr()),
            false => OptionalWriter::none(),
        })
        .with_ansi(false)
        .with_target(false)
        .with_filter(filter_of(filter));
    match file::RotatingFile::open(&directory) {
        Ok(file) => {
            let json = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(file)
                .with_filter(filter_of(filter));
            // A second start in one process (tests) keeps the first one's subscriber.
            let _ = tracing_subscriber::registry().with(lines).with(json).try_init();
        }
        Err(error) => {
            let _ = tracing_subscriber::registry().with(lines).try_init();
            tracing::warn!("{} can't be written ({error}): task_logs will be empty", directory.display());
        }
    }
    logs
}

/// The operator's filter; libraries below us speak only when something is wrong, unless the filter names them.
fn filter_of(filter: &str) -> EnvFilter {
    let quiet = format!("warn,rmcp=error,mcp_orchestrator={filter}");
    let directives = if filter.contains(['=', ',']) { filter } else { quiet.as_str() };
    EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("warn,rmcp=error,mcp_orchestrator=info"))
}
