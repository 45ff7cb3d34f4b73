//! What the logs of a server say: files, containers, PM2 apps, the journal.
//!
//! Each source has a module with its tool. What all of them share is here and in `shown`: whatever a log holds is data, so it
//! is escaped, bounded and put between two lines that it cannot imitate. Nothing is changed on a server, and no call is left
//! running there.

mod docker;
mod file;
mod follow;
mod journal;
mod learned;
mod pm2;
mod shown;
mod time;

use orchestrator_sdk::Finished;
use orchestrator_sdk::prelude::*;

/// The plugin.
pub struct Logs;

impl Plugin for Logs {
    fn describe() -> Description {
        let description = Description::new("logs", env!("CARGO_PKG_VERSION"), "What the logs of a server say.")
            .wants_servers("*", "Logs can be read on any server.");
        let description = file::describe(description);
        let description = docker::describe(description);
        let description = pm2::describe(description);
        journal::describe(description)
    }
}

export!(Logs);

/// A log that answers no sooner than this is not waited for.
const SECONDS: u64 = 30;
/// More lines than this have no room in an answer, whatever they hold.
const MAX_LINES: u32 = 5000;

/// The log cannot be had. `reason` tells a program which of the usual causes it is.
fn refusal(alias: &str, reason: &str, message: String) -> Problem {
    Problem::failed(message).detail("alias", alias).detail("reason", reason)
}

/// An argument that cannot be.
fn wrong(argument: &str, message: String) -> Problem {
    Problem::invalid(message).detail("argument", argument)
}

/// Whether only this command could not run, as opposed to the connection.
fn is_withheld(problem: &Problem) -> bool {
    ["NOT_GRANTED", "POLICY_DENIED"].contains(&problem.code.as_str())
}

/// How a command ended. Its first words may be a line of the log, when it failed halfway.
fn ending(finished: &Finished) -> String {
    shown::safe(&finished.ending())
}

/// `1 line`, `2 lines`.
fn count(number: usize, noun: &str) -> String {
    match (number, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "entry") => format!("{number} entries"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests;
