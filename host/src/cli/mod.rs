//! The command line: one file per verb.

use std::process::ExitCode;

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
