//! After a start: what an earlier process left unended, and nobody runs any more, is ended as crashed.
//!
//! A queue can hold a million jobs. The newest of them are committed before anything is served, the others in batches beside
//! it, newest first; until its turn comes such a job is told as what it will be (`queue`). A process that is killed in between
//! leaves the rest to the next one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use tokio_util::sync::CancellationToken;

use crate::call::JobId;
use crate::failpoint::failpoint;
use crate::store::StoreError;

use super::job::{AnyJob, Status};
use super::output::Counts;
use super::record;
use super::store::{ACTIVE, BY_BAD_END, JOBS, JobStore, TALLY, bad_end, count, create_tables, readable};

/// More than a queue usually holds: so much is committed before anything is served.
const AT_ONCE: usize = 2_000;
/// Jobs per transaction afterwards, so that nobody who writes meanwhile waits for long.
const BATCH: usize = 500;

/// What a job printed into files.
type Printed = Arc<dyn Fn(JobId) -> Counts + Send + Sync>;

/// What is still to be ended.
#[derive(Clone)]
pub(super) struct Recovery {
    /// When it is said to have ended: this process found it then.
    at: Timestamp,
    printed: Printed,
    /// The greatest id that was not looked at. `None` once all were.
    next: Option<u64>,
    unfinished: Arc<AtomicBool>,
}

/// What a start has found.
pub(super) struct Found {
    pub(super) recovery: Recovery,
    /// Jobs that had not ended.
    pub(super) unended: u64,
    /// The greatest id in use.
    pub(super) last: u64,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Recovery {
    /// Creates the tables and ends the newest of what an earlier process left unended.
    pub(super) async fn begin(
        store: &JobStore,
        at: Timestamp,
        printed: impl Fn(JobId) -> Counts + Send + Sync + 'static,
    ) -> Result<Found, StoreError> {
        let (last, unended) = store
            .store
            .write(|txn| {
                create_tables(txn)?;
                let last = txn.open_table(JOBS)?.last()?.map_or(0, |(id, _)| id.value());
                Ok((last, txn.open_table(ACTIVE)?.len()?))
            })
            .await?;
        let unfinished = Arc::new(AtomicBool::new(true));
        let mut recovery = Recovery { at, printed: Arc::new(printed), next: Some(last), unfinished };
        recovery.step(store, AT_ONCE).await?;
        Ok(Found { recovery, unended, last })
    }

    /// Ends the rest, batch by batch until `closing` fires.
    pub(super) async fn finish(mut self, store: &JobStore, closing: &CancellationToken) -> Result<(), StoreError> {
        while self.next.is_some() && !closing.is_cancelled() {
            self.step(store, BATCH).await?;
            failpoint("jobs-recovered");
        }
        Ok(())
    }

    /// Whether there are jobs of an earlier process whose end is not committed yet.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire)
    }

    async fn step(&mut self, store: &JobStore, size: usize) -> Result<(), StoreError> {
        if let Some(upto) = self.next {
            let (at, printed) = (self.at, Arc::clone(&self.printed));
            self.next = store.store.write(move |txn| recover(txn, upto, size, at, &*printed)).await?;
            self.unfinished.store(self.next.is_some(), Ordering::Release);
        }
        Ok(())
    }
}

/// Ends up to `size` jobs whose ids are `upto` or less, and says where to go on.
fn recover(
    txn: &WriteTransaction,
    upto: u64,
    size: usize,
    at: Timestamp,
    printed: &dyn Fn(JobId) -> Counts,
) -> Result<Option<u64>, StoreError> {
    let mut active = txn.open_table(ACTIVE)?;
    let mut jobs = txn.open_table(JOBS)?;
    let mut by_bad_end = txn.open_table(BY_BAD_END)?;
    let mut changes: BTreeMap<(String, Status), i64> = BTreeMap::new();
    let ids: Vec<u64> =
        active.range(..=upto)?.rev().take(size).map(|row| Ok(row?.0.value())).collect::<Result<_, StoreError>>()?;
    for id in &ids {
        let job = jobs.get(id)?.and_then(|bytes| readable(*id, bytes.value())).filter(AnyJob::is_active);
        let Some(job) = job else {
            // Its record is gone or cannot be read: it must at least not be taken for a running one.
            active.remove(id)?;
            continue;
        };
        let before = job.status();
        // One that runs by itself is left, and looked for.
        let AnyJob::Ended(ended) = job.recover(at) else { continue };
        let ended = AnyJob::Ended(match before {
            Status::Pending => ended,
            _ => ended.with_output(printed(JobId(*id))),
        });
        let bytes = record::encode(&ended).map_err(|error| StoreError::record("jobs", JobId(*id), error))?;
        jobs.insert(id, bytes.as_slice())?;
        if let Some(bad) = bad_end(ended.status()) {
            by_bad_end.insert((bad, *id), ())?;
        }
        active.remove(id)?;
        for (status, by) in [(before, -1), (ended.status(), 1)] {
            *changes.entry((ended.head().tool.clone(), status)).or_default() += by;
        }
    }
    let mut tally = txn.open_table(TALLY)?;
    for ((tool, status), by) in changes {
        count(&mut tally, &tool, status, by)?;
    }
    Ok(ids.last().filter(|_| ids.len() == size).and_then(|id| id.checked_sub(1)))
}
