//! Jobs on disk: the tables, what a transaction of each kind does, and how jobs are found again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::call::JobId;
use crate::capability::Stream;
use crate::store::{Haste, Store, StoreError};

use super::job::{AnyJob, MAX_RETRIES, Status};
use super::output::Kept;
use super::{ids, record};

/// Every job, as JSON.
pub(super) const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
/// The jobs that have not ended, so that recovery visits only these.
pub(super) const ACTIVE: TableDefinition<'_, u64, ()> = TableDefinition::new("jobs_active");
/// The jobs of each server.
const BY_SERVER: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("jobs_by_server");
/// The jobs that came to a bad end, by its kind: few among many, so that the newest of them are found without visiting all.
pub(super) const BY_BAD_END: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("jobs_by_bad_end");
/// The latest job of each tool and idempotency key.
const BY_KEY: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("jobs_by_key");
/// How many jobs there are of each tool and status, so that statistics need not visit all.
pub(super) const TALLY: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("jobs_tally");
/// How often the first job of a chain was retried.
const RETRIES: TableDefinition<'_, u64, u32> = TableDefinition::new("jobs_retries");
/// The detached jobs that may have something on their servers, so that it is removed there in the end.
const PLACES: TableDefinition<'_, u64, ()> = TableDefinition::new("jobs_places");
/// Small outputs: 0 is stdout, 1 is stderr.
const OUTPUTS: TableDefinition<'_, (u64, u8), &[u8]> = TableDefinition::new("jobs_outputs");

/// What a listing is to hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub server: Option<String>,
    pub tool: Option<String>,
    pub status: Option<Status>,
    /// Created at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many, the newest; 0 is the default of 20.
    pub limit: usize,
}

impl Filter {
    pub(super) fn limit(&self) -> usize {
        if self.limit == 0 { 20 } else { self.limit }
    }

    /// Whether a job is one that is asked for.
    pub fn matches(&self, job: &AnyJob) -> bool {
        let head = job.head();
        self.server.as_ref().is_none_or(|server| head.server.as_ref() == Some(server))
            && self.tool.as_ref().is_none_or(|tool| head.tool == *tool)
            && self.status.is_none_or(|status| job.status() == status)
            && self.since.is_none_or(|since| head.created >= since)
    }
}

/// What became of a job that was to be inserted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Inserted {
    /// It is committed; a retry's `attempts` and `root` are as told here.
    New {
        attempts: u32,
        root: Option<JobId>,
    },
    /// The same tool was called with the same idempotency key before.
    Existing(JobId),
    RetryLimit,
}

/// A job's new state.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) before: Status,
    pub(super) job: Arc<AnyJob>,
    /// Comes with the end.
    pub(super) kept: Option<Kept>,
}

/// Jobs in the database. Knows nothing of what is running.
#[derive(Clone, Debug)]
pub(super) struct JobStore {
    pub(super) store: Store,
}

impl JobStore {
    pub(super) fn new(store: Store) -> JobStore {
        JobStore { store }
    }

    /// Commits a new job. `kept` comes with one that has ended.
    pub(super) async fn insert(
        &self,
        haste: Haste,
        job: Arc<AnyJob>,
        kept: Option<Kept>,
        retry_of: Option<JobId>,
    ) -> Result<Inserted, StoreError> {
        self.store.write_with(haste, move |txn| insert(txn, &job, kept.as_ref(), retry_of)).await
    }

    /// Commits a job's new state.
    pub(super) async fn update(&self, haste: Haste, change: Arc<Change>) -> Result<(), StoreError> {
        self.store.write_with(haste, move |txn| update(txn, &change)).await
    }

    /// The same after a try that has failed, of which nobody can tell whether it was committed all the same.
    pub(super) async fn update_again(&self, change: Arc<Change>) -> Result<(), StoreError> {
        let update_again = move |txn: &WriteTransaction| {
            let id = change.job.id();
            let stored = match txn.open_table(JOBS)?.get(id.0)? {
                Some(bytes) => decode(id.0, bytes.value())?.status(),
                None => return Ok(()),
            };
            if stored == change.before { update(txn, &change) } else { Ok(()) }
        };
        self.store.write(update_again).await
    }

    pub(super) fn get(&self, id: JobId) -> Result<Option<AnyJob>, StoreError> {
        self.store.read(|txn| {
            let jobs = txn.open_table(JOBS)?;
            jobs.get(id.0)?.map(|bytes| decode(id.0, bytes.value())).transpose()
        })
    }

    /// Jobs that may have something on their servers, ended or not.
    pub(super) fn places(&self) -> Result<Vec<AnyJob>, StoreError> {
        self.store.read(|txn| {
            let jobs = txn.open_table(JOBS)?;
            let mut found = Vec::new();
            for row in txn.open_table(PLACES)?.iter()? {
                let id = row?.0.value();
                found.extend(jobs.get(id)?.and_then(|bytes| readable(id, bytes.value())));
            }
            Ok(found)
        })
    }

    /// Commits that a job has nothing on its server any more.
    pub(super) async fn cleaned(&self, id: JobId) -> Result<(), StoreError> {
        let clean = move |txn: &WriteTransaction| Ok(txn.open_table(PLACES)?.remove(id.0).map(|_| ())?);
        self.store.write(clean).await
    }

    /// A small output that was kept beside the job.
    pub(super) fn inline_output(&self, id: JobId, stream: Stream) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(|txn| {
            let outputs = txn.open_table(OUTPUTS)?;
            Ok(outputs.get((id.0, stream_key(stream)))?.map(|bytes| bytes.value().to_vec()))
        })
    }

    /// The newest jobs that match, newest first. Visits no more records than it must.
    pub(super) async fn list(&self, filter: Filter) -> Result<Vec<AnyJob>, StoreError> {
        self.store.scan(move |txn| list(txn, &filter)).await
    }

    /// The first of these jobs that match, in the order given.
    pub(super) async fn first_of(&self, ids: Vec<JobId>, filter: Filter) -> Result<Vec<AnyJob>, StoreError> {
        self.store
            .scan(move |txn| {
                let jobs = txn.open_table(JOBS)?;
                let mut found = Vec::new();
                for id in ids {
                    let job = jobs.get(id.0)?.and_then(|bytes| readable(id.0, bytes.value()));
                    found.extend(job.filter(|job| filter.matches(job)));
                    if found.len() >= filter.limit() {
                        break;
                    }
                }
                Ok(found)
            })
            .await
    }

    pub(super) async fn contains(&self, ids: Vec<JobId>) -> Result<HashSet<JobId>, StoreError> {
        self.store
            .scan(move |txn| {
                let jobs = txn.open_table(JOBS)?;
                let mut found = HashSet::new();
                for id in ids {
                    if jobs.get(id.0)?.is_some() {
                        found.insert(id);
                    }
                }
                Ok(found)
            })
            .await
    }

    /// Counts of all jobs by tool and status.
    pub(super) fn tally(&self) -> Result<Vec<(String, Status, u64)>, StoreError> {
        self.store.read(|txn| {
            let mut counts = Vec::new();
            for row in txn.open_table(TALLY)?.iter()? {
                let (key, count) = row?;
                let (tool, status) = key.value();
                if let Some(status) = Status::parse(status) {
                    counts.push((tool.to_owned(), status, count.value()));
                }
            }
            Ok(counts)
        })
    }

    /// Shows the newest `limit` jobs to `visit`, newest first.
    pub(super) async fn visit<T, F>(&self, limit: usize, start: T, visit: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut T, &AnyJob) + Send + 'static,
    {
        self.store
            .scan(move |txn| {
                let mut state = start;
                for row in txn.open_table(JOBS)?.iter()?.rev().take(limit) {
                    let (id, bytes) = row?;
                    if let Some(job) = readable(id.value(), bytes.value()) {
                        visit(&mut state, &job);
                    }
                }
                Ok(state)
            })
            .await
    }

    /// Removes up to `batch` jobs that ended before `cutoff`, looking from `from` on.
    /// Returns them, and where to go on when there may be more.
    pub(super) async fn prune(
        &self,
        cutoff: Timestamp,
        from: u64,
        batch: usize,
    ) -> Result<(Vec<JobId>, Option<u64>), StoreError> {
        let (old, next) = self.store.scan(move |txn| expired(txn, cutoff, from, batch)).await?;
        if !old.is_empty() {
            let old = old.clone();
            self.store.write(move |txn| remove(txn, &old)).await?;
        }
        Ok((old, next))
    }
}

pub(super) fn create_tables(txn: &WriteTransaction) -> Result<(), StoreError> {
    txn.open_table(JOBS)?;
    txn.open_table(ACTIVE)?;
    txn.open_table(BY_SERVER)?;
    txn.open_table(BY_BAD_END)?;
    txn.open_table(BY_KEY)?;
    txn.open_table(TALLY)?;
    txn.open_table(RETRIES)?;
    txn.open_table(OUTPUTS)?;
    txn.open_table(PLACES)?;
    Ok(())
}

fn insert(
    txn: &WriteTransaction,
    job: &AnyJob,
    kept: Option<&Kept>,
    retry_of: Option<JobId>,
) -> Result<Inserted, StoreError> {
    let head = job.head();
    if let Some(key) = &head.idempotency_key {
        let mut keys = txn.open_table(BY_KEY)?;
        let known = keys.get((head.tool.as_str(), key.as_str()))?.map(|id| id.value());
        if let Some(known) = known {
            return Ok(Inserted::Existing(JobId(known)));
        }
        keys.insert((head.tool.as_str(), key.as_str()), head.id.0)?;
    }
    let (attempts, root) = match retry_of {
        None => (1, None),
        Some(parent) => {
            let parent_job = txn.open_table(JOBS)?.get(parent.0)?.and_then(|bytes| readable(parent.0, bytes.value()));
            let root = parent_job.and_then(|job| job.head().root).unwrap_or(parent);
            let mut retries = txn.open_table(RETRIES)?;
            let count = retries.get(root.0)?.map_or(0, |count| count.value()) + 1;
            if count > MAX_RETRIES {
                return Ok(Inserted::RetryLimit);
            }
            retries.insert(root.0, count)?;
            (count + 1, Some(root))
        }
    };
    match root {
        None => put(txn, job, kept)?,
        // Only inside of the transaction the job knows how often it was tried.
        Some(_) => put(txn, &job.clone().with_attempts(attempts, root, retry_of), kept)?,
    }
    if job.is_active() {
        txn.open_table(ACTIVE)?.insert(head.id.0, ())?;
    }
    if let Some(server) = &head.server {
        txn.open_table(BY_SERVER)?.insert((server.as_str(), head.id.0), ())?;
    }
    if head.detached.is_some() {
        txn.open_table(PLACES)?.insert(head.id.0, ())?;
    }
    Ok(Inserted::New { attempts, root })
}

fn update(txn: &WriteTransaction, Change { before, job, kept }: &Change) -> Result<(), StoreError> {
    let head = job.head();
    put(txn, job, kept.as_ref())?;
    count(&mut txn.open_table(TALLY)?, &head.tool, *before, -1)?;
    if !job.is_active() {
        txn.open_table(ACTIVE)?.remove(head.id.0)?;
    }
    Ok(())
}

/// Keeps a job in its state, and counts it there.
fn put(txn: &WriteTransaction, job: &AnyJob, kept: Option<&Kept>) -> Result<(), StoreError> {
    let (id, head) = (job.id(), job.head());
    let bytes = record::encode(job).map_err(|error| StoreError::record("jobs", id, error))?;
    txn.open_table(JOBS)?.insert(id.0, bytes.as_slice())?;
    count(&mut txn.open_table(TALLY)?, &head.tool, job.status(), 1)?;
    if let Some(bad) = bad_end(job.status()) {
        txn.open_table(BY_BAD_END)?.insert((bad, id.0), ())?;
    }
    let inline = kept.map(|kept| kept.inline.as_slice()).unwrap_or_default();
    if !inline.is_empty() {
        let mut outputs = txn.open_table(OUTPUTS)?;
        for (stream, bytes) in inline {
            outputs.insert((id.0, stream_key(*stream)), bytes.as_slice())?;
        }
    }
    Ok(())
}

pub(super) fn count(
    tally: &mut Table<'_, (&str, &str), u64>,
    tool: &str,
    status: Status,
    by: i64,
) -> Result<(), StoreError> {
    let key = (tool, status.as_str());
    let before = tally.get(key)?.map_or(0, |count| count.value());
    match before.saturating_add_signed(by) {
        0 => tally.remove(key)?.map(|_| ()),
        after => tally.insert(key, after)?.map(|_| ()),
    };
    Ok(())
}

fn list(txn: &ReadTransaction, filter: &Filter) -> Result<Vec<AnyJob>, StoreError> {
    let jobs = txn.open_table(JOBS)?;
    // An id's time is never before its job's, so nothing that is new enough lies below.
    let from = filter.since.map_or(0, ids::floor);
    let mut found = Vec::new();
    let mut consider = |id: u64, bytes: &[u8]| {
        if let Some(job) = readable(id, bytes).filter(|job| filter.matches(job)) {
            found.push(job);
        }
        found.len() < filter.limit()
    };
    let bad = filter.status.and_then(bad_end).map(|bad| (bad, BY_BAD_END));
    let server = filter.server.as_deref().map(|server| (server, BY_SERVER));
    match bad.or(server) {
        Some((key, index)) => {
            let index = txn.open_table(index)?;
            for row in index.range((key, from)..=(key, u64::MAX))?.rev() {
                let id = row?.0.value().1;
                if let Some(bytes) = jobs.get(id)?
                    && !consider(id, bytes.value())
                {
                    break;
                }
            }
        }
        None => {
            for row in jobs.range(from..)?.rev() {
                let (id, bytes) = row?;
                if !consider(id.value(), bytes.value()) {
                    break;
                }
            }
        }
    }
    Ok(found)
}

fn expired(
    txn: &ReadTransaction,
    cutoff: Timestamp,
    from: u64,
    batch: usize,
) -> Result<(Vec<JobId>, Option<u64>), StoreError> {
    let mut old = Vec::new();
    // A job with a later id was made after the cutoff and so ended after it.
    for (visited, row) in txn.open_table(JOBS)?.range(from..ids::floor(cutoff))?.enumerate() {
        let (id, bytes) = row?;
        let id = id.value();
        if visited >= batch {
            return Ok((old, Some(id)));
        }
        let ended = readable(id, bytes.value()).map(|job| job.ended());
        match ended {
            Some(Some(ended)) if ended < cutoff => old.push(JobId(id)),
            // Still active, or ended later than its age suggests.
            Some(_) => {}
            // What nobody can read and everybody would have forgotten goes too.
            None => old.push(JobId(id)),
        }
    }
    Ok((old, None))
}

fn remove(txn: &WriteTransaction, ids: &[JobId]) -> Result<(), StoreError> {
    let mut jobs = txn.open_table(JOBS)?;
    let mut by_server = txn.open_table(BY_SERVER)?;
    let mut by_key = txn.open_table(BY_KEY)?;
    let mut by_bad_end = txn.open_table(BY_BAD_END)?;
    let mut tally = txn.open_table(TALLY)?;
    let mut retries = txn.open_table(RETRIES)?;
    let mut freed = 0;
    let mut gone: BTreeMap<(String, Status), i64> = BTreeMap::new();
    let mut outputs = txn.open_table(OUTPUTS)?;
    let mut places = txn.open_table(PLACES)?;
    for id in ids {
        let job = jobs.remove(id.0)?.and_then(|bytes| {
            freed += bytes.value().len();
            readable(id.0, bytes.value())
        });
        if let Some(job) = job {
            if let Some(bad) = bad_end(job.status()) {
                by_bad_end.remove((bad, id.0))?;
            }
            let head = job.head();
            if let Some(server) = &head.server {
                by_server.remove((server.as_str(), id.0))?;
            }
            if let Some(key) = &head.idempotency_key {
                by_key.remove((head.tool.as_str(), key.as_str()))?;
            }
            *gone.entry((head.tool.clone(), job.status())).or_default() -= 1;
        }
        retries.remove(id.0)?;
        places.remove(id.0)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            freed += outputs.remove((id.0, stream_key(stream)))?.map_or(0, |bytes| bytes.value().len());
        }
    }
    for ((tool, status), by) in gone {
        count(&mut tally, &tool, status, by)?;
    }
    Store::freed(txn, freed as u64)
}

/// The key of a bad end in its index.
pub(super) fn bad_end(status: Status) -> Option<&'static str> {
    match status {
        Status::Pending | Status::Running | Status::Completed => None,
        Status::Failed | Status::Cancelled | Status::TimedOut | Status::Crashed => Some(status.as_str()),
    }
}

fn stream_key(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

fn decode(id: u64, bytes: &[u8]) -> Result<AnyJob, StoreError> {
    record::decode(bytes).map_err(|reason| StoreError::record("jobs", JobId(id), reason))
}

/// The job, or `None` with a line in the log: one bad record must not hide the others.
pub(super) fn readable(id: u64, bytes: &[u8]) -> Option<AnyJob> {
    decode(id, bytes).inspect_err(|error| tracing::warn!(%error, "skipped a job")).ok()
}
