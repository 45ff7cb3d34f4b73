//! The operator's settings: from the environment, a `.env` in the data directory and `orchestrator.toml`.
//!
//! A `.env` in the working directory is not read: that directory is often a repository which somebody else wrote.
//! Nothing that is read here is put into the process's own environment.

mod detach;
mod directory;
mod error;
mod file;
mod legacy;
mod plugins;
mod proxy;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use detach::DetachConfig;
pub use directory::prepare as prepare_data_dir;
pub use error::ConfigError;
pub use legacy::{LEGACY_ALGORITHMS, LegacyConfig};
pub use plugins::{GrantsConfig, PluginConfig, PluginLimits, check_http_scope};
pub use proxy::{Kind as ProxyKind, Proxy};

use sources::{Source, Sources, Unit};

/// Every setting by its name in the environment and its key in `orchestrator.toml`.
const NAMES: &[(&str, &str)] = &[
    ("MCP_SYNC_TIMEOUT_S", "sync_timeout_s"),
    ("MCP_DEFAULT_CMD_TIMEOUT_MS", "default_cmd_timeout_ms"),
    ("MCP_DEFAULT_CMD_TIMEOUT_S", "default_cmd_timeout_s"),
    ("MCP_INTERACTIVE_CMD_TIMEOUT_MS", "interactive_cmd_timeout_ms"),
    ("MCP_INTERACTIVE_CMD_TIMEOUT_S", "interactive_cmd_timeout_s"),
    ("MCP_MAX_WAIT_TIMEOUT_S", "max_wait_timeout_s"),
    ("MCP_CONNECT_TIMEOUT_S", "connect_timeout_s"),
    ("MAX_CONNECTIONS_PER_SERVER", "max_connections_per_server"),
    ("MIN_CONNECTIONS_PER_SERVER", "min_connections_per_server"),
    ("IDLE_TIMEOUT", "idle_timeout"),
    ("KEEP_ALIVE_INTERVAL", "keep_alive_interval"),
    ("MAX_QUEUE_SIZE", "max_queue_size"),
    ("MAX_RUNNING_JOBS", "max_running_jobs"),
    ("MAX_JOBS_PER_SERVER", "max_jobs_per_server"),
    ("HISTORY_RETENTION", "history_retention"),
    // Accepted and ignored: every change is committed.
    ("SAVE_INTERVAL", "save_interval"),
    ("MCP_ALLOWED_ROOTS", "allowed_roots"),
    ("MCP_CA_FILE", "ca_file"),
    ("MCP_DAEMON_IDLE_S", "daemon_idle_s"),
    ("MCP_HOST_KEYS", "host_keys"),
    ("MCP_PROXY", "proxy"),
    ("MCP_PROXY_PASSWORD", "proxy_password"),
    ("MCP_KNOWN_HOSTS", "known_hosts"),
    ("LOG_LEVEL", "log_level"),
    ("MCP_DEBUG", "debug"),
    ("MCP_MASTER_KEY", "master_key"),
];
/// How the file is called in messages.
const TOML: &str = "orchestrator.toml";

/// The key in the file of a variable.
fn toml_key(variable: &str) -> String {
    NAMES.iter().find(|(name, _)| *name == variable).map_or(variable, |(_, key)| key).to_owned()
}

/// What is done about a server of which no host key is known. A key that differs from a known one is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKeyPolicy {
    /// It is refused.
    #[default]
    Strict,
    /// Its first key is written down and trusted from then on.
    AcceptNew,
}

impl HostKeyPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            HostKeyPolicy::Strict => "strict",
            HostKeyPolicy::AcceptNew => "accept-new",
        }
    }
}

/// All settings, checked. Read once at start-up.
#[derive(Clone, PartialEq)]
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
    /// From the first packet to being logged in, all jump servers together. `MCP_CONNECT_TIMEOUT_S`.
    pub connect_timeout: Duration,
    pub max_connections_per_server: usize,
    pub min_connections_per_server: usize,
    /// A connection without channels is closed after this. `IDLE_TIMEOUT`.
    pub idle_timeout: Duration,
    /// How often a silent connection is probed; `None` is never. `KEEP_ALIVE_INTERVAL`.
    pub keep_alive_interval: Option<Duration>,
    /// Active and pending jobs together. `MAX_QUEUE_SIZE`.
    pub max_queue_size: usize,
    /// Jobs at work at the same time; the others wait their turn. `MAX_RUNNING_JOBS`.
    pub max_running_jobs: usize,
    /// The same for one server. `MAX_JOBS_PER_SERVER`.
    pub max_jobs_per_server: usize,
    /// How long ended jobs are kept. `HISTORY_RETENTION`.
    pub history_retention: Duration,
    /// Where local and remote paths must lie; empty is everywhere. `MCP_ALLOWED_ROOTS`.
    pub allowed_roots: Vec<PathBuf>,
    /// Certificate authorities that are trusted beside the system's, PEM. `MCP_CA_FILE`.
    pub ca_file: Option<PathBuf>,
    /// How long a daemon stays without clients and work; `None` is for ever. `MCP_DAEMON_IDLE_S`.
    pub daemon_idle: Option<Duration>,
    /// What is done about servers whose host key nobody has vouched for. `MCP_HOST_KEYS`.
    pub host_keys: HostKeyPolicy,
    /// The proxy for connections to servers, unless they say otherwise. `MCP_PROXY`.
    pub proxy: Option<Proxy>,
    /// What the proxy is told of its user, or a reference to it. `MCP_PROXY_PASSWORD`.
    pub proxy_password: Option<String>,
    /// Files of known_hosts that are read beside the usual ones. `MCP_KNOWN_HOSTS`.
    pub known_hosts: Vec<PathBuf>,
    /// A `tracing` filter. `LOG_LEVEL`, `MCP_DEBUG`.
    pub log_level: String,
    /// The secret that seals stored secrets, or a reference to it. `MCP_MASTER_KEY`.
    pub master_key: Option<String>,
    /// `[plugins.NAME]`.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// `[plugin_limits]`.
    pub plugin_limits: PluginLimits,
    /// `[detach]`.
    pub detach: DetachConfig,
    /// `[legacy]`.
    pub legacy: LegacyConfig,
}

impl Settings {
    /// What may be shown of them: all but the secrets.
    pub fn shown(&self) -> serde_json::Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        serde_json::json!({
            "data_dir": self.data_dir,
            "sync_timeout_seconds": self.sync_timeout.as_secs_f64(),
            "command_timeout_seconds": seconds(self.command_timeout),
            "max_wait_seconds": self.max_wait.as_secs_f64(),
            "connect_timeout_seconds": self.connect_timeout.as_secs_f64(),
            "max_connections_per_server": self.max_connections_per_server,
            "min_connections_per_server": self.min_connections_per_server,
            "idle_timeout_seconds": self.idle_timeout.as_secs_f64(),
            "keep_alive_interval_seconds": seconds(self.keep_alive_interval),
            "max_queue_size": self.max_queue_size,
            "max_running_jobs": self.max_running_jobs,
            "max_jobs_per_server": self.max_jobs_per_server,
            "history_retention_seconds": self.history_retention.as_secs_f64(),
            "ca_file": self.ca_file,
            "daemon_idle_seconds": seconds(self.daemon_idle),
            "host_keys": self.host_keys.as_str(),
            "proxy": self.proxy.as_ref().map(Proxy::to_string),
            "known_hosts": self.known_hosts,
            "log_level": self.log_level,
            "master_key": if self.master_key.is_some() { "MCP_MASTER_KEY" } else { "key file" },
        })
    }

    /// Every setting as text by the name that an operator knows it by, so that two processes can tell whether theirs differ.
    /// Secrets are among them: the texts are for digests only.
    pub fn texts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("MCP_SYNC_TIMEOUT_S", format!("{:?}", self.sync_timeout)),
            ("MCP_DEFAULT_CMD_TIMEOUT_MS", format!("{:?}", self.command_timeout)),
            ("MCP_INTERACTIVE_CMD_TIMEOUT_MS", format!("{:?}", self.interactive_timeout)),
            ("MCP_MAX_WAIT_TIMEOUT_S", format!("{:?}", self.max_wait)),
            ("MCP_CONNECT_TIMEOUT_S", format!("{:?}", self.connect_timeout)),
            ("MAX_CONNECTIONS_PER_SERVER", self.max_connections_per_server.to_string()),
            ("MIN_CONNECTIONS_PER_SERVER", self.min_connections_per_server.to_string()),
            ("IDLE_TIMEOUT", format!("{:?}", self.idle_timeout)),
            ("KEEP_ALIVE_INTERVAL", format!("{:?}", self.keep_alive_interval)),
            ("MAX_QUEUE_SIZE", self.max_queue_size.to_string()),
            ("MAX_RUNNING_JOBS", self.max_running_jobs.to_string()),
            ("MAX_JOBS_PER_SERVER", self.max_jobs_per_server.to_string()),
            ("HISTORY_RETENTION", format!("{:?}", self.history_retention)),
            ("MCP_ALLOWED_ROOTS", format!("{:?}", self.allowed_roots)),
            ("MCP_DAEMON_IDLE_S", format!("{:?}", self.daemon_idle)),
            ("MCP_HOST_KEYS", self.host_keys.as_str().to_owned()),
            ("MCP_PROXY", self.proxy.as_ref().map(Proxy::to_string).unwrap_or_default()),
            ("MCP_PROXY_PASSWORD", self.proxy_password.clone().unwrap_or_default()),
            ("MCP_KNOWN_HOSTS", format!("{:?}", self.known_hosts)),
            ("MCP_CA_FILE", format!("{:?}", self.ca_file)),
            ("LOG_LEVEL", self.log_level.clone()),
            ("MCP_MASTER_KEY", self.master_key.clone().unwrap_or_default()),
            ("[plugins] in orchestrator.toml", format!("{:?}", self.plugins)),
            ("[plugin_limits] in orchestrator.toml", format!("{:?}", self.plugin_limits)),
            ("[detach] in orchestrator.toml", format!("{:?}", self.detach)),
            ("[legacy] in orchestrator.toml", format!("{:?}", self.legacy)),
        ]
    }

    /// Where the data directory is by the environment and `overrides`, as [`Settings::load`] has it, but nothing is made.
    pub fn locate(overrides: BTreeMap<String, String>) -> Result<PathBuf, ConfigError> {
        data_dir(&environment(overrides))
    }

    /// Reads all sources. `overrides` (the command line's, by the environment's names) win over the environment.
    /// Makes the data directory, if need be, since two of the sources are in it.
    pub fn load(overrides: BTreeMap<String, String>) -> Result<Settings, ConfigError> {
        let env = environment(overrides);
        // As it was meant where we were started: a daemon works elsewhere.
        let data_dir = std::path::absolute(data_dir(&env)?).map_err(|_| ConfigError::NoHome)?;
        directory::prepare(&data_dir)?;
        let dotenv = directory::read_dotenv(&data_dir.join(".env"))?;
        let toml = directory::read_optional(&data_dir.join(TOML))?;
        let settings = Settings::from_sources(&env, &dotenv, toml.as_deref())?;
        Ok(Settings { data_dir, ..settings })
    }

    /// The settings that these sources mean, the strongest first. Touches nothing outside.
    pub fn from_sources(
        env: &BTreeMap<String, String>,
        dotenv: &BTreeMap<String, String>,
        toml: Option<&str>,
    ) -> Result<Settings, ConfigError> {
        use Unit::{Milliseconds, Seconds};
        let file = toml.map(file::parse).transpose()?.unwrap_or_default();
        let sources = Sources(vec![
            Source { name: "the environment", values: env.clone() },
            Source { name: ".env", values: dotenv.clone() },
            Source { name: TOML, values: file.values },
        ]);
        let seconds = Duration::from_secs;
        let max_connections = sources.count("MAX_CONNECTIONS_PER_SERVER", 5)?;
        let min_connections = sources.count("MIN_CONNECTIONS_PER_SERVER", 1)?;
        if min_connections > max_connections {
            return Err(ConfigError::Connections { min: min_connections, max: max_connections });
        }
        let (proxy, proxy_password) = sources.proxy("MCP_PROXY", "MCP_PROXY_PASSWORD")?;
        let default_filter = if sources.flag("MCP_DEBUG")? { "debug" } else { "info" };
        Ok(Settings {
            data_dir: data_dir(env)?,
            sync_timeout: sources.duration(&[("MCP_SYNC_TIMEOUT_S", Seconds)], seconds(30))?,
            command_timeout: sources.limit(
                &[("MCP_DEFAULT_CMD_TIMEOUT_S", Seconds), ("MCP_DEFAULT_CMD_TIMEOUT_MS", Milliseconds)],
                seconds(300),
            )?,
            interactive_timeout: sources.limit(
                &[("MCP_INTERACTIVE_CMD_TIMEOUT_S", Seconds), ("MCP_INTERACTIVE_CMD_TIMEOUT_MS", Milliseconds)],
                seconds(120),
            )?,
            max_wait: sources.duration(&[("MCP_MAX_WAIT_TIMEOUT_S", Seconds)], seconds(600))?,
            connect_timeout: seconds(sources.count("MCP_CONNECT_TIMEOUT_S", 20)? as u64),
            max_connections_per_server: max_connections,
            min_connections_per_server: min_connections,
            idle_timeout: sources.duration(&[("IDLE_TIMEOUT", Milliseconds)], seconds(300))?,
            keep_alive_interval: sources.limit(&[("KEEP_ALIVE_INTERVAL", Milliseconds)], seconds(30))?,
            max_queue_size: sources.count("MAX_QUEUE_SIZE", 1000)?,
            max_running_jobs: sources.count("MAX_RUNNING_JOBS", 128)?,
            max_jobs_per_server: sources.count("MAX_JOBS_PER_SERVER", 64)?,
            history_retention: sources.duration(&[("HISTORY_RETENTION", Milliseconds)], seconds(31 * 24 * 3600))?,
            allowed_roots: paths(&sources, "MCP_ALLOWED_ROOTS", home(env)),
            ca_file: sources.text("MCP_CA_FILE").map(|path| expand(&path, home(env))),
            daemon_idle: sources.limit(&[("MCP_DAEMON_IDLE_S", Seconds)], seconds(300))?,
            host_keys: sources.host_keys("MCP_HOST_KEYS")?,
            proxy,
            proxy_password,
            known_hosts: paths(&sources, "MCP_KNOWN_HOSTS", home(env)),
            log_level: sources.log_filter("LOG_LEVEL", default_filter)?,
            master_key: sources.text("MCP_MASTER_KEY"),
            plugins: file.plugins,
            plugin_limits: file.plugin_limits,
            detach: file.detach,
            legacy: file.legacy,
        })
    }
}

// By hand, since some of them may be secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("data_dir", &self.data_dir)
            .field("log_level", &self.log_level)
            .field("master_key", &self.master_key.as_ref().map(|_| "[secret]"))
            .finish_non_exhaustive()
    }
}

fn environment(overrides: BTreeMap<String, String>) -> BTreeMap<String, String> {
    // A variable that is not UTF-8 is none of ours.
    let mut env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    env.extend(overrides);
    env
}

fn home(env: &BTreeMap<String, String>) -> Option<&str> {
    env.get("HOME").map(String::as_str).filter(|home| !home.is_empty())
}

/// Only the environment can say where it is: the other sources lie in it.
fn data_dir(env: &BTreeMap<String, String>) -> Result<PathBuf, ConfigError> {
    let given = env.get("MCP_DATA_DIR").map(|text| text.trim()).filter(|text| !text.is_empty());
    match (given, home(env)) {
        (Some(text), home) => Ok(expand(text, home)),
        (None, Some(home)) => Ok(Path::new(home).join(".config/mcp-orchestrator")),
        (None, None) => Err(ConfigError::NoHome),
    }
}

/// A path as a user writes it: `~`, `$HOME` and `${HOME}` at its beginning are the home directory of this process.
pub fn expand_home(text: &str) -> PathBuf {
    expand(text, std::env::var("HOME").ok().as_deref())
}

/// `~`, `$HOME` and `${HOME}` at the beginning of a path.
fn expand(text: &str, home: Option<&str>) -> PathBuf {
    for prefix in ["~", "$HOME", "${HOME}"] {
        if let (Some(rest), Some(home)) = (text.strip_prefix(prefix), home)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Path::new(home).join(rest.trim_start_matches('/'));
        }
    }
    PathBuf::from(text)
}

/// Paths separated by `:` or `,`.
fn paths(sources: &Sources, name: &str, home: Option<&str>) -> Vec<PathBuf> {
    let text = sources.text(name).unwrap_or_default();
    let parts = text.split([':', ',']).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| expand(part, home)).collect()
}

#[cfg(test)]
mod tests;
