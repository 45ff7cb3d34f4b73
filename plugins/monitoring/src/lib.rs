//! How a server is doing.

use orchestrator_sdk::prelude::*;

/// The plugin.
pub struct Monitoring;

impl Plugin for Monitoring {
    fn describe() -> Description {
        Description::new("monitoring", env!("CARGO_PKG_VERSION"), "How a server is doing.")
    }
}

export!(Monitoring);
