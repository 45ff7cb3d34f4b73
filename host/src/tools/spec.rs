//! The description of a tool, as clients, operators and `help` need it.

use schemars::JsonSchema;
use serde_json::{Map, Value};

use super::schema;

/// One tool.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    pub name: String,
    /// One line for people.
    pub title: String,
    /// For the model: what it does, when to use it and when not.
    pub description: String,
    pub input_schema: Map<String, Value>,
    pub output_schema: Option<Map<String, Value>>,
    pub annotations: Annotations,
    pub execution: Execution,
    pub origin: Origin,
}

/// MCP's hints. All four are always given: a client that has to guess guesses "destructive".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotations {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

impl Annotations {
    /// Looks at our own state only.
    pub const LOOKS: Annotations =
        Annotations { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Changes our own state, repeatably.
    pub const RECORDS: Annotations =
        Annotations { read_only: false, destructive: false, idempotent: true, open_world: false };
    /// Takes something of ours away.
    pub const REMOVES: Annotations =
        Annotations { read_only: false, destructive: true, idempotent: true, open_world: false };
    /// May do anything to a server.
    pub const ACTS: Annotations =
        Annotations { read_only: false, destructive: true, idempotent: false, open_world: true };
}

/// How a call is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// As a durable job.
    Job,
    /// At once, without a record.
    Direct,
}

/// Whose tool it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Core,
    Plugin { name: String, version: String },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Core => f.write_str("core"),
            Origin::Plugin { name, version } => write!(f, "{name} {version}"),
        }
    }
}

impl ToolSpec {
    /// A core tool that takes an `A` and answers an `O`.
    pub fn core<A: JsonSchema, O: JsonSchema>(
        name: &str,
        title: &str,
        description: &str,
        execution: Execution,
        annotations: Annotations,
    ) -> Self {
        ToolSpec {
            name: name.to_owned(),
            title: title.to_owned(),
            description: description.to_owned(),
            input_schema: schema::input::<A>(),
            output_schema: Some(schema::output::<O>()),
            annotations,
            execution,
            origin: Origin::Core,
        }
    }
}
