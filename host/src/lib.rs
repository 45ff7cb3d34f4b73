//! The program behind `mcp-orchestrator`, module by module, top to bottom.
//!
//! A module imports only from modules listed below it. `cli/program.rs` is the composition root: it builds the parts from the
//! bottom up and hands each one what it needs; nothing here is global.

/// One file per verb of the command line.
pub mod cli;
/// One process for all clients of a data directory, and the bridges to it.
pub mod daemon;
/// The face: the only place that knows MCP's wire types.
pub mod mcp;
/// The verbs: what a tool is, which there are, one file per family of the core.
pub mod tools;
/// The sandbox: the only place that knows wasmtime.
pub mod plugins;
/// The memory: jobs, their states, their history, their output.
pub mod jobs;
/// The choke point: servers as the rest of the program sees them.
pub mod capability;
/// A form in a browser on this machine, for what must not pass through an MCP client.
pub mod page;
/// The other wire: HTTP requests over any stream, and TLS below them.
pub mod http;
/// Files from one place to another, over SFTP.
pub mod sftp;
/// The wire: sessions, logins, host keys, the pool.
pub mod ssh;
/// TCP on this machine: names, addresses, connections.
pub mod net;
/// Our own log: to standard error, and to a file that `task_logs` reads.
pub mod logs;
/// What was done to whom on whose behalf, a line each.
pub mod audit;
/// The servers that are known.
pub mod inventory;
/// Secrets at rest and by reference.
pub mod secrets;
/// The database file: open, schema version, one writer that groups commits.
pub mod store;
/// The operator's settings.
pub mod config;
/// What every layer knows about the call it serves.
pub mod call;
/// The error vocabulary of the caller.
pub mod error;
/// Places at which a test lets a debug build die.
pub mod failpoint;
