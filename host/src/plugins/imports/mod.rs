//! The only way from a guest to the world: one file per interface of the contract, and the standard streams of WASI.
//! Each asks the grants before anything else and trusts no value that it is given.

pub mod http;
pub mod kv;
pub mod log;
pub mod process;
pub mod progress;
pub mod secrets;
pub mod servers;
pub mod settings;
pub mod ssh;
pub mod stdio;

use serde_json::Value;

use super::bindings::orchestrator::plugin::types;
use crate::error::Problem;

impl From<Problem> for types::Problem {
    fn from(problem: Problem) -> Self {
        types::Problem {
            code: problem.code.as_str().to_owned(),
            message: problem.message,
            hint: problem.hint,
            details: (!problem.details.is_empty()).then(|| Value::Object(problem.details).to_string()),
            retryable: problem.retryable,
        }
    }
}
