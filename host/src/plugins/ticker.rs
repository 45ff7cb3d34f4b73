//! Time as it passes for a guest: the tick that interrupts computing guests, and the stopwatch that counts how long one
//! has computed. Not the deadline of a call, which counts all time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wasmtime::Engine;

/// How often a computing guest is interrupted: it lets others run, and its time is checked.
pub const TICK: Duration = Duration::from_millis(10);

/// Advances the engine's epoch while calls are active and sleeps without waking up while none is.
///
/// It is a thread and not a task: guests that compute can hold every worker of the runtime, and then no task would run
/// that could interrupt them.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    active: AtomicUsize,
    stop: AtomicBool,
}

impl Ticker {
    pub fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared { active: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let seen = shared.clone();
        let thread = thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || {
            while !seen.stop.load(Ordering::Acquire) {
                if seen.active.load(Ordering::Acquire) == 0 {
                    // An unpark between the load and here is remembered, so no activation is missed.
                    thread::park();
                } else {
                    thread::sleep(TICK);
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Keeps the tick going until the answer is dropped.
    pub fn activate(&self) -> Active {
        let thread = self.thread.as_ref().map(|thread| thread.thread().clone());
        if self.shared.active.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = thread
        {
            thread.unpark();
        }
        Active(self.shared.clone())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within one tick. A panic in it has been reported already and changes nothing here.
            if thread.join().is_err() {
                tracing::warn!("the thread that interrupts plugins had failed");
            }
        }
    }
}

/// One active call.
pub struct Active(Arc<Shared>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How long a guest has computed: the time inside polls of its future. Between them it waits, for a server, for a sleep
/// to end or for its turn, and that does not count.
///
/// A std mutex: it is held for a few instructions and never across an await.
#[derive(Clone, Debug, Default)]
pub struct Stopwatch(Arc<Mutex<Laps>>);

#[derive(Debug, Default)]
struct Laps {
    /// When the poll that is running began.
    since: Option<Instant>,
    /// In polls that ended.
    used: Duration,
    /// Calls of the capability layer that are being waited for.
    waiting: usize,
}

impl Stopwatch {
    /// Runs `work` and counts the time for which it computes.
    pub async fn count<F: Future>(&self, mut work: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            self.laps().since = Some(Instant::now());
            let poll = work.as_mut().poll(context);
            let mut laps = self.laps();
            if let Some(since) = laps.since.take() {
                laps.used += since.elapsed();
            }
            poll
        })
        .await
    }

    /// How long it has computed until now.
    pub fn used(&self) -> Duration {
        let laps = self.laps();
        laps.used + laps.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Says that the guest waits for the capability layer until the answer is dropped.
    pub fn wait(&self) -> Waiting {
        self.laps().waiting += 1;
        Waiting(self.clone())
    }

    /// Whether the guest waits for the capability layer.
    pub fn is_waiting(&self) -> bool {
        self.laps().waiting > 0
    }

    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stretch of waiting.
pub struct Waiting(Stopwatch);

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut laps = self.0.laps();
        laps.waiting = laps.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_time_inside_polls_counts() {
        let watch = Stopwatch::default();
        let work = pin!(async {
            thread::sleep(Duration::from_millis(20));
            assert!(watch.used() >= Duration::from_millis(20));
            // An hour of the runtime's paused clock.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            thread::sleep(Duration::from_millis(20));
        });
        watch.count(work).await;
        assert!((Duration::from_millis(40)..Duration::from_secs(60)).contains(&watch.used()));
    }

    #[test]
    fn a_guest_waits_as_long_as_somebody_holds_the_answer() {
        let watch = Stopwatch::default();
        let waiting = watch.wait();
        assert!(watch.is_waiting());
        drop(waiting);
        assert!(!watch.is_waiting());
    }

    #[test]
    fn the_epoch_advances_while_a_call_is_active_and_the_thread_ends_with_its_owner() {
        let engine = crate::plugins::engine::engine(1 << 20, None).unwrap();
        let ticker = Ticker::start(engine).unwrap();
        let active = ticker.activate();
        assert_eq!(ticker.shared.active.load(Ordering::Acquire), 1);
        drop(active);
        assert_eq!(ticker.shared.active.load(Ordering::Acquire), 0);
        drop(ticker);
    }
}
