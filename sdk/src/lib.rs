//! What a plugin of mcp-orchestrator depends on: one trait, one macro, typed arguments, a mock host for unit tests.
//!
//! Not the contract itself: that is the WIT package in `wit/`, which says what each import means and when it blocks.
//!
//! - The arguments of a tool are a struct that derives `Deserialize` and `JsonSchema`; its doc comments become the
//!   descriptions that the model reads. A missing, unknown or wrong argument never reaches the tool.
//! - The answer is [`Output`]: a few lines for the model, and a struct that derives `Serialize` and `JsonSchema`. A member
//!   that is `None` is left out of the answer.
//! - A tool reaches the outside through [`Host`] only, so [`mock::Mock`] can stand in for it in a native unit test.
//! - [`export!`] makes the component on `wasm32`. On other targets it only checks the types, so that several plugins can be
//!   linked into one native program.
#![allow(clippy::test_attr_in_doctest, reason = "the guide shows a whole crate, and its test belongs to it")]
#![doc = "\n"]
#![doc = include_str!("../../docs/plugins.md")]

mod arguments;
mod command;
pub mod data;
mod host;
mod http;
mod info;
mod json;
pub mod mock;
mod output;
mod plugin;
mod problem;
mod process;
mod schema;
/// The bindings to the contract, for a plugin that needs what the SDK has no words for.
#[cfg(target_arch = "wasm32")]
pub mod wasm;

pub use command::{Command, Finished};
pub use host::{Host, Level, Server};
pub use http::{HeaderValue, HttpRequest, HttpResponse, Timings};
pub use info::{Annotations, Execution, PluginInfo, ToolSpec, Want};
pub use output::{Answer, Output};
pub use plugin::{Description, NoArguments, Plugin, Tool, call, describe};
pub use problem::Problem;
pub use process::{Lines, Printed, Process, Signal};
pub use {schemars, serde, serde_json};

/// Everything that a plugin names, for `use orchestrator_sdk::prelude::*`.
///
/// The module `schemars` is among it because the code that `derive(JsonSchema)` writes looks for it by that name; so a
/// plugin needs no dependency on schemars, only on serde.
pub mod prelude {
    pub use crate::{
        Command, Description, Finished, Host, HttpRequest, HttpResponse, Level, NoArguments, Output, Plugin, Problem,
        Server, Tool, export,
    };
    pub use schemars::{self, JsonSchema};
    pub use serde::{Deserialize, Serialize};
}

/// Exports a [`Plugin`] as the component that this crate is. Once per crate; nothing but a type check on native targets.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::wasm::Exported<$plugin>;
    $crate::wasm::bindings::export!(Component with_types_in $crate::wasm::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::Description = <$plugin as $crate::Plugin>::describe;
    };
}
