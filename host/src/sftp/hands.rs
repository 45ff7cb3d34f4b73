//! Threads that wait for this machine's disks.
//!
//! The runtime's own pool wakes, and soon makes, a thread for everything that it is given. Reading and writing thousands of
//! small files, that costs more than the files: measured, six tenths of the processor's time went into waking threads. Here
//! one thread works off what has queued up, and others come when it does not keep up.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// More would not make a disk faster.
const MOST: usize = 8;
/// Who waits longer than this gets another thread: the others are held up by a slow disk.
const PATIENCE: Duration = Duration::from_micros(500);
/// A thread that nobody needs for so long ends.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads. Clones share them.
#[derive(Clone, Default)]
pub struct Hands(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Instant, Job)>,
    threads: usize,
    /// Threads that wait for work.
    resting: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.queue.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            state.resting += 1;
            let (woken, rested) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.resting -= 1;
            if rested.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").field("threads", &self.0.lock().threads).finish()
    }
}

impl Hands {
    /// Does `work` on one of the threads. `None`: it panicked, or there can be no thread. Dropping the future does not stop
    /// what has begun.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.push(Box::new(move || {
            // A panic ends this job and not the thread, which others count on.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                let _ = done.send(value);
            }
        }));
        result.await.ok()
    }

    fn push(&self, job: Job) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.queue.push_back((now, job));
        let late = state.queue.front().is_some_and(|(since, _)| now.duration_since(*since) > PATIENCE);
        if state.threads > state.resting && !late {
            // Somebody is at work and will come to it.
            return;
        }
        if state.resting > 0 {
            self.0.work.notify_one();
        } else if state.threads < MOST {
            state.threads += 1;
            let shared = Arc::clone(&self.0);
            let name = "local-files".to_owned();
            if std::thread::Builder::new().name(name).spawn(move || shared.work()).is_err() {
                state.threads -= 1;
                if state.threads == 0 {
                    // Nobody would ever come to it. Dropped, it tells its caller.
                    state.queue.clear();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_is_done_and_a_slow_job_holds_up_nobody_for_long() {
        let hands = Hands::default();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let slow = tokio::spawn({
            let hands = hands.clone();
            async move { hands.run(move || gate.recv().is_ok()).await }
        });
        let sums = (0..1000_u64).map(|number| {
            let hands = hands.clone();
            tokio::spawn(async move {
                // Comes late to a queue that does not move, and so brings another thread.
                tokio::time::sleep(Duration::from_millis(number % 5)).await;
                hands.run(move || number).await
            })
        });
        let sum: u64 = futures::future::join_all(sums).await.into_iter().map(|done| done.unwrap().unwrap()).sum();
        assert_eq!(sum, 999 * 1000 / 2);
        go.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), Some(true));
        assert!(hands.0.lock().threads <= MOST);
        assert_eq!(hands.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(hands.run(|| 7).await, Some(7));
    }
}
