//! The verbs: what a tool is, and every tool of the core, one file per family.
//!
//! A core tool and a plugin's tool are the same thing here: a description and a way to prepare a call.
//! Nothing in this folder knows how MCP writes any of it.

mod spec;
mod schema;
mod typed;
mod one_or_more;
mod registry;
mod hybrid;
mod core;
mod servers;
mod exec;
mod transfer;
mod queue;
mod history;
mod diagnostics;
mod help;
mod plugin;

pub use core::Core;
pub use exec::reattach;
pub use registry::{Answer, Registry, Request};
pub use spec::{Annotations, Execution, Origin, ToolSpec};

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::call::{Call, Reply};
use crate::error::Problem;
use crate::jobs::Spool;

/// Something that a client can call.
pub trait Tool: Send + Sync {
    fn spec(&self) -> &ToolSpec;

    /// Checks the arguments and says what is to be done. Nothing has happened yet when it returns, and a wrong argument
    /// fails here, before a job exists.
    fn prepare(&self, arguments: Map<String, Value>) -> Result<Work, Problem>;
}

/// What a call is doing until it answers.
pub type Answering = BoxFuture<'static, Result<Reply, Problem>>;

/// A checked call.
pub enum Work {
    /// Answered at once, without a record.
    Direct(Box<dyn FnOnce(Call) -> Answering + Send>),
    /// Recorded before it has an effect, and when it ends.
    Job(JobWork),
}

/// What a job needs beside its tool and its arguments.
pub struct JobWork {
    /// The arguments as they are kept with the job.
    pub arguments: Map<String, Value>,
    /// The server that it is about, for history and statistics.
    pub server: Option<String>,
    /// Where it is about several: the words that name them, as `Servers::select` reads them: all must be known before there is a job.
    pub servers: Vec<String>,
    /// After how many seconds every look at the running job carries a reminder.
    pub rappel: Option<u64>,
    /// A second call with the same key gets the first one's job instead of running again.
    pub idempotency_key: Option<String>,
    /// It is to run on its server by itself.
    pub detach: bool,
    /// The arguments that are kept hold something back, so that the same call cannot be prepared from them again.
    pub withheld: bool,
    /// It changes nothing anywhere, on the word of the program itself: then nothing need be on disk before it begins.
    pub only_reads: bool,
    pub run: Box<dyn FnOnce(Call, Spool) -> Answering + Send>,
}
