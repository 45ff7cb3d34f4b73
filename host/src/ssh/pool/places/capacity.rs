//! How many channels one connection is given.
//!
//! Not who gets them (`places`).

use std::time::Duration;

use tokio::time::Instant;

/// Channels per connection at first. sshd frees its session slots late: with ten allowed, six in flight already get refusals.
const FIRST_CAPACITY: usize = 4;
/// OpenSSH's default for `MaxSessions`; more is never tried.
const MAX_CAPACITY: usize = 10;
/// After a refusal nothing is tried for so long just because somebody waits.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// How many channels a connection is given: learned from the server's refusals, since it does not tell.
#[derive(Debug)]
pub struct Capacity {
    pub now: usize,
    /// Successful opens of the last place in a row.
    streak: usize,
    /// How many of them it takes to try one more; doubled by each refusal, so that trying gets rare.
    wanted: usize,
    refused: Option<Instant>,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity { now: FIRST_CAPACITY, streak: 0, wanted: 16, refused: None }
    }
}

impl Capacity {
    /// A channel was opened where `used` are in use now.
    pub fn succeeded(&mut self, used: usize) {
        if used < self.now {
            return;
        }
        self.streak += 1;
        if self.streak >= self.wanted && self.now < MAX_CAPACITY {
            self.now += 1;
            self.streak = 0;
        }
    }

    /// A channel was refused where there were so many `others`.
    pub fn refused(&mut self, others: usize) {
        self.now = others.clamp(1, self.now);
        self.streak = 0;
        self.wanted = (self.wanted * 2).min(4096);
        self.refused = Some(Instant::now());
    }

    /// Somebody waits while everything runs on: one more is tried, unless the server has just refused one. `true` if so.
    pub fn stretch(&mut self) -> bool {
        let lately = self.refused.is_some_and(|time| time.elapsed() < AFTER_REFUSAL);
        let more = !lately && self.now < MAX_CAPACITY;
        self.now += usize::from(more);
        more
    }
}
