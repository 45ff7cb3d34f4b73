//! What runs on one connection, in the order in which it was sent.
//!
//! A server starts the commands of a connection in that order, which tells apart those whose lines are the same. Not how
//! they are stopped: that is `stop`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The commands of one connection whose end is not known yet.
#[derive(Debug, Default)]
pub struct Running {
    commands: Mutex<Vec<Arc<str>>>,
    /// Held while a command is handed to the connection: the order here is the order on the wire.
    sending: tokio::sync::Mutex<()>,
    /// Held while one of several commands with the same line is looked up and stopped: meanwhile their number changes.
    stopping: tokio::sync::Mutex<()>,
}

/// A command that runs; dropped when its end is known, or when nobody waits for it any more.
#[derive(Debug)]
pub struct Entry {
    of: Arc<Running>,
    line: Arc<str>,
}

/// Which of several commands with the same line one is, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    pub place: usize,
    pub of: usize,
}

impl Running {
    /// Sends a command with `send` and counts it from then on.
    pub async fn send<T>(self: &Arc<Self>, line: &str, send: impl Future<Output = T>) -> (Entry, T) {
        let _order = self.sending.lock().await;
        let line: Arc<str> = line.into();
        self.commands().push(Arc::clone(&line));
        let entry = Entry { of: Arc::clone(self), line };
        (entry, send.await)
    }

    /// Waits until no other one is being stopped.
    pub async fn stopping(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.stopping.lock().await
    }

    fn commands(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub fn rank(&self) -> Rank {
        let commands = self.of.commands();
        let same = commands.iter().filter(|line| **line == self.line);
        let before = same.clone().take_while(|line| !Arc::ptr_eq(line, &self.line)).count();
        Rank { place: before + 1, of: same.count() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.of.commands().retain(|line| !Arc::ptr_eq(line, &self.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_with_the_same_line_are_told_apart_by_their_order() {
        let running = Arc::<Running>::default();
        let mut entries = Vec::new();
        for line in ["sleep 9", "true", "sleep 9", "sleep 9"] {
            entries.push(running.send(line, async {}).await.0);
        }
        let ranks =
            |entries: &[Entry]| entries.iter().map(|entry| (entry.rank().place, entry.rank().of)).collect::<Vec<_>>();
        assert_eq!(ranks(&entries), [(1, 3), (1, 1), (2, 3), (3, 3)]);
        entries.remove(2);
        assert_eq!(ranks(&entries), [(1, 2), (1, 1), (2, 2)]);
        entries.clear();
        assert!(running.commands().is_empty());
    }
}
