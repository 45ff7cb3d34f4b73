//! A job that has not ended, as this process has it beside the disk: how it is stopped, waited for and looked at.
//!
//! One that waits for its turn and that nobody looks at has none of this: see `roster`. What it needs at work is made when it
//! begins, and its record is read from the disk until then.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::call::{JobId, Progress, Report};
use crate::error::Problem;

use super::detached::Detachment;
use super::job::AnyJob;
use super::output::Spool;
use super::roster::Held;
use super::work::Laid;

/// How a job came to its end, or why that could not be recorded.
pub(super) type Outcome = Result<Arc<AnyJob>, Problem>;

/// A job that has not ended.
pub(super) struct Active {
    pub(super) id: JobId,
    /// How many look at it or wait for it; see `roster`.
    pub(super) holders: AtomicUsize,
    /// A plain mutex, held for a look.
    waiting: Mutex<Waiting>,
    begun: OnceLock<Begun>,
    /// As it was last committed, from its beginning on. A plain mutex, held for a copy.
    committed: Mutex<Option<Arc<AnyJob>>>,
    outcome: OnceLock<Box<Outcome>>,
    /// Fires when it begins and when it ends.
    moved: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The work of a job that waits for its turn. Whoever takes it decides what becomes of the job: its turn, or who cancels
    /// it.
    work: Option<Laid>,
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
    /// What a detached job has beside that.
    pub(super) detached: Option<Arc<Detachment>>,
}

impl Active {
    pub(super) fn new(id: JobId) -> Self {
        Active {
            id,
            holders: AtomicUsize::new(0),
            waiting: Mutex::default(),
            begun: OnceLock::new(),
            committed: Mutex::default(),
            outcome: OnceLock::new(),
            moved: Notify::new(),
        }
    }

    /// One that waits for its turn, and of which the record is all there was.
    pub(super) fn waiting_by_record(id: JobId) -> Self {
        let active = Active::new(id);
        active.lay_down(Laid::Record);
        active
    }

    /// Gives it what it needs at work; that which it was given first stays.
    pub(super) fn equip(&self, detached: bool, spool: impl FnOnce() -> Spool) -> Begun {
        let make = || Begun {
            cancel: CancellationToken::new(),
            progress: Progress::default(),
            spool: spool(),
            detached: detached.then(Arc::default),
        };
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

    /// Whether it is a detached one of which nobody knows how its command ended.
    pub(super) fn is_lost(&self) -> bool {
        let detached = self.begun().and_then(|begun| begun.detached.as_ref());
        detached.is_some_and(|detached| detached.is_lost())
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
    pub(super) fn lay_down(&self, work: Laid) {
        self.waiting().work = Some(work);
    }

    /// The work, if it still waits for its turn.
    pub(super) fn take_up(&self) -> Option<Laid> {
        self.waiting().work.take()
    }

    /// Whether it waits for its turn.
    pub(super) fn is_laid_down(&self) -> bool {
        self.waiting().work.is_some()
    }

    /// Whether it waits for its turn, and its record is all that it needs for that.
    pub(super) fn needs_its_record_only(&self) -> bool {
        matches!(self.waiting().work, Some(Laid::Record))
    }

    /// As it was last committed, once it has begun.
    pub(super) fn committed(&self) -> Option<AnyJob> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned()
    }

    /// Shows the job in the state that was just committed.
    pub(super) fn show(&self, job: Arc<AnyJob>) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
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

/// What a job says of how far it has come.
#[derive(Debug)]
pub struct Reports {
    active: Held,
    /// `None` before it has begun.
    receiver: Option<watch::Receiver<Option<Report>>>,
}

impl Reports {
    pub(super) fn of(active: Held) -> Reports {
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
