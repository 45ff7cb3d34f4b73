//! New job ids: the milliseconds of the clock above 16 random bits, and always greater than the last one, so that ids sort by
//! time and are never used twice, also when the clock jumps back.

use std::sync::Mutex;

use jiff::Timestamp;

use crate::call::JobId;

/// How far the clock's milliseconds are shifted.
const SHIFT: u32 = 16;

#[derive(Debug)]
pub(super) struct Ids(Mutex<u64>);

impl Ids {
    /// Ids after `last`, the greatest one in the database.
    pub(super) fn after(last: u64) -> Self {
        Ids(Mutex::new(last))
    }

    pub(super) fn next(&self) -> JobId {
        let mut last = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = successor(*last, Timestamp::now(), rand::random());
        JobId(*last)
    }
}

/// The id after `last` that is made at `now`.
fn successor(last: u64, now: Timestamp, random: u16) -> u64 {
    last.saturating_add(1).max(floor(now) | u64::from(random))
}

/// The least id that a job made at `time` or later can have.
pub(super) fn floor(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0) << SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn ids_grow_with_the_clock_and_never_shrink() {
        let first = successor(0, at(1_000), 7);
        assert_eq!(first, 1_000 << 16 | 7);
        let later = successor(first, at(2_000), 0);
        assert_eq!(later, 2_000 << 16);
        // The clock jumped back by a second, then stands still.
        assert_eq!(successor(later, at(1_000), 0xffff), later + 1);
        assert_eq!(successor(later + 1, at(2_000), 1), later + 2);
        assert_eq!(successor(u64::MAX, at(1), 1), u64::MAX);
        assert_eq!(floor(at(-5)), 0);
    }

    #[test]
    fn many_ids_at_once_are_all_different() {
        let ids = Ids::after(5);
        let made: Vec<_> = (0..10_000).map(|_| ids.next()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
    }
}
