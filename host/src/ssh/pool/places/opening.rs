//! A connection that somebody was told to open: what becomes of those who wait for it, however it ends.
//!
//! Not how it is opened (`session`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Grant, Link, Place, Places};
use crate::ssh::error::SshError;

/// After a connection could not be opened while others live, the server gets this long before the next try.
const OPEN_PAUSE: Duration = Duration::from_secs(5);

/// The permission to open one connection; given back when dropped.
pub struct Opening<C: Connection> {
    pub(super) places: Arc<Places<C>>,
    pub(super) epoch: u64,
    pub(super) held: bool,
}

impl<C: Connection> Opening<C> {
    /// The connection is open: its first place goes to the opener, the others to those who wait. `Err` gives it back, when
    /// all connections were closed in the meantime.
    pub fn opened(mut self, connection: C) -> Result<Place<C>, C> {
        self.held = false;
        let places = self.places.clone();
        let place = {
            let mut state = places.lock();
            state.opening = state.opening.saturating_sub(1);
            if state.epoch != self.epoch {
                return Err(connection);
            }
            state.next += 1;
            let (id, connection) = (state.next, Arc::new(connection));
            state.no_open_before = None;
            state.circuit.succeeded();
            state.personal = connection.is_personal();
            state.links.push(Link {
                id,
                connection: connection.clone(),
                used: 1,
                spare: None,
                idle_since: Instant::now(),
                _counted: places.fleet.count(),
            });
            Place { places: places.clone(), link: id, connection, spare: None, fresh: true, held: true }
        };
        places.serve();
        Ok(place)
    }

    /// The connection could not be opened. `true`: others live, so the opener goes back to waiting for a place there; or one is
    /// being opened to a server that asks, perhaps with the only answer that there is.
    /// Else everybody who waited gets the same error: a wrong password is not tried once per waiting call.
    pub fn failed(mut self, error: &SshError) -> bool {
        self.held = false;
        let places = self.places.clone();
        let mut queue = VecDeque::new();
        let others = {
            let mut state = places.lock();
            state.opening = state.opening.saturating_sub(1);
            let shared = is_shared(error, places.connect_limit);
            if shared {
                state.circuit.failed(error, Instant::now());
            }
            let asks = error.question().is_some();
            state.personal |= asks;
            let others = state.links.iter().any(|link| !link.connection.is_closed());
            if others {
                state.no_open_before = Some(Instant::now() + OPEN_PAUSE);
            } else if state.opening == 0 && shared {
                queue = std::mem::take(&mut state.queue);
            }
            others || (asks && state.opening > 0)
        };
        for waiter in queue {
            // Somebody who has left needs no error.
            let _ = waiter.reply.send(Grant::Failed(error.clone()));
        }
        places.serve();
        others
    }
}

/// Whether an error says something about the server, and not only about the call that was connecting.
fn is_shared(error: &SshError, connect_limit: Duration) -> bool {
    match error {
        SshError::Cancelled { .. } => false,
        SshError::Timeout { after, .. } => *after >= connect_limit,
        SshError::Jump { source, .. } => is_shared(source, connect_limit),
        _ => true,
    }
}

impl<C: Connection> Drop for Opening<C> {
    fn drop(&mut self) {
        if std::mem::take(&mut self.held) {
            {
                let mut state = self.places.lock();
                state.opening = state.opening.saturating_sub(1);
            }
            self.places.serve();
        }
    }
}
