//! Jobs that run on their servers by themselves, as far as the queue is concerned: they are left alone when this process ends,
//! found again by the next one, and remembered until nothing of them is left on the server.
//!
//! How they are started and followed is the business of their tool.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;

use crate::call::{Call, JobId, Reply};
use crate::error::Problem;
use crate::store::{Haste, StoreError};

use super::active::Active;
use super::job::{AnyJob, Job, Running, Status};
use super::output::Spool;
use super::queue::Jobs;
use super::store::{Change, JobStore};
use super::worker;

/// What is known of a detached job in this process only.
#[derive(Debug, Default)]
pub(super) struct Detachment {
    /// What there is to say of it beside its state. A plain mutex, held for a copy.
    note: Mutex<Option<String>>,
    /// The command is gone and nobody knows how it ended.
    lost: AtomicBool,
}

impl Detachment {
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// The detached jobs that an earlier process left running.
pub(super) fn found(store: &JobStore, outputs: &Path) -> Result<BTreeMap<JobId, Option<Arc<Active>>>, StoreError> {
    let mut found = BTreeMap::new();
    for job in store.places()?.into_iter().filter(|job| matches!(job, AnyJob::Running(_))) {
        let id = job.id();
        let active = Active::new(id);
        active.equip(true, || Spool::resume(outputs, id));
        active.show(Arc::new(job));
        found.insert(id, Some(Arc::new(active)));
    }
    Ok(found)
}

impl Jobs {
    /// The detached jobs that may have something on their servers: those that run, and those that have ended and were not
    /// cleaned up.
    pub fn places(&self) -> Result<Vec<AnyJob>, Problem> {
        let seen = |job: AnyJob| {
            let alive = self.0.roster.contains(job.id());
            self.0.as_seen(job, alive)
        };
        Ok(self.0.store.places()?.into_iter().map(seen).collect())
    }

    /// Follows a detached job that an earlier process left running, by `work`, until it ends.
    pub fn resume<F, Fut>(&self, job: Job<Running>, work: F)
    where
        F: FnOnce(Call, Spool) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        if let Some(active) = self.0.roster.find(job.head.id) {
            self.0.tasks.spawn(worker::go_on(
                self.0.clone(),
                active,
                job,
                Box::new(move |call, spool| work(call, spool).boxed()),
            ));
        }
    }

    /// Commits that the server has said that a job's command is there.
    pub async fn launched(&self, id: JobId) -> Result<(), Problem> {
        let Some(active) = self.0.roster.find(id) else { return Ok(()) };
        let Some(AnyJob::Running(job)) = active.committed() else { return Ok(()) };
        let job = Arc::new(AnyJob::Running(job.launch()));
        let change = Change { before: Status::Running, job: Arc::clone(&job), kept: None };
        self.0.store.update(Haste::Now, Arc::new(change)).await?;
        active.show(job);
        Ok(())
    }

    /// Commits that an ended job has nothing on its server any more.
    pub async fn cleaned(&self, id: JobId) -> Result<(), Problem> {
        Ok(self.0.store.cleaned(id).await?)
    }

    /// Whether the job runs on its server by itself, once it is at work.
    pub fn is_detached(&self, id: JobId) -> bool {
        self.detachment(id).is_some()
    }

    /// Says how the end of a running job is to be taken: nobody knows how its command ended.
    pub fn lost(&self, id: JobId) {
        if let Some(detached) = self.detachment(id) {
            detached.lost.store(true, Ordering::Release);
        }
    }

    /// What there is to say of a running detached job beside its state, until it is said otherwise.
    pub fn set_note(&self, id: JobId, note: Option<String>) {
        if let Some(detached) = self.detachment(id) {
            *detached.note.lock().unwrap_or_else(PoisonError::into_inner) = note;
        }
    }

    pub fn note(&self, id: JobId) -> Option<String> {
        self.detachment(id)?.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn detachment(&self, id: JobId) -> Option<Arc<Detachment>> {
        self.0.roster.find(id)?.begun()?.detached.clone()
    }

    /// Does something that belongs to no job's life, until the queue closes, which waits for it.
    pub fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closing = self.0.closing.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = work => {}
            }
        });
    }
}
