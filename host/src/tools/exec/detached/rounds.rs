//! How many detached jobs look at one server at the same time, so that a hundred of them leave its channels to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For each server: of about twenty channels that a server's connections have.
const AT_ONCE: usize = 4;
/// How long a look lasts when nobody else waits for a turn, and when somebody does.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(2);

/// The turns, by server. A plain mutex, held for a look-up.
#[derive(Debug, Default)]
pub struct Rounds(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Rounds {
    /// Waits for a turn, and says how long it may last. First come, first served.
    pub(super) async fn turn(&self, alias: &str) -> (Option<OwnedSemaphorePermit>, Duration) {
        let turns = {
            let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(all.entry(alias.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        // It is never closed.
        let turn = Arc::clone(&turns).acquire_owned().await.ok();
        (turn, if turns.available_permits() > 0 { LONG } else { SHORT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_takes_short_turns_and_each_server_has_its_own() {
        let rounds = Rounds::default();
        let mut turns = Vec::new();
        for expected in [LONG, LONG, LONG, SHORT] {
            let (turn, life) = rounds.turn("a").await;
            assert_eq!(life, expected);
            turns.push(turn);
        }
        assert!(tokio::time::timeout(Duration::from_secs(60), rounds.turn("a")).await.is_err());
        assert_eq!(rounds.turn("b").await.1, LONG);
        turns.clear();
        assert_eq!(rounds.turn("a").await.1, LONG);
    }
}
