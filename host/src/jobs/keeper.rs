//! What goes on beside the work: ending what a start has found unended, and forgetting jobs that ended longer ago than the
//! history is kept, with their output, and output files of no job.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::call::JobId;
use crate::capability::Stream;
use crate::failpoint::failpoint;
use crate::store::StoreError;

use super::output::{file_name, parse_file_name};
use super::recovery::Recovery;
use super::store::JobStore;

const EVERY: Duration = Duration::from_secs(3600);
/// Jobs per transaction, so that a long history does not hold up who writes meanwhile.
const BATCH: usize = 200;

/// Starts the task that recovers, then forgets: now, and every hour. It ends soon after `closing` fires, or when its handle is dropped.
/// `last` is an id before all of this process: files of later jobs are left alone.
pub(super) fn start(
    store: JobStore,
    outputs: PathBuf,
    retention: Duration,
    last: u64,
    recovery: Recovery,
    closing: CancellationToken,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = recovery.finish(&store, &closing).await {
            tracing::warn!(%error, "what an earlier process left unended could not be recorded as crashed; the next start tries again");
        }
        if let Err(error) = sweep_files(&store, &outputs, last).await {
            tracing::warn!(%error, "outputs without a job could not be removed");
        }
        let mut hours = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                _ = hours.tick() => {}
            }
            match forget(&store, &outputs, retention, Timestamp::now(), &closing).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "old jobs were forgotten"),
                Err(error) => tracing::warn!(%error, "old jobs could not be forgotten"),
            }
        }
    }))
}

/// Removes what ended more than `retention` before `now`, batch by batch until `closing` fires; says how many.
pub(super) async fn forget(
    store: &JobStore,
    outputs: &Path,
    retention: Duration,
    now: Timestamp,
    closing: &CancellationToken,
) -> Result<usize, StoreError> {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    let Ok(cutoff) = now.checked_sub(retention) else { return Ok(0) };
    let (mut count, mut from) = (0, Some(0));
    while let Some(place) = from
        && !closing.is_cancelled()
    {
        let (old, next) = store.prune(cutoff, place, BATCH).await?;
        count += old.len();
        from = next;
        failpoint("jobs-forgotten");
        remove_files(outputs, old).await;
    }
    Ok(count)
}

async fn remove_files(outputs: &Path, ids: Vec<JobId>) {
    let outputs = outputs.to_owned();
    let remove = move || {
        for id in ids {
            for stream in [Stream::Stdout, Stream::Stderr] {
                // Most jobs have none.
                let _ = std::fs::remove_file(outputs.join(file_name(id, stream)));
            }
        }
    };
    // What a panic would leave is swept at the next start.
    let _ = tokio::task::spawn_blocking(remove).await;
}

/// Removes files whose job is gone: an earlier process ended between forgetting the job and removing its files.
pub(super) async fn sweep_files(store: &JobStore, outputs: &Path, last: u64) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("list", outputs, error);
    let mut entries = tokio::fs::read_dir(outputs).await.map_err(failed)?;
    let mut ids = Vec::new();
    loop {
        let entry = entries.next_entry().await.map_err(failed)?;
        let ended = entry.is_none();
        if let Some(entry) = entry {
            ids.extend(entry.file_name().to_str().and_then(parse_file_name).filter(|id| id.0 <= last));
        }
        if ended || ids.len() >= BATCH {
            let known = store.contains(ids.clone()).await?;
            ids.retain(|id| !known.contains(id));
            remove_files(outputs, std::mem::take(&mut ids)).await;
        }
        if ended {
            return Ok(());
        }
    }
}
