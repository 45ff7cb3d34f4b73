//! What a plugin says about itself: the contract's record `plugin-info`, with the schemas as JSON values.
//!
//! Serialized, it is what the build writes beside each bundled component, so that a first `tools/list` needs no
//! compilation. How it is built from a plugin's code is the business of `plugin`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a plugin is and has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    pub name: String,
    pub version: String,
    pub description: String,
    pub tools: Vec<ToolSpec>,
    pub wants: Vec<Want>,
    pub settings_schema: Option<Value>,
}

/// One tool as the client sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    pub name: String,
    pub title: String,
    pub description: String,
    pub input_schema: Value,
    pub output_schema: Option<Value>,
    pub annotations: Annotations,
    pub execution: Execution,
    pub server_argument: Option<String>,
}

/// Hints for the client, with the meaning of MCP's `ToolAnnotations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

/// How the host runs calls of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    /// As a durable job.
    Job,
    /// Answered directly, without a record.
    Direct,
}

/// A capability that the plugin wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub capability: String,
    pub scope: Vec<String>,
    pub reason: String,
}
