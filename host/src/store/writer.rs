//! One writer at a time: whoever finds nobody writing commits on the spot; what comes meanwhile waits for a thread that
//! runs all of it in one transaction, syncs once, and tells everyone.
//!
//! A commit on the spot saves a lone caller the way to another thread and back, which takes as long as many a disk's sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, Durability, WriteTransaction};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::opened::Opened;
use crate::failpoint::failpoint;

/// How many operations wait at most before a writer has to wait for a place; also the most that share one transaction.
const QUEUE: usize = 256;

/// How long an operation that is in no hurry waits for others, and how many of them are enough. Half of what a commit costs
/// is the same for one operation and for many.
const PATIENCE: Duration = Duration::from_millis(8);
const COMPANY: usize = 16;
/// How often it is looked who has come.
const LOOK: Duration = Duration::from_millis(2);

/// Handing the tasks of a thread to another and taking them back costs a tenth of this, and more delay than it saves below it.
const QUICK: Duration = Duration::from_millis(1);

/// Whether somebody waits for this operation alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    Now,
    /// It is one of many, whose number per second counts rather than the time that each takes.
    Soon,
}

#[derive(Debug)]
pub(super) struct Writer {
    database: Arc<Opened>,
    /// Held by whoever commits. A plain mutex: it is locked only where a thread may block on the disk.
    turn: Arc<Mutex<()>>,
    /// The last commit on a caller's thread was over before another thread could have taken up its other tasks.
    quick: AtomicBool,
    /// Bounded, so that a slow disk slows its callers down. `None` only while the writer is being dropped.
    queue: Option<mpsc::Sender<Box<dyn Op>>>,
    thread: Option<JoinHandle<()>>,
}

/// An operation whose result type is forgotten, with the one who waits for it.
trait Op: Send {
    fn haste(&self) -> Haste;
    /// Runs it, keeps its result, and says whether it may be committed.
    fn run(&mut self, txn: &WriteTransaction) -> bool;
    /// Tells what became of the transaction; a kept error goes before it.
    fn tell(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Waiting<T, F> {
    haste: Haste,
    op: F,
    /// `None` before it has run.
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Op for Waiting<T, F>
where
    T: Send,
    F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send,
{
    fn haste(&self) -> Haste {
        self.haste
    }

    fn run(&mut self, txn: &WriteTransaction) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| (self.op)(txn))).unwrap_or(Err(StoreError::Panicked));
        self.result.insert(result).is_ok()
    }

    fn tell(self: Box<Self>, committed: Result<(), StoreError>) {
        let Waiting { result, reply, .. } = *self;
        let answer = match result {
            Some(result) => result.and_then(|value| committed.map(|()| value)),
            // Its transaction could not even begin.
            None => Err(committed.err().unwrap_or(StoreError::Closed)),
        };
        // Nobody listens when the caller went away; the operation is done all the same.
        let _ = reply.send(answer);
    }
}

impl Writer {
    pub(super) fn start(database: Arc<Opened>) -> Result<Writer, StoreError> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let turn = Arc::new(Mutex::new(()));
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn({
                let (database, turn) = (Arc::clone(&database), Arc::clone(&turn));
                move || run(&database, &turn, waiting)
            })
            .map_err(|error| StoreError::io("start the writer of", "orchestrator.redb".as_ref(), error))?;
        Ok(Writer { database, turn, quick: AtomicBool::new(false), queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn write<T, F>(&self, haste: Haste, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let op: Box<dyn Op> = Box::new(Waiting { haste, op, result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        if let Some(op) = self.commit_here(queue, op) {
            queue.send(op).await.map_err(|_| StoreError::Closed)?;
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Commits on the caller's thread if nobody else writes or waits, and if the runtime has other threads for its other
    /// tasks meanwhile. Otherwise the operation is given back, to be handed to the writer's thread.
    fn commit_here(&self, queue: &mpsc::Sender<Box<dyn Op>>, op: Box<dyn Op>) -> Option<Box<dyn Op>> {
        let idle = queue.capacity() == queue.max_capacity();
        if op.haste() == Haste::Soon
            || !idle
            || !Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
        {
            return Some(op);
        }
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Some(op),
        };
        let mut ops = vec![op];
        let started = Instant::now();
        if self.quick.load(Ordering::Relaxed) {
            commit(&self.database, &mut ops);
        } else {
            tokio::task::block_in_place(|| commit(&self.database, &mut ops));
        }
        self.quick.store(started.elapsed() < QUICK, Ordering::Relaxed);
        drop(turn);
        None
    }
}

/// Waits for the turn. Nothing is half done when its holder panicked: the transaction was dropped.
fn take(turn: &Mutex<()>) -> MutexGuard<'_, ()> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // An operation may hold the last clone of the store: the thread cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn run(database: &Opened, turn: &Mutex<()>, mut waiting: mpsc::Receiver<Box<dyn Op>>) {
    let mut group = Vec::with_capacity(QUEUE);
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        gather(&mut group, &mut waiting);
        // Before the others are taken: whoever comes while somebody else commits is in this group too.
        let _turn = take(turn);
        join(&mut group, &mut waiting);
        commit(database, &mut group);
    }
}

/// Waits for company, as long as nobody is in a hurry. The turn is free meanwhile, so that whoever is commits on the spot.
fn gather(group: &mut Vec<Box<dyn Op>>, waiting: &mut mpsc::Receiver<Box<dyn Op>>) {
    let begun = Instant::now();
    let in_no_hurry = |group: &[Box<dyn Op>]| group.iter().all(|op| op.haste() == Haste::Soon);
    while in_no_hurry(group) && group.len() < COMPANY && begun.elapsed() < PATIENCE && !waiting.is_closed() {
        if waiting.is_empty() {
            std::thread::sleep(LOOK);
        }
        join(group, waiting);
    }
}

/// Takes in whoever waits.
fn join(group: &mut Vec<Box<dyn Op>>, waiting: &mut mpsc::Receiver<Box<dyn Op>>) {
    while group.len() < QUEUE
        && let Ok(next) = waiting.try_recv()
    {
        group.push(next);
    }
}

/// Commits a group. Each round without success takes at least one failed operation out, so this ends.
fn commit(opened: &Opened, group: &mut Vec<Box<dyn Op>>) {
    let done = opened.mend().and_then(|()| opened.with(|database| commit_in(database, group)));
    tell_all(group, &done);
}

/// Leaves those in the group of which the result is to be told.
fn commit_in(database: &Database, group: &mut Vec<Box<dyn Op>>) -> Result<(), StoreError> {
    while !group.is_empty() {
        let txn = begin(database)?;
        let mut failed = Vec::new();
        let mut good = Vec::with_capacity(group.len());
        for mut op in group.drain(..) {
            if op.run(&txn) { good.push(op) } else { failed.push(op) }
        }
        *group = good;
        if failed.is_empty() {
            failpoint("commit-next");
            let committed = txn.commit().map_err(StoreError::from);
            failpoint("commit-done");
            return committed;
        }
        let aborted = txn.abort().map_err(StoreError::from);
        for op in failed {
            op.tell(Err(StoreError::Closed));
        }
        aborted?;
    }
    Ok(())
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn)
}

fn tell_all(group: &mut Vec<Box<dyn Op>>, committed: &Result<(), StoreError>) {
    if let Err(error) = committed {
        tracing::error!(%error, waiting = group.len(), "a commit failed");
    }
    for op in group.drain(..) {
        op.tell(committed.clone());
    }
}

#[cfg(test)]
impl Writer {
    /// How many operations could be handed over without waiting.
    pub(super) fn free_places(&self) -> usize {
        self.queue.as_ref().map_or(0, mpsc::Sender::capacity)
    }
}
