//! The wire: how a server is reached, who it proves to be, how we log in, and commands on it.
//!
//! Not which server an alias is, who may do what on it, and what is written down about it: that is above.

mod target;
mod error;
mod hint;
mod pool;
mod lease;
mod forwarded;
mod exec;
mod quota;
mod stop;
mod quote;
mod running;
mod session;
mod client;
mod tuning;
mod host_key;
mod host_cert;
mod known_hosts;
mod auth;
mod keyboard;
mod question;
mod answers;
mod key_file;
mod rsa;
mod algorithms;
mod tcp;
mod proxy;
mod bounds;

pub use answers::Standing;
pub use auth::Attempt;
pub use error::{Endpoint, SshError, Step, Stop};
pub use exec::{Exit, OutputSink, Request, Signal, Stream, exec};
pub use forwarded::Forwarded;
pub use host_key::{HostKeys, describe_line, fingerprint, remember};
pub use key_file::KeyFileError;
pub use lease::Lease;
pub use pool::{ConnectionStats, Pool, PoolSettings, Purpose, ServerStats};
pub use question::{Prompt, Question};
pub use quota::{Quota, Reached, Stopped};
pub use quote::{QuoteError, command_line, command_words};
pub use session::ServerKey;
pub use target::{Login, Target, Via};

#[cfg(test)]
mod tests;
