//! Who is there: how many clients and how much work, and the one decision that depends on it, whether the daemon may go.
//!
//! The decision and its announcement are one step under one lock, so that no client gets in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::protocol::Status;
use crate::jobs::Jobs;

/// The most that [`Lobby::rest`] waits for one job before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Shared by all connections.
pub(super) struct Lobby {
    jobs: Jobs,
    idle: Option<Duration>,
    started: Instant,
    /// Fires when the daemon goes.
    stop: CancellationToken,
    state: Mutex<State>,
    /// How many clients there are, for whoever waits for a change.
    clients: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    clients: usize,
    /// How many there ever were: the next one's number.
    ever: u64,
}

/// A client's place; given back when it is dropped.
pub(super) struct Guest {
    lobby: Arc<Lobby>,
    pub(super) number: u64,
}

impl Lobby {
    pub(super) fn new(jobs: Jobs, idle: Option<Duration>, stop: CancellationToken) -> Arc<Lobby> {
        Arc::new(Lobby {
            jobs,
            idle,
            started: Instant::now(),
            stop,
            state: Mutex::default(),
            clients: watch::Sender::new(0),
        })
    }

    /// Lets a client in. `None` when the daemon is leaving.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Guest> {
        let mut state = self.state();
        if self.stop.is_cancelled() {
            return None;
        }
        state.clients += 1;
        state.ever += 1;
        self.clients.send_replace(state.clients);
        Some(Guest { lobby: Arc::clone(self), number: state.ever })
    }

    pub(super) fn status(&self) -> Status {
        self.look(&self.state())
    }

    fn look(&self, state: &State) -> Status {
        Status {
            clients: state.clients,
            jobs: self.jobs.count(),
            uptime_s: self.started.elapsed().as_secs(),
            idle_s: self.idle.map(|idle| idle.as_secs()),
        }
    }

    /// Ends the daemon.
    pub(super) fn stop(&self) -> Status {
        let state = self.state();
        self.stop.cancel();
        self.look(&state)
    }

    /// Ends the daemon if nobody needs it; else tells who does.
    pub(super) fn stop_if_unused(&self) -> Result<Status, Status> {
        let state = self.state();
        let status = self.look(&state);
        if status.clients > 0 || status.jobs > 0 {
            return Err(status);
        }
        self.stop.cancel();
        Ok(status)
    }

    /// Ends the daemon once it has been without clients and work for long enough. Returns when it has.
    pub(super) async fn rest(&self) {
        let Some(idle) = self.idle else { return std::future::pending().await };
        let mut clients = self.clients.subscribe();
        loop {
            // The sender is ours, so these cannot fail.
            let _ = clients.wait_for(|clients| *clients == 0).await;
            if let Some(job) = self.jobs.oldest() {
                // The time begins when the last job has ended.
                let never = CancellationToken::new();
                tokio::select! {
                    _ = clients.changed() => {}
                    _ = self.jobs.wait(job, LOOK_AGAIN, &never) => {}
                }
                continue;
            }
            tokio::select! {
                _ = clients.changed() => {}
                () = tokio::time::sleep(idle) => {
                    if self.stop_if_unused().is_ok() {
                        tracing::info!("the daemon ends: no client and no job for {} s", idle.as_secs());
                        return;
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.lobby.state();
        state.clients = state.clients.saturating_sub(1);
        self.lobby.clients.send_replace(state.clients);
    }
}
