//! The open database. After the disk has failed, redb refuses all work until the file is opened once more; a disk that was full
//! may have room again, so that is done before the next write.
//!
//! What is committed is not touched by any of it: opening finds the last commit, as it does after a kill.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::Database;

use super::StoreError;

type Open = dyn Fn() -> Result<Database, StoreError> + Send + Sync;

pub(super) struct Opened {
    /// `None` while it could not be opened once more. Many read at a time; it is exchanged when nobody does, since a file cannot be
    /// opened twice.
    database: RwLock<Option<Database>>,
    open: Box<Open>,
    /// The disk has failed since it was opened.
    failed: AtomicBool,
}

impl Opened {
    /// `open` opens the same file once more.
    pub(super) fn new(
        database: Database,
        open: impl Fn() -> Result<Database, StoreError> + Send + Sync + 'static,
    ) -> Opened {
        Opened { database: RwLock::new(Some(database)), open: Box::new(open), failed: AtomicBool::new(false) }
    }

    /// Does something with the database, which stays open meanwhile. Must not be called inside of itself.
    pub(super) fn with<T>(&self, op: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = match &*self.guard() {
            Some(database) => op(database),
            None => Err(StoreError::Lost),
        };
        self.note(result.as_ref().err());
        result
    }

    /// Opens the file once more if the disk has failed.
    pub(super) fn mend(&self) -> Result<(), StoreError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one first: it has the file locked.
        *database = None;
        *database = Some((self.open)()?);
        self.failed.store(false, Ordering::Release);
        tracing::warn!("the database was opened once more after the disk had failed");
        Ok(())
    }

    /// Remembers an error after which redb refuses to go on.
    pub(super) fn note(&self, error: Option<&StoreError>) {
        if error.is_some_and(StoreError::is_of_the_disk) {
            self.failed.store(true, Ordering::Release);
        }
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("failed", &self.failed).finish_non_exhaustive()
    }
}
