//! The one writer: takes what is waiting, runs it in one transaction, syncs once, tells everyone.
//!
//! A thread of its own, since a commit blocks on the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::{Database, Durability, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

/// How many operations wait at most before a writer has to wait for a place; also the most that share one transaction.
const QUEUE: usize = 256;

#[derive(Debug)]
pub(super) struct Writer {
    /// Bounded, so that a slow disk slows its callers down. `None` only while the writer is being dropped.
    queue: Option<mpsc::Sender<Box<dyn Op>>>,
    thread: Option<JoinHandle<()>>,
}

/// An operation whose result type is forgotten, with the one who waits for it.
trait Op: Send {
    /// Runs it, keeps its result, and says whether it may be committed.
    fn run(&mut self, txn: &WriteTransaction) -> bool;
    /// Tells what became of the transaction; a kept error goes before it.
    fn tell(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Waiting<T, F> {
    op: F,
    result: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Op for Waiting<T, F>
where
    T: Send,
    F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, txn: &WriteTransaction) -> bool {
        self.result = catch_unwind(AssertUnwindSafe(|| (self.op)(txn))).unwrap_or(Err(StoreError::Panicked));
        self.result.is_ok()
    }

    fn tell(self: Box<Self>, committed: Result<(), StoreError>) {
        let Waiting { result, reply, .. } = *self;
        let answer = result.and_then(|value| committed.map(|()| value));
        // Nobody listens when the caller went away; the operation is done all the same.
        let _ = reply.send(answer);
    }
}

impl Writer {
    pub(super) fn start(database: Arc<Database>) -> Result<Writer, StoreError> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&database, waiting))
            .map_err(|error| StoreError::io("start the writer of", "orchestrator.redb".as_ref(), error))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn write<T, F>(&self, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let op: Box<dyn Op> = Box::new(Waiting { op, result: Err(StoreError::Closed), reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(op).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
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

fn run(database: &Database, mut waiting: mpsc::Receiver<Box<dyn Op>>) {
    let mut group = Vec::with_capacity(QUEUE);
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while group.len() < QUEUE
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        commit(database, &mut group);
    }
}

/// Commits a group. Each round without success takes at least one failed operation out, so this ends.
fn commit(database: &Database, group: &mut Vec<Box<dyn Op>>) {
    while !group.is_empty() {
        let txn = match begin(database) {
            Ok(txn) => txn,
            Err(error) => return tell_all(group, &Err(error)),
        };
        let mut failed = Vec::new();
        let mut good = Vec::with_capacity(group.len());
        for mut op in group.drain(..) {
            if op.run(&txn) { good.push(op) } else { failed.push(op) }
        }
        *group = good;
        if failed.is_empty() {
            let committed = txn.commit().map_err(StoreError::from);
            return tell_all(group, &committed);
        }
        let aborted = txn.abort().map_err(StoreError::from);
        for op in failed {
            op.tell(Err(StoreError::Closed));
        }
        if aborted.is_err() {
            return tell_all(group, &aborted);
        }
    }
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
