//! A guest whose input schema is no JSON: the host must refuse the plugin as a whole.
//!
//! The SDK cannot express that, so this one is written against the bindings and exists on wasm32 only.
#![cfg(target_arch = "wasm32")]

use bindings::exports::orchestrator::plugin::tools::{Annotations, Execution, Guest, Output, PluginInfo, ToolSpec};
use bindings::orchestrator::plugin::types::Problem;
use orchestrator_sdk::wasm::bindings;

struct Garbage;

impl Guest for Garbage {
    fn describe() -> PluginInfo {
        PluginInfo {
            name: "garbage-schema".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "Has a schema that is no JSON.".to_owned(),
            tools: vec![ToolSpec {
                name: "guest_garbage".to_owned(),
                title: "Garbage".to_owned(),
                description: "Its input schema is no JSON.".to_owned(),
                input_schema: "{\"type\": \"object\"".to_owned(),
                output_schema: None,
                annotations: Annotations { read_only: true, destructive: false, idempotent: true, open_world: false },
                execution: Execution::Direct,
                server_argument: None,
            }],
            wants: Vec::new(),
            settings_schema: None,
        }
    }

    fn call(_: String, _: String) -> Result<Output, Problem> {
        Ok(Output { text: "not reached".to_owned(), structured: None, is_error: false })
    }
}

bindings::export!(Garbage with_types_in bindings);
