//! The operator's settings: from the environment, a `.env` in the data directory and `orchestrator.toml`.

mod plugins;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use plugins::{GrantsConfig, PluginConfig, PluginLimits};

/// All settings, checked. Read once at start-up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything of ours lives, mode 0700. `MCP_DATA_DIR`.
    pub data_dir: PathBuf,
    /// How long a call waits for its job before it hands it over to the background. `MCP_SYNC_TIMEOUT_S`.
    pub sync_timeout: Duration,
    /// How long a command may take; `None` is for ever. `MCP_DEFAULT_CMD_TIMEOUT_MS`.
    pub command_timeout: Option<Duration>,
    /// The same for commands that answer prompts. `MCP_INTERACTIVE_CMD_TIMEOUT_MS`.
    pub interactive_timeout: Option<Duration>,
    /// The longest that `task_wait` waits. `MCP_MAX_WAIT_TIMEOUT_S`.
    pub max_wait: Duration,
    pub max_connections_per_server: usize,
    pub min_connections_per_server: usize,
    /// A connection without channels is closed after this. `IDLE_TIMEOUT`.
    pub idle_timeout: Duration,
    /// How often a silent connection is probed; `None` is never. `KEEP_ALIVE_INTERVAL`.
    pub keep_alive_interval: Option<Duration>,
    /// Active and pending jobs together. `MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
    /// How long ended jobs are kept. `HISTORY_RETENTION`.
    pub history_retention: Duration,
    /// Where local and remote paths must lie; empty is everywhere. `MCP_ALLOWED_ROOTS`.
    pub allowed_roots: Vec<PathBuf>,
    /// A `tracing` filter. `LOG_LEVEL`, `MCP_DEBUG`.
    pub log_level: String,
    /// The secret that seals stored secrets, or a reference to it. `MCP_MASTER_KEY`.
    pub master_key: Option<String>,
    /// `[plugins.NAME]`.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// `[plugin_limits]`.
    pub plugin_limits: PluginLimits,
}
