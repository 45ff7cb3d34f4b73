//! What is wrong with a setting: which one, where it stands, what is accepted.

use std::path::PathBuf;

/// Why the program does not start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{name} in {origin} is {value:?}: {accepted}")]
    Value { name: String, origin: String, value: String, accepted: &'static str },
    #[error("orchestrator.toml, line {line}: unknown key {key:?}{}", .nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default())]
    UnknownKey { key: String, line: usize, nearest: Option<&'static str> },
    #[error("orchestrator.toml{}: {message}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Toml { line: Option<usize>, message: String },
    #[error("MIN_CONNECTIONS_PER_SERVER ({min}) is greater than MAX_CONNECTIONS_PER_SERVER ({max})")]
    Connections { min: usize, max: usize },
    #[error("the data directory is not known: set MCP_DATA_DIR, or HOME")]
    NoHome,
    #[error("could not read {path}: {message}")]
    Read { path: PathBuf, message: String },
    #[error(
        "could not {step} the data directory {path}: {source}; set MCP_DATA_DIR to a directory that can be written"
    )]
    Directory { step: &'static str, path: PathBuf, source: std::io::Error },
}
