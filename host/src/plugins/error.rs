//! Why a plugin could not be loaded, or a call of it ended badly, by step and subject.
//! Not the caller's vocabulary: a call's error becomes a [`Problem`](crate::error::Problem) where it leaves the sandbox.

use std::path::PathBuf;
use std::time::Duration;

/// Why there is no sandbox at all.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("could not start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("could not define the interface {interface} for plugins: {reason}")]
    Interface { interface: &'static str, reason: String },
    #[error("could not start the thread that interrupts plugins: {0}")]
    Ticker(#[source] std::io::Error),
}

/// Why one plugin is not there. It is shown in `plugin_list`, so each says what to do about it or what is the matter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    #[error("could not read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("the file is {size} bytes; a plugin may have at most {limit}")]
    TooLarge { size: u64, limit: u64 },
    #[error("{} changed on disk after it was loaded; restart to load the new one", path.display())]
    Changed { path: PathBuf },
    #[error("not a WebAssembly component: the file {0}")]
    NotWasm(&'static str),
    #[error(
        "a core WebAssembly module, not a component: build it for the target wasm32-wasip2, or wrap it with \
         `wasm-tools component new`"
    )]
    CoreModule,
    #[error("a component, but not a plugin: it does not export orchestrator:plugin/tools")]
    NotAPlugin,
    #[error("it wants the contract {wants}, this host has {have}: {advice}")]
    Contract { wants: String, have: &'static str, advice: &'static str },
    #[error("it imports {0}, which this host does not offer")]
    UnknownImport(String),
    #[error("it does not fit the contract: {0}")]
    Misfit(String),
    #[error("it could not be compiled: {0}")]
    Compile(String),
    #[error("describe() failed: {0}")]
    Describe(String),
    #[error("it was not ready within {} s; its compilation goes on, and the next start finds it done", .0.as_secs())]
    TooSlow(Duration),
    #[error("its description is refused: {0}")]
    Description(#[from] super::describe::DescriptionError),
    #[error("a plugin named {name} is already loaded from {from}; remove one of the two")]
    NameTaken { name: String, from: String },
    #[error("its tool {tool} has the name of a tool of {owner}; rename one of the two")]
    ToolTaken { tool: String, owner: String },
}

/// How a running guest was ended by the host. Raised as a trap, so that the guest's code does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("it computed for longer than allowed")]
    Compute,
    #[error("its call was cancelled")]
    Cancelled,
}
