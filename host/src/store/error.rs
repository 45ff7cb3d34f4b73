//! What can go wrong with the database file, by step and subject.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Problem;

/// Why the database could not be opened, read or written. Cheap to clone: one failed commit is told to everyone in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{path} is in use by another process: stop the other mcp-orchestrator (a daemon with `mcp-orchestrator daemon stop`), or set MCP_DATA_DIR to another directory for this one"
    )]
    Locked { path: PathBuf },
    #[error("could not {step} {path}: {source}")]
    Io { step: &'static str, path: PathBuf, source: Arc<std::io::Error> },
    #[error(
        "{path} was written by a newer mcp-orchestrator (schema {found}, this one knows up to {known}): run that version, or set MCP_DATA_DIR to another directory"
    )]
    TooNew { path: PathBuf, found: u64, known: u64 },
    #[error("{path} has version {found} of the database file format, which this mcp-orchestrator cannot read")]
    Format { path: PathBuf, found: u8 },
    #[error("could not open {path}: {source}")]
    Open { path: PathBuf, source: Arc<redb::Error> },
    #[error("could not migrate the database from schema {from}: {source}")]
    Migrate { from: u64, source: Box<StoreError> },
    #[error("the database failed: {0}")]
    Database(Arc<redb::Error>),
    #[error("the record {key} in table {table} cannot be read: {reason}")]
    Record { table: &'static str, key: String, reason: String },
    #[error("an operation on the database panicked")]
    Panicked,
    #[error("the database could not be opened again after the disk had failed")]
    Lost,
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether redb refuses to go on after it, since it does not know what is on the disk.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, StoreError::Lost | StoreError::Open { .. })
            || matches!(self, StoreError::Database(error) if matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo))
    }

    pub(crate) fn io(step: &'static str, path: &Path, source: std::io::Error) -> Self {
        StoreError::Io { step, path: path.to_owned(), source: Arc::new(source) }
    }

    /// A record that is there but not as it should be.
    pub(crate) fn record(table: &'static str, key: impl ToString, reason: impl ToString) -> Self {
        StoreError::Record { table, key: key.to_string(), reason: reason.to_string() }
    }
}

/// Each of redb's own errors, so that `?` works inside of an operation.
macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                StoreError::Database(Arc::new(error.into()))
            }
        })+
    };
}
from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError, redb::SetDurabilityError);

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        tracing::error!(%error, "database");
        let cause = match &error {
            StoreError::Database(source) => match &**source {
                redb::Error::Io(source) => Some(source.to_string()),
                _ => None,
            },
            _ => None,
        };
        let message = match (cause, &error) {
            (Some(cause), _) => format!("the orchestrator's database could not be read or written: {cause}"),
            (None, StoreError::Database(_)) => "the orchestrator's database failed; its log holds the cause".to_owned(),
            (None, other) => other.to_string(),
        };
        Problem::internal(message)
            .retryable(error.is_of_the_disk())
            .hint("see task_logs and system_diagnostics; check that the disk is not full")
    }
}
