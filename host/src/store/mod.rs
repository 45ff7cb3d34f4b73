//! The database file: opened once, with a schema version and one writer at a time that groups commits.
//!
//! What is in the tables is the business of the modules above; this one knows only that there are tables.

mod error;
mod opened;
mod open;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

pub use error::StoreError;
pub use schema::SCHEMA;
pub use writer::Haste;

use opened::Opened;

/// The open database. Clones share it; the last one to go waits for the writer to commit what it was handed.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // Above `database`: fields drop in this order, and the writer must end while the file is still open.
    writer: writer::Writer,
    database: Arc<Opened>,
    path: PathBuf,
    warnings: Vec<String>,
}

impl Store {
    /// Opens or creates the database at `path` (mode 0600), migrates an older schema, makes the file smaller when at least half
    /// of it was removed, and starts the writer.
    ///
    /// A file that is no database or is damaged is set aside under a new name, which [`Store::warnings`] tells.
    /// Blocks on the disk; call it before the server serves.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let (database, warnings) = open::open(path, schema::MIGRATIONS)?;
        let again = path.to_owned();
        let database = Arc::new(Opened::new(database, move || open::once_more(&again)));
        let writer = writer::Writer::start(database.clone())?;
        Ok(Store(Arc::new(Inner { writer, database, path: path.to_owned(), warnings })))
    }

    /// Runs `op` in a write transaction and returns once its effect is on disk.
    ///
    /// Everything that waits at the same time shares one transaction and one sync. When one of them fails, or panics, only its
    /// own caller hears of it and the others run again without it: `op` must therefore be fit to run more than once,
    /// and must have no effect outside of the transaction.
    /// Dropping the future does not take the operation back.
    pub async fn write<T, F>(&self, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_with(Haste::Now, op).await
    }

    /// As [`Store::write`]; with [`Haste::Soon`] it may wait a little for others to share its sync.
    pub async fn write_with<T, F>(&self, haste: Haste, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        self.0.writer.write(haste, op).await
    }

    /// Runs `op` on a snapshot of what is committed, on the caller's thread. For look-ups of microseconds.
    pub fn read<T>(&self, op: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.database.mend()?;
        self.0.database.with(|database| op(&database.begin_read()?))
    }

    /// As [`Store::read`], on a thread where it may take its time. For anything that visits many records.
    pub async fn scan<T, F>(&self, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.read(op)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Panicked),
        }
    }

    /// Counts bytes that `txn` removes, so that a start knows when the file may be worth making smaller.
    pub fn freed(txn: &WriteTransaction, bytes: u64) -> Result<(), StoreError> {
        schema::add_freed(txn, bytes)
    }

    /// Bytes that the file takes on disk now.
    pub fn file_size(&self) -> Result<u64, StoreError> {
        let metadata =
            std::fs::metadata(&self.0.path).map_err(|error| StoreError::io("read the size of", &self.0.path, error))?;
        Ok(metadata.len())
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the operator should know about how opening went, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }
}

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;
