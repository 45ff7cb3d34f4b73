//! A job that has not ended, as this process has it beside the disk.
//!
//! Many can wait for their turn, so one that waits is little: its work, a way to cancel it and a way to wait for it. What it
//! needs at work is made when it begins, and its record is read from the disk until then.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::call::{Call, JobId, Progress, Reply, Report};
use crate::error::Problem;

use super::detached::Detachment;
use super::job::AnyJob;
use super::output::Spool;
use super::queue::Inner;
use super::turns::{Place, Waiter};
use super::worker;

/// How a job came to its end, or why that could not be recorded.
pub(super) type Outcome = Result<Arc<AnyJob>, Problem>;

/// What is to be done, once it is its turn.
pub(super) type Work = Box<dyn FnOnce(Call, Spool) -> BoxFuture<'static, Result<Reply, Problem>> + Send>;

/// A job that has not ended.
pub(super) struct Active {
    pub(super) id: JobId,
    /// What a detached job has beside that.
    pub(super) detached: Option<Box<Detachment>>,
    queue: Weak<Inner>,
    /// A plain mutex, held for a look.
    waiting: Mutex<Waiting>,
    begun: OnceLock<Begun>,
    /// As it was last committed, from its beginning on. A plain mutex, held for a copy.
    committed: Mutex<Option<Box<AnyJob>>>,
    outcome: OnceLock<Box<Outcome>>,
    /// Fires when it begins and when it ends.
    moved: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The work of a job that waits for its turn. Whoever takes it decides what becomes of the job: its turn, or who cancels
    /// it.
    work: Option<Work>,
    /// Somebody has asked the job to stop.
    unwanted: bool,
}

/// What a job has at work.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    /// Fires when the job is asked to stop.
    pub(super) cancel: CancellationToken,
    pub(super) progress: Progress,
    pub(super) spool: Spool,
}

impl Active {
    pub(super) fn new(id: JobId, queue: Weak<Inner>, detached: Option<Detachment>) -> Self {
        Active {
            id,
            detached: detached.map(Box::new),
            queue,
            waiting: Mutex::default(),
            begun: OnceLock::new(),
            committed: Mutex::default(),
            outcome: OnceLock::new(),
            moved: Notify::new(),
        }
    }

    /// Gives it what it needs at work; that which it was given first stays.
    pub(super) fn equip(&self, spool: impl FnOnce() -> Spool) -> Begun {
        let make = || Begun { cancel: CancellationToken::new(), progress: Progress::default(), spool: spool() };
        let begun = self.begun.get_or_init(make).clone();
        // Either this sees that it was asked to stop, or whoever asks sees the token.
        if self.is_unwanted() {
            begun.cancel.cancel();
        }
        self.moved.notify_waiters();
        begun
    }

    /// `None` while it waits for its turn.
    pub(super) fn begun(&self) -> Option<&Begun> {
        self.begun.get()
    }

    /// Asks it to stop. The work of one that waits for its turn is to be taken up then: nobody else looks at it.
    pub(super) fn cancel(&self) {
        let mut waiting = self.waiting();
        waiting.unwanted = true;
        if let Some(begun) = self.begun.get() {
            begun.cancel.cancel();
        }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.waiting().unwanted
    }

    /// Keeps the work until it is its turn.
    pub(super) fn lay_down(&self, work: Work) {
        self.waiting().work = Some(work);
    }

    /// The work, if it still waits for its turn.
    pub(super) fn take_up(&self) -> Option<Work> {
        self.waiting().work.take()
    }

    /// As it was last committed, once it has begun.
    pub(super) fn committed(&self) -> Option<AnyJob> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned()
    }

    /// Shows the job in the state that was just committed.
    pub(super) fn show(&self, job: AnyJob) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(job));
    }

    /// Tells the end to all who wait for it.
    pub(super) fn end(&self, outcome: Outcome) {
        // A job ends once.
        let _ = self.outcome.set(Box::new(outcome));
        self.moved.notify_waiters();
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> Outcome {
        loop {
            // Before the look, so that an end in between is not missed.
            let moved = self.moved.notified();
            if let Some(outcome) = self.outcome.get() {
                return Outcome::clone(outcome);
            }
            moved.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Waiter for Active {
    fn is_waiting(&self) -> bool {
        self.waiting().work.is_some()
    }

    fn begin(self: Arc<Self>, place: Place) -> Option<Place> {
        let Some(inner) = self.queue.upgrade() else { return Some(place) };
        let Some(work) = self.take_up() else { return Some(place) };
        inner.tasks.spawn(worker::begin(Arc::clone(&inner), self, work, place));
        None
    }
}

/// What a job says of how far it has come.
#[derive(Debug)]
pub struct Reports {
    active: Arc<Active>,
    /// `None` before it has begun.
    receiver: Option<watch::Receiver<Option<Report>>>,
}

impl Reports {
    pub(super) fn of(active: Arc<Active>) -> Reports {
        Reports { active, receiver: None }
    }

    /// The next report, or the last one of those that were missed. `None` when it has ended before it began.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(receiver) = &mut self.receiver {
                receiver.changed().await.ok()?;
                if let Some(report) = receiver.borrow_and_update().clone() {
                    return Some(report);
                }
                continue;
            }
            let moved = self.active.moved.notified();
            match self.active.begun() {
                Some(begun) => {
                    let mut receiver = begun.progress.subscribe();
                    // What it said before this look is news here.
                    receiver.mark_changed();
                    self.receiver = Some(receiver);
                }
                None if self.active.outcome.get().is_some() => return None,
                None => moved.await,
            }
        }
    }
}
