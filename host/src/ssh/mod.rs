//! The wire: how a server is reached, who it proves to be, how we log in, and commands on it.

mod error;
mod target;

pub use error::{SshError, Step};
pub use target::{Login, Target};
