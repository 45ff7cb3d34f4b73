//! What becomes of jobs while the disk fails: a step that is owed to one is tried until it is done, or until the process ends.
//!
//! A job whose end is not on disk is never told as ended well: who waits for it hears of the failure at once, and the job is
//! shown as running until its end is recorded.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::call::JobId;
use crate::error::Problem;
use crate::store::{Haste, StoreError};

use super::job::AnyJob;
use super::queue::Inner;
use super::store::Change;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether a step that has failed is to be tried again, and then only after a pause: not when something else than the disk
/// has failed, nor when the process ends.
async fn is_worth_another(inner: &Inner, error: &StoreError) -> bool {
    if !error.is_of_the_disk() || inner.closing.is_cancelled() {
        return false;
    }
    tokio::select! {
        biased;
        () = inner.closing.cancelled() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
    true
}

/// The job's record.
pub(super) async fn get(inner: &Inner, id: JobId) -> Result<Option<AnyJob>, StoreError> {
    loop {
        match inner.store.get(id) {
            Err(error) => {
                if !is_worth_another(inner, &error).await {
                    return Err(error);
                }
            }
            found => return found,
        }
    }
}

/// Commits a job's new state. `delayed` hears of the first failure.
pub(super) async fn update(
    inner: &Inner,
    haste: Haste,
    change: Arc<Change>,
    delayed: impl FnOnce(&StoreError),
) -> Result<(), StoreError> {
    let Err(mut error) = inner.store.update(haste, Arc::clone(&change)).await else { return Ok(()) };
    if error.is_of_the_disk() {
        delayed(&error);
    }
    while is_worth_another(inner, &error).await {
        match inner.store.update_again(Arc::clone(&change)).await {
            Ok(()) => return Ok(()),
            Err(other) => error = other,
        }
    }
    Err(error)
}

/// Ends a job of which the caller was told that it could not be recorded, in case that it was all the same: a failed sync
/// leaves that open. Nothing of it was done.
pub(super) async fn disown(inner: Arc<Inner>, id: JobId, cause: Problem) {
    let ended = async {
        let Some(job) = get(&inner, id).await? else { return Ok(()) };
        let (before, now) = (job.status(), Timestamp::now());
        let ended = match job {
            AnyJob::Pending(job) => job.crash(cause, now),
            AnyJob::Running(job) => job.crash(cause, now),
            AnyJob::Ended(_) => return Ok(()),
        };
        let change = Change { before, job: Arc::new(AnyJob::Ended(ended)), kept: None };
        update(&inner, Haste::Now, Arc::new(change), |_| {}).await
    };
    let ended: Result<(), StoreError> = ended.await;
    if let Err(error) = ended {
        tracing::warn!(job = %id, %error, "a job that was refused may be recorded as unended; the next start ends it");
    }
}
