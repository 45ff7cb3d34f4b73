//! What the connections to all servers have in common: how many there are, and who closes those that are idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Up to so many connections, a server keeps its idle ones as `MIN_CONNECTIONS_PER_SERVER` says. Each takes some 200 KB here
/// and a process at the server: whoever asks a fleet of thousands once must not pay for all of them ever after.
pub const WARM_CONNECTIONS: usize = 256;

pub struct Fleet {
    open: AtomicUsize,
    warm: usize,
    /// Wakes the idle closer.
    idle: Notify,
}

impl Fleet {
    pub fn new(warm: usize) -> Arc<Self> {
        Arc::new(Fleet { open: AtomicUsize::new(0), warm, idle: Notify::new() })
    }

    /// How many connections a server may keep for as long as they live, where it would like to keep `min`.
    pub fn keeps(&self, min: usize) -> usize {
        // Relaxed: only a number; whoever sees it a moment too early is woken by the next that falls idle.
        if self.open.load(Ordering::Relaxed) > self.warm { 0 } else { min }
    }

    /// A connection is open for as long as this is there.
    pub fn count(self: &Arc<Self>) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    /// A connection that may be closed once it has been idle for long.
    pub fn fell_idle(&self) {
        self.idle.notify_one();
    }

    /// Until one falls idle.
    pub async fn idle(&self) {
        self.idle.notified().await;
    }
}

/// One open connection.
pub struct Counted(Arc<Fleet>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
