//! Time as it passes for a guest: the tick that interrupts computing guests, and the stopwatch that counts how long one
//! has computed. Not the deadline of a call, which counts all time.

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

/// How long a guest has computed. Waiting in an import and waiting for its turn do not count.
///
/// A std mutex: it is held for a few instructions and never across an await.
#[derive(Clone, Debug)]
pub struct Stopwatch(Arc<Mutex<Laps>>);

#[derive(Debug)]
struct Laps {
    since: Instant,
    used: Duration,
    /// Imports that are being waited for.
    waiting: usize,
}

impl Stopwatch {
    /// A running watch.
    pub fn start() -> Self {
        Stopwatch(Arc::new(Mutex::new(Laps { since: Instant::now(), used: Duration::ZERO, waiting: 0 })))
    }

    /// Adds the time since the watch was last asked and returns the sum.
    ///
    /// One lap counts as at most two ticks: a guest that computes is asked at every tick, so a longer lap was spent
    /// waiting in an import that does not [`pause`](Self::pause), a sleep of WASI.
    pub fn lap(&self) -> Duration {
        let mut laps = self.laps();
        let now = Instant::now();
        let lap = now.duration_since(laps.since).min(TICK * 2);
        laps.used += lap;
        laps.since = now;
        laps.used
    }

    /// Leaves the time since the watch was last asked out.
    pub fn restart(&self) {
        self.laps().since = Instant::now();
    }

    /// Stops the watch until the answer is dropped: the guest waits in an import.
    pub fn pause(&self) -> Pause {
        self.lap();
        self.laps().waiting += 1;
        Pause(self.clone())
    }

    /// Whether the guest waits in an import.
    pub fn is_waiting(&self) -> bool {
        self.laps().waiting > 0
    }

    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stretch of time that does not count.
pub struct Pause(Stopwatch);

impl Drop for Pause {
    fn drop(&mut self) {
        let mut laps = self.0.laps();
        laps.waiting = laps.waiting.saturating_sub(1);
        laps.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paused_time_does_not_count() {
        let watch = Stopwatch::start();
        let pause = watch.pause();
        let before = watch.0.lock().unwrap().used;
        assert!(watch.is_waiting());
        thread::sleep(Duration::from_millis(30));
        drop(pause);
        assert!(!watch.is_waiting());
        assert!(watch.lap() - before < Duration::from_millis(10));
    }

    #[test]
    fn one_lap_counts_as_at_most_two_ticks() {
        let watch = Stopwatch::start();
        thread::sleep(TICK * 5);
        assert_eq!(watch.lap(), TICK * 2);
    }
}
