//! The next channel of a connection, opened while the present one is in use, so that whoever comes next need not wait a
//! round trip for it.
//!
//! Not how it is opened (`spare`).

use std::sync::Arc;

use super::{Connection, Places};

/// The wish for one more channel on a connection.
pub struct Ahead<C: Connection> {
    pub(super) places: Arc<Places<C>>,
    pub(super) link: u64,
    pub(super) connection: Arc<C>,
}

impl<C: Connection> Clone for Ahead<C> {
    fn clone(&self) -> Self {
        Ahead { places: self.places.clone(), link: self.link, connection: self.connection.clone() }
    }
}

impl<C: Connection> Ahead<C> {
    pub fn connection(&self) -> &Arc<C> {
        &self.connection
    }

    /// Keeps what `open` begins to open for the next caller, where there is none yet and the server has room for it beside
    /// the channels in use. Those who wait for a place get their own.
    pub fn keep(&self, open: impl FnOnce() -> C::Spare) {
        let mut state = self.places.lock();
        let capacity = state.capacity.now;
        let is_wanted = state.queue.is_empty();
        let Some(link) = state.links.iter_mut().find(|link| link.id == self.link) else { return };
        if is_wanted && link.spare.is_none() && link.used < capacity && !link.connection.is_closed() {
            link.spare = Some(open());
        }
    }

    /// The server refused to open it: one more than those in use is too many.
    pub fn refused(&self) {
        let mut state = self.places.lock();
        let Some(link) = state.links.iter_mut().find(|link| link.id == self.link) else { return };
        link.spare = None;
        let used = link.used;
        state.capacity.refused(used);
    }
}
