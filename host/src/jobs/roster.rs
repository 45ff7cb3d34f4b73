//! The jobs that have not ended, by their ids.
//!
//! Very many can wait for their turn. One that nobody looks at meanwhile is its id and no more: its work is made again from
//! its record (see `work`), and what it takes to wait for it is made for whoever comes to do so, and let go with the last of
//! them. How many there may be, and whose turn it is, is decided elsewhere.

use std::collections::{BTreeMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::call::JobId;

use super::active::Active;
use super::job::AnyJob;
use super::queue::Inner;
use super::store::Filter;
use super::turns::{self, Waiter};
use super::work::Laid;
use super::worker;

/// `None` for one that waits for its turn, and that nobody looks at.
type Jobs = BTreeMap<JobId, Option<Arc<Active>>>;

/// The jobs that have not ended. Clones share them. A plain mutex, held for a look-up or a look at each of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster(Arc<Mutex<Jobs>>);

impl Roster {
    pub(super) fn of(jobs: Jobs) -> Roster {
        Roster(Arc::new(Mutex::new(jobs)))
    }

    /// Adds the job that `id` names, unless `refuse` says why not, which is told how many there are.
    pub(super) fn admit<E>(
        &self,
        refuse: impl FnOnce(usize) -> Option<E>,
        id: impl FnOnce() -> JobId,
    ) -> Result<Held, E> {
        let mut jobs = self.jobs();
        if let Some(refusal) = refuse(jobs.len()) {
            return Err(refusal);
        }
        let active = Arc::new(Active::new(id()));
        jobs.insert(active.id, Some(Arc::clone(&active)));
        Ok(Held::new(&active, self))
    }

    /// The job, to be waited for.
    pub(super) fn hold(&self, id: JobId) -> Option<Held> {
        let mut jobs = self.jobs();
        let active = jobs.get_mut(&id)?.get_or_insert_with(|| Arc::new(Active::waiting_by_record(id)));
        Some(Held::new(active, self))
    }

    /// The job, for a look. `None` also for one of which there is nothing to be seen but its record.
    pub(super) fn find(&self, id: JobId) -> Option<Arc<Active>> {
        self.jobs().get(&id)?.clone()
    }

    pub(super) fn contains(&self, id: JobId) -> bool {
        self.jobs().contains_key(&id)
    }

    /// What was kept of a job that waits for its turn. It waits no more, and whoever has this decides what becomes of it.
    pub(super) fn take_up(&self, id: JobId) -> Option<(Arc<Active>, Laid)> {
        take_up(id, self.jobs().get_mut(&id)?)
    }

    /// The same of all that wait.
    pub(super) fn take_up_all(&self) -> Vec<Arc<Active>> {
        self.jobs().iter_mut().filter_map(|(id, entry)| Some(take_up(*id, entry)?.0)).collect()
    }

    pub(super) fn forget(&self, id: JobId) {
        self.jobs().remove(&id);
    }

    /// Those of which there is more than a record.
    pub(super) fn present(&self) -> Vec<Arc<Active>> {
        self.jobs().values().flatten().cloned().collect()
    }

    /// What has begun and matches, oldest first.
    pub(super) fn running(&self, filter: &Filter) -> Vec<AnyJob> {
        let committed = |active: &Arc<Active>| active.committed().filter(|job| filter.matches(job));
        self.jobs().values().flatten().filter_map(committed).collect()
    }

    /// What waits for its turn or for its first commit, oldest first.
    pub(super) fn pending(&self) -> Vec<JobId> {
        let has_begun = |entry: &Option<Arc<Active>>| entry.as_ref().is_some_and(|active| active.begun().is_some());
        self.jobs().iter().filter(|(_, entry)| !has_begun(entry)).map(|(id, _)| *id).collect()
    }

    pub(super) fn ids(&self) -> HashSet<JobId> {
        self.jobs().keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.jobs().len()
    }

    pub(super) fn oldest(&self) -> Option<JobId> {
        self.jobs().keys().next().copied()
    }

    fn is_waiting(&self, id: JobId) -> bool {
        match self.jobs().get(&id) {
            Some(Some(active)) => active.is_laid_down(),
            Some(None) => true,
            None => false,
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_up(id: JobId, entry: &mut Option<Arc<Active>>) -> Option<(Arc<Active>, Laid)> {
    let active = entry.get_or_insert_with(|| Arc::new(Active::waiting_by_record(id)));
    let laid = active.take_up()?;
    Some((Arc::clone(active), laid))
}

/// Somebody's hold on a job. When the last one goes of a job that waits for its turn, no more than its id stays.
#[derive(Debug)]
pub(super) struct Held {
    active: Arc<Active>,
    roster: Roster,
}

impl Held {
    fn new(active: &Arc<Active>, roster: &Roster) -> Held {
        active.holders.fetch_add(1, Ordering::Relaxed);
        Held { active: Arc::clone(active), roster: roster.clone() }
    }
}

impl Clone for Held {
    fn clone(&self) -> Held {
        Held::new(&self.active, &self.roster)
    }
}

impl Deref for Held {
    type Target = Active;

    fn deref(&self) -> &Active {
        &self.active
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Under the lock, as every first hold is taken: nobody comes between the last one's going and what follows from it.
        let mut jobs = self.roster.jobs();
        let was_last = self.active.holders.fetch_sub(1, Ordering::Relaxed) == 1;
        if was_last
            && self.active.needs_its_record_only()
            && let Some(entry) = jobs.get_mut(&self.active.id)
        {
            *entry = None;
        }
    }
}

/// A job's place among those that wait for their turn.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) id: JobId,
    pub(super) inner: Weak<Inner>,
}

/// A place at work, as jobs have it.
pub(super) type Place = turns::Place<Queued>;

impl Waiter for Queued {
    fn is_waiting(&self) -> bool {
        self.inner.upgrade().is_some_and(|inner| inner.roster.is_waiting(self.id))
    }

    fn begin(self, place: Place) -> Option<Place> {
        let Some(inner) = self.inner.upgrade() else { return Some(place) };
        let Some((active, laid)) = inner.roster.take_up(self.id) else { return Some(place) };
        inner.tasks.spawn(worker::begin(Arc::clone(&inner), active, laid, place));
        None
    }
}
