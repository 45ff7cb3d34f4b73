//! The daemon: one process that owns a data directory and serves every client of it, and the bridges that lead there.
//!
//! An MCP client starts a bridge. It finds the daemon behind the socket in the data directory, or starts one, and from then
//! on copies bytes. What the daemon serves is built elsewhere; MCP is not spoken here.

mod error;
mod protocol;
mod identity;
mod socket;
mod lock;
mod link;
mod start;
mod attach;
mod bridge;
mod detach;
mod lobby;
mod serve;

pub use attach::{Session, attach};
pub use bridge::bridge;
pub use detach::{detach, leave_terminal};
pub use error::DaemonError;
pub use identity::Identity;
pub use link::Link;
pub use lock::Lock;
pub use protocol::{Reply, Status};
pub use serve::{Listener, serve};
