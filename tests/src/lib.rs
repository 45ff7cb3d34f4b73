//! The harness of the end-to-end tests, the demo and the bench: everything that stands around the program under test.
//!
//! It drives the *binary* over stdio as a client does and knows none of its types.

/// A temporary home and data directory: the whole machine that the program sees.
pub mod place;
/// The daemon behind a data directory.
pub mod daemon;
/// Key pairs made by `ssh-keygen`.
pub mod keys;
/// An ssh-agent with a key of a security device, made in software.
pub mod device;
/// A real OpenSSH server per test.
pub mod sshd;
/// An SSH server inside this process, which can be told to misbehave.
pub mod embedded;
/// The real hosts of `cargo xtask lab`.
pub mod lab;
/// MCP clients as people have them.
pub mod clients;
/// The Node project that this one replaces.
pub mod seed;
/// A TCP proxy that delays what it passes on.
pub mod far;
/// An HTTP server inside this process, with certificates of every kind.
pub mod web;
/// An MCP client that looks at every byte.
pub mod client;
/// What a result of a tool call is, and whether it is what the tool promised.
pub mod result;
/// What plugins call things, and in which units.
pub mod units;
/// What was handed in and what became of it, across the program's death.
pub mod ledger;
/// The measurements behind `cargo xtask bench`.
pub mod bench;
/// Waiting for something to become true, with an end.
pub mod wait;
