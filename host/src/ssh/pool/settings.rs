//! What a pool is told: its limits, and what a connection is for.

use std::time::Duration;

use serde::Serialize;

use crate::config::Settings;

/// Opening a channel in less costs a call nothing, since its record is being committed meanwhile.
const FAR: Duration = Duration::from_millis(1);
/// Long enough for calls that follow each other, too short for much to happen to a connection.
const TRUSTED_SILENCE: Duration = Duration::from_secs(10);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Answers matter more than throughput.
    Commands,
    /// What is read while it runs, by somebody who may be slow. The library gives a channel's window back before anybody has
    /// read, so one that is not read holds up all others of its connection: no command may be among them.
    Processes,
    /// Throughput matters more than answers.
    Transfers,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Commands => "commands",
            Purpose::Processes => "processes",
            Purpose::Transfers => "transfers",
        }
    }
}

/// The limits, per server.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    pub max_connections: usize,
    /// Kept open once used, however long they are idle, while there are few over all servers.
    pub min_connections: usize,
    pub idle_timeout: Duration,
    pub keep_alive_interval: Option<Duration>,
    /// From the first packet to being logged in, all jump servers together.
    pub connect_limit: Duration,
    /// A connection that was silent for longer has to answer once more before a command is sent on it.
    pub trusted_silence: Duration,
    /// The next channel is opened ahead: beside a command where the server took so long to open the last one, behind it
    /// elsewhere. `None`: it is opened when somebody needs it.
    pub far: Option<Duration>,
}

impl From<&Settings> for PoolSettings {
    fn from(settings: &Settings) -> Self {
        PoolSettings {
            max_connections: settings.max_connections_per_server,
            min_connections: settings.min_connections_per_server,
            idle_timeout: settings.idle_timeout,
            keep_alive_interval: settings.keep_alive_interval,
            connect_limit: settings.connect_timeout,
            trusted_silence: TRUSTED_SILENCE,
            far: Some(FAR),
        }
    }
}
