//! What the pool tells about itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::places::Places;
use super::{Pool, Purpose};
use crate::ssh::session::Session;

/// One server's part of [`Pool::stats`].
#[derive(Clone, Debug, Serialize)]
pub struct ServerStats {
    pub alias: String,
    pub purpose: Purpose,
    pub connections: Vec<ConnectionStats>,
    /// Calls that wait for a place.
    pub waiting: usize,
    pub max_connections: usize,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStats {
    /// In use now.
    pub channels: usize,
    /// Opened ahead for the next calls.
    pub ready: usize,
    /// How many channels it is given at most, as far as learned.
    pub capacity: usize,
    pub age_s: u64,
    /// Absent while a channel is in use.
    pub idle_s: Option<u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// `ok`, `off` or `dead`.
    pub keep_alive: &'static str,
}

impl Pool {
    /// Every server that has or had a connection, sorted by alias.
    pub fn stats(&self) -> Vec<ServerStats> {
        let servers: Vec<_> = self.servers().iter().map(|(key, places)| (key.clone(), places.clone())).collect();
        let keep_alive = if self.0.settings.keep_alive_interval.is_some() { "ok" } else { "off" };
        let one = |((alias, purpose), places): ((String, Purpose), Arc<Places<Session>>)| {
            let (links, waiting) = places.usage();
            let connections = links.into_iter().map(|link| ConnectionStats {
                channels: link.channels,
                ready: link.ready,
                capacity: link.capacity,
                age_s: link.connection.opened.elapsed().as_secs(),
                idle_s: link.idle_since.map(|since| since.elapsed().as_secs()),
                bytes_in: link.connection.traffic.received.load(Ordering::Relaxed),
                bytes_out: link.connection.traffic.sent.load(Ordering::Relaxed),
                keep_alive: if link.connection.is_closed() { "dead" } else { keep_alive },
            });
            ServerStats { alias, purpose, connections: connections.collect(), waiting, max_connections: places.max() }
        };
        servers.into_iter().map(one).collect()
    }
}
