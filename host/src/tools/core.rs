//! What the core's tools work with. Made once by the composition root.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use super::Registry;
use super::exec::Rounds;
use crate::audit::Audit;
use crate::capability::Servers;
use crate::config::Settings;
use crate::error::Problem;
use crate::jobs::Jobs;
use crate::logs::Logs;
use crate::plugins::Plugins;
use crate::store::Store;

/// The parts of the program that tools reach.
pub struct Core {
    pub settings: Arc<Settings>,
    pub store: Store,
    pub jobs: Jobs,
    pub servers: Servers,
    pub plugins: Arc<Plugins>,
    pub logs: Logs,
    pub audit: Audit,
    pub started: Instant,
    /// Whose turn it is to look after its detached command.
    pub rounds: Rounds,
    /// Set once, when the registry exists: `help` and `task_retry` look into it.
    registry: OnceLock<Weak<Registry>>,
}

impl Core {
    pub fn new(
        settings: Arc<Settings>,
        store: Store,
        jobs: Jobs,
        servers: Servers,
        plugins: Arc<Plugins>,
        logs: Logs,
        audit: Audit,
    ) -> Arc<Core> {
        Arc::new(Core {
            settings,
            store,
            jobs,
            servers,
            plugins,
            logs,
            audit,
            started: Instant::now(),
            rounds: Rounds::default(),
            registry: OnceLock::new(),
        })
    }

    pub(super) fn link(&self, registry: &Arc<Registry>) {
        // A second registry over the same core would be a mistake of ours; the first one stays.
        let _ = self.registry.set(Arc::downgrade(registry));
    }

    pub(super) fn registry(&self) -> Result<Arc<Registry>, Problem> {
        self.registry
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| Problem::internal("the tools are not registered yet, or no more: the process is ending"))
    }
}
