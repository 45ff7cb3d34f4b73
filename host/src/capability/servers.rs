//! Servers as the rest of the program sees them.

use crate::call::Call;
use crate::error::{Code, Problem};

use super::{Argv, Captured};

/// What may be told about a server to anybody: never a credential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerFacts {
    pub alias: String,
    /// Sorted.
    pub tags: Vec<String>,
    pub description: Option<String>,
}

/// The servers that are known, and commands on them.
#[derive(Clone, Default)]
pub struct Servers {}

impl Servers {
    /// Every server, sorted by alias.
    pub fn list(&self) -> Vec<ServerFacts> {
        Vec::new()
    }

    /// One server, or `SERVER_NOT_FOUND` with the nearest known alias in the hint.
    pub fn describe(&self, alias: &str) -> Result<ServerFacts, Problem> {
        Err(Problem::new(Code::ServerNotFound, format!("there is no server {alias:?}")))
    }

    /// Runs one command and keeps at most `limit` bytes of each stream.
    pub async fn capture(&self, _call: &Call, alias: &str, _argv: Argv, _limit: usize) -> Result<Captured, Problem> {
        self.describe(alias)?;
        Err(Problem::new(Code::ConnectionFailed, "no connection"))
    }
}
