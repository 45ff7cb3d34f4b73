//! What can go wrong with a secret. No variant ever holds one.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Code, Problem};
use crate::store::StoreError;

/// Why a secret cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("could not {step} the key file {path}: {source}")]
    KeyFile { step: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the key file {path} can be read by others (mode {mode:o}): run `chmod 600 {path}`")]
    KeyFileMode { path: PathBuf, mode: u32 },
    #[error("the key file {path} holds {length} bytes instead of 32: restore it from a backup")]
    KeyFileLength { path: PathBuf, length: usize },
    #[error(
        "the key file {path} is gone, but stored secrets were sealed with it: restore it, or set MCP_MASTER_KEY if they were sealed with that"
    )]
    KeyFileMissing { path: PathBuf },
    #[error(
        "the stored secrets were sealed with another key than {origin}: give the one that was used when they were stored, or store them again in a new data directory"
    )]
    WrongKey { origin: String },
    #[error("MCP_MASTER_KEY is empty")]
    EmptyMasterKey,
    #[error("the key could not be derived: {0}")]
    Derive(String),
    #[error("the stored secret {name} does not open with the present key: store it again")]
    Unsealable { name: String },
    #[error("the secret {name} is too long")]
    TooLong { name: String },
    #[error("{0:?} is not a reference to a secret: write env:NAME, file:/absolute/path or cmd:COMMAND")]
    NotAReference(String),
    #[error("the environment variable {0} that a secret refers to is not set")]
    Env(String),
    #[error("could not read the file {path} that a secret refers to: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the {0} that a secret refers to is not UTF-8 text")]
    NotText(&'static str),
    #[error("the {kind} that a secret refers to holds more than {limit} bytes")]
    Long { kind: &'static str, limit: u64 },
    #[error("could not run the command that a secret refers to: {0}")]
    Command(std::io::Error),
    #[error("the command that a secret refers to failed ({status}): {stderr}")]
    CommandFailed { status: String, stderr: String },
    #[error("the command that a secret refers to did not end within {} s", .0.as_secs())]
    CommandTimeout(Duration),
    #[error("the {0} that a secret refers to is empty")]
    Empty(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Problem {
        let message = error.to_string();
        match error {
            SecretError::Store(error) => error.into(),
            SecretError::NotAReference(_) | SecretError::TooLong { .. } => Problem::invalid(message),
            SecretError::Env(_)
            | SecretError::File { .. }
            | SecretError::NotText(_)
            | SecretError::Long { .. }
            | SecretError::Command(_)
            | SecretError::CommandFailed { .. }
            | SecretError::CommandTimeout(_)
            | SecretError::Empty(_)
            | SecretError::Unsealable { .. } => Problem::new(Code::AuthFailed, message),
            _ => Problem::internal(message),
        }
    }
}
