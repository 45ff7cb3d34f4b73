//! The wire: how a server is reached, who it proves to be, how we log in, and commands on it.
//!
//! Not which server an alias is, who may do what on it, and what is written down about it: that is above.

mod target;
mod error;
mod pool;
mod lease;
mod exec;
mod quota;
mod stop;
mod quote;
mod session;
mod host_key;
mod known_hosts;
mod auth;
mod key_file;
mod tcp;
mod bounds;

pub use auth::Attempt;
pub use error::{Endpoint, SshError, Step, Stop};
pub use exec::{Exit, OutputSink, Request, Stream, exec};
pub use host_key::{HostKeys, fingerprint};
pub use key_file::KeyFileError;
pub use lease::Lease;
pub use pool::{ConnectionStats, Pool, PoolSettings, Purpose, ServerStats};
pub use quota::{Quota, Reached, Stopped};
pub use quote::{QuoteError, command_line};
pub use session::{CONNECT_LIMIT, ServerKey};
pub use target::{Login, Target};

#[cfg(test)]
mod tests;
