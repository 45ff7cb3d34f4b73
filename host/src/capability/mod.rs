//! The choke point: every command that reaches a server passes here, whoever asks for it.
//!
//! An alias is resolved once, the audit line is written, the deadline and the cancel token are obeyed.

mod command;
mod servers;

pub use command::{Argv, Captured, Finished, Line, OutputSink, Stream};
pub use servers::{ServerFacts, Servers};
