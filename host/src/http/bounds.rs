//! Waiting within bounds: every step of a request ends with its deadline or its cancel token, and says which step it was.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::error::{HttpError, Step};

/// Until when, and for whom.
#[derive(Clone, Debug)]
pub struct Bounds {
    started: Instant,
    deadline: Instant,
    cancel: CancellationToken,
}

impl Bounds {
    /// From now on, at most `limit` and not beyond `deadline`.
    pub fn new(limit: Duration, deadline: Option<Instant>, cancel: CancellationToken) -> Self {
        let started = Instant::now();
        let end = started + limit;
        Bounds { started, deadline: deadline.map_or(end, |deadline| deadline.min(end)), cancel }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Since the request began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits for `work`, or fails with the step that was being waited for.
    pub async fn step<T>(&self, place: &str, step: Step, work: impl Future<Output = T>) -> Result<T, HttpError> {
        tokio::select! {
            // Work that is done counts, also when it was done at the last moment.
            biased;
            done = timeout_at(self.deadline, work) => {
                done.map_err(|_| HttpError::Timeout { place: place.to_owned(), step, after: self.elapsed(), status: None })
            }
            () = self.cancel.cancelled() => Err(HttpError::Cancelled { place: place.to_owned(), step }),
        }
    }
}
