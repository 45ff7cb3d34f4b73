//! How a connection is set up for what it is made for.
//!
//! Not what is offered in the handshake: that is `algorithms`.

use std::time::Duration;

use russh::Preferred;
use russh::client::Config;

/// Messages that wait in a channel until they are read: with packets of 32 KiB at most 1 MiB each.
const CHANNEL_BUFFER: usize = 32;
/// How many bytes a server may send before we have taken them in, on a connection for transfers: enough for 100 MB/s at
/// 300 ms. What is really on its way is bounded by what was asked for.
const BULK_WINDOW: u32 = 32 << 20;

/// What a connection is made for.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// From the first packet to being logged in, all jump servers together.
    pub limit: Duration,
    pub keep_alive: Option<Duration>,
    /// Large amounts of data over long lines.
    pub bulk: bool,
}

/// The library's settings for one connection.
pub fn config(preferred: Preferred, tuning: Tuning) -> Config {
    let usual = Config::default();
    Config {
        window_size: if tuning.bulk { BULK_WINDOW } else { usual.window_size },
        preferred,
        nodelay: true,
        channel_buffer_size: CHANNEL_BUFFER,
        keepalive_interval: tuning.keep_alive,
        // One probe without an answer for a whole interval: a dead connection is noticed within two.
        keepalive_max: 1,
        ..usual
    }
}
