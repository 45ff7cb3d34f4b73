//! How much is on its way at the same time: as much as the line takes and no more, for all files of a transfer together.
//!
//! Grows as long as answers come as fast as on an empty line, and shrinks when they queue up (the idea of TCP Vegas:
//! Brakmo and Peterson, 1995). On loopback three blocks are enough, and more would only fill buffers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The semaphore counts in units of this many bytes.
const UNIT: u64 = 1 << 10;
/// In bytes, at the beginning: on loopback, and for each second of the round trip. What small files are measured in, too.
const START: u64 = 3 * (255 << 10);
const START_PER_SECOND: f64 = 100e6;
const MIN: u64 = 512 << 10;
/// Enough for 100 MB/s at 150 ms, and a bound for our memory.
const MAX: u64 = 16 << 20;
/// How many blocks may wait in front of the slowest part of the way: below the first the window grows, above the second it
/// shrinks.
const QUEUED: (f64, f64) = (2.0, 6.0);
/// The same as parts of what is on its way, where those are more: answers over a long line are late for other reasons, too, and
/// an answer may take twice and four times as long as the fastest.
const DELAYED: (f64, f64) = (0.5, 0.75);

/// A window that is shared by everything that one transfer moves.
pub struct Window {
    permits: Semaphore,
    state: Mutex<State>,
}

struct State {
    /// In bytes.
    size: u64,
    /// The fastest answer to a whole block.
    base: Option<Duration>,
    /// Permits that are to go as soon as they come back.
    excess: usize,
}

/// A block on its way.
pub struct Permit<'a> {
    window: &'a Window,
    held: Option<SemaphorePermit<'a>>,
    bytes: u64,
    whole: bool,
    since: Instant,
}

fn units(bytes: u64) -> u32 {
    bytes.div_ceil(UNIT).clamp(1, MAX / UNIT) as u32
}

impl Window {
    /// For a line of that length.
    pub fn new(round_trip: Duration) -> Self {
        let size = START.max((round_trip.as_secs_f64() * START_PER_SECOND) as u64).min(MAX);
        Window {
            permits: Semaphore::new(units(size) as usize),
            state: Mutex::new(State { size, base: None, excess: 0 }),
        }
    }

    /// Waits until there is room for `bytes` more. First come, first served.
    pub async fn room(&self, bytes: u64, whole: bool) -> Permit<'_> {
        // The semaphore is never closed.
        let held = self.permits.acquire_many(units(bytes)).await.ok();
        Permit { window: self, held, bytes, whole, since: Instant::now() }
    }

    /// In bytes.
    #[cfg(test)]
    fn size(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).size
    }

    /// A block took `time` from being sent to being confirmed.
    fn learn(&self, bytes: u64, time: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let base = state.base.map_or(time, |base| base.min(time));
        state.base = Some(base);
        let in_flight = state.size as f64 / bytes as f64;
        let queued = in_flight * (1.0 - base.as_secs_f64() / time.as_secs_f64().max(1e-9));
        if queued < QUEUED.0.max(in_flight * DELAYED.0) && state.size + bytes <= MAX {
            state.size += bytes;
            let more = units(bytes) as usize;
            let owed = state.excess.min(more);
            state.excess -= owed;
            self.permits.add_permits(more - owed);
        } else if queued > QUEUED.1.max(in_flight * DELAYED.1) && state.size >= MIN + bytes {
            state.size -= bytes;
            let less = units(bytes) as usize;
            state.excess += less - self.permits.forget_permits(less);
        }
    }
}

impl Permit<'_> {
    /// The block has arrived.
    pub fn done(self) {
        if self.whole {
            self.window.learn(self.bytes, self.since.elapsed());
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        let mut state = self.window.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.excess > 0 {
            let count = state.excess.min(held.num_permits());
            if let Some(gone) = held.split(count) {
                gone.forget();
                state.excess -= count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 255 << 10;

    #[tokio::test]
    async fn a_long_line_gets_a_large_window_and_a_short_one_does_not() {
        let ms = Duration::from_millis;
        let far = Window::new(ms(50));
        for _ in 0..200 {
            far.learn(BLOCK, ms(50));
        }
        assert!(far.size() > 8 << 20 && far.size() <= MAX, "{}", far.size());
        // A slow server behind a fast line: what is sent more only waits longer.
        let near = Window::new(Duration::ZERO);
        near.learn(BLOCK, ms(1));
        for _ in 0..200 {
            let time = ms(1).mul_f64(near.size() as f64 / BLOCK as f64);
            near.learn(BLOCK, time);
        }
        assert!(near.size() <= 8 * BLOCK, "{}", near.size());
    }

    #[tokio::test]
    async fn what_shrinks_while_it_is_used_up_shrinks_when_it_comes_back() {
        let ms = Duration::from_millis;
        let window = Window::new(Duration::ZERO);
        for _ in 0..20 {
            window.learn(BLOCK, ms(10));
        }
        let all = window.room(window.size(), false).await;
        assert_eq!(window.permits.available_permits(), 0);
        for _ in 0..5 {
            window.learn(BLOCK, ms(1000));
        }
        let size = window.size();
        assert!(size < 20 * BLOCK);
        drop(all);
        let free = window.permits.available_permits() as u64 * UNIT;
        assert!(free.abs_diff(size) <= UNIT, "{free} of {size}");
    }
}
