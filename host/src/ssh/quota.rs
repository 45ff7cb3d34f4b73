//! How much of a command is wanted: one that never ends by itself is stopped once its share is there, and that is no error.
//!
//! Pure: the clock and the stopping are `exec`'s.

use std::time::Duration;

use super::error::Stop;

/// What a command may take before it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// From the request to run it.
    pub time: Duration,
    /// Of both output streams together.
    pub lines: u64,
}

/// Which part of a quota was used up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    Time,
    Lines,
}

/// A command that was stopped because it had its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub reached: Reached,
    pub stop: Stop,
}

/// Counts lines down.
#[derive(Debug)]
pub(super) struct Lines {
    left: u64,
}

impl Lines {
    pub(super) fn of(quota: Option<&Quota>) -> Lines {
        Lines { left: quota.map_or(u64::MAX, |quota| quota.lines) }
    }

    /// How many of these bytes are still wanted: all of them, or up to the end of the last line.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        for (place, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return place + 1;
            }
        }
        bytes.len()
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_taken_whole_and_nothing_behind_it() {
        let mut lines = Lines::of(Some(&Quota { time: Duration::ZERO, lines: 3 }));
        assert_eq!((lines.take(b"a\nb"), lines.are_used_up()), (3, false));
        assert_eq!((lines.take(b"b\n"), lines.are_used_up()), (2, false));
        assert_eq!((lines.take(b""), lines.are_used_up()), (0, false));
        assert_eq!((lines.take(b"c\nd\n"), lines.are_used_up()), (2, true));
    }

    #[test]
    fn without_a_quota_everything_is_taken() {
        let mut lines = Lines::of(None);
        assert_eq!((lines.take(&b"\n".repeat(1000)), lines.are_used_up()), (1000, false));
    }
}
