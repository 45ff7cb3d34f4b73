//! Waiting within bounds: every step on the outside ends with the call's deadline or its cancel token, and says which step it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::error::{Endpoint, SshError, Step};
use crate::call::Call;

/// Until when, and for whom.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub started: Instant,
    pub deadline: Option<Instant>,
    pub cancel: CancellationToken,
}

impl Bounds {
    pub fn of(call: &Call) -> Self {
        Bounds { started: Instant::now(), deadline: call.deadline, cancel: call.cancel.clone() }
    }

    /// The same with the deadline no later than `limit` from now.
    pub fn within(&self, limit: Duration) -> Self {
        let end = Instant::now() + limit;
        Bounds {
            started: Instant::now(),
            deadline: Some(self.deadline.map_or(end, |deadline| deadline.min(end))),
            cancel: self.cancel.clone(),
        }
    }

    /// Waits for `work`, or fails with the step that was being waited for.
    pub async fn step<T>(&self, at: &Arc<Endpoint>, step: Step, work: impl Future<Output = T>) -> Result<T, SshError> {
        tokio::select! {
            // Work that is done counts, also when it was done at the last moment.
            biased;
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(SshError::Cancelled { at: at.clone(), step }),
            () = until(self.deadline) => Err(SshError::Timeout { at: at.clone(), step, after: self.started.elapsed() }),
        }
    }
}

/// Ends at `deadline`; never without one.
pub async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
