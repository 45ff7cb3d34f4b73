//! The sandbox: plugins as WebAssembly components, and the only place that knows wasmtime.
//!
//! [`Plugins::load`] finds out which plugins there are without compiling the known ones; [`Plugins::call`] runs one tool
//! in a fresh instance that is bounded in time, memory and rights. Not here: what a tool call is to a client, and jobs.

mod bindings;
mod bundle;
mod call;
mod describe;
mod engine;
mod error;
mod grants;
mod http_grants;
mod imports;
mod instance;
mod kept;
mod registry;
mod sandbox;
mod source;
mod status;
mod ticker;

pub use bindings::CONTRACT;
pub use bundle::{Bundled, bundled};
pub use describe::{Annotations, DescriptionError, Execution, PluginInfo, ToolInfo, Want};
pub use error::{LoadError, SandboxError};
pub use grants::Grants;
pub use kept::Kept;
pub use registry::{Plugin, Plugins, Setup, State};
pub use source::Source;
pub use status::{LastError, PluginStatus};

/// An error of wasmtime as one bounded line: its causes from the outside in, without the guest's addresses.
fn one_line_of(error: &wasmtime::Error) -> String {
    let causes = error.chain().map(ToString::to_string).filter(|cause| !cause.starts_with("error while executing at"));
    describe::one_line(&causes.collect::<Vec<_>>().join(": "))
}

#[cfg(test)]
mod tests;
