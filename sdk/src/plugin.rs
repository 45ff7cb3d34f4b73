//! A plugin as its author writes it: a description with its tools, each a function with typed arguments and answer.
//!
//! How schemas are derived and arguments are checked is said in `schema` and `arguments`.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::info::{Annotations, Execution, PluginInfo, ToolSpec, Want};
use crate::output::{Answer, Written};
use crate::{Host, Output, Problem, arguments, schema};

/// A plugin. The type itself holds nothing: each call gets a fresh instance.
pub trait Plugin {
    /// What the plugin is, has and wants. It must be pure.
    fn describe() -> Description;
}

/// The arguments of a tool that takes none.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub struct NoArguments {}

/// What a plugin is, the tools that it has and the capabilities that it wants.
pub struct Description {
    name: &'static str,
    version: &'static str,
    description: &'static str,
    tools: Vec<Tool>,
    wants: Vec<Want>,
    settings: Option<fn() -> Value>,
}

impl Description {
    /// `name` matches `^[a-z][a-z0-9-]{0,31}$`; `version` is usually `env!("CARGO_PKG_VERSION")`; `description` is one
    /// sentence for the operator.
    pub fn new(name: &'static str, version: &'static str, description: &'static str) -> Self {
        Description { name, version, description, tools: Vec::new(), wants: Vec::new(), settings: None }
    }

    /// Adds a tool.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Wants the servers that `pattern` names: an alias, a glob or `tag:NAME`. `reason` is shown to the operator.
    pub fn wants_servers(self, pattern: &str, reason: &str) -> Self {
        self.wants("servers", &[pattern], reason)
    }

    /// Wants to run a command line. A last `*` stands for any further arguments; without it the whole line must match.
    pub fn wants_exec(self, line: &[&str], reason: &str) -> Self {
        self.wants("exec", line, reason)
    }

    /// The same through `sudo -n`.
    pub fn wants_sudo(self, line: &[&str], reason: &str) -> Self {
        self.wants("sudo", line, reason)
    }

    /// Wants to send requests: a method or `*`; a host, a glob or either with `:PORT`; then each of `private`, `loopback` and
    /// `link-local` that is to be reached beside public addresses.
    pub fn wants_http(self, scope: &[&str], reason: &str) -> Self {
        self.wants("http", scope, reason)
    }

    /// Wants any capability of the contract.
    pub fn wants(mut self, capability: &str, scope: &[&str], reason: &str) -> Self {
        self.wants.push(Want {
            capability: capability.to_owned(),
            scope: scope.iter().map(|&word| word.to_owned()).collect(),
            reason: reason.to_owned(),
        });
        self
    }

    /// Says which settings the operator can make.
    pub fn settings<T: DeserializeOwned + JsonSchema>(mut self) -> Self {
        self.settings = Some(schema::input::<T>);
        self
    }

    /// Everything that the host learns, schemas included.
    pub fn info(&self) -> PluginInfo {
        PluginInfo {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            description: self.description.to_owned(),
            tools: self.tools.iter().map(Tool::spec).collect(),
            wants: self.wants.clone(),
            settings_schema: self.settings.map(|schema| schema()),
        }
    }
}

type Run = dyn Fn(&dyn Host, Value) -> Result<Written, Problem>;

/// One tool: a function and what the client is told about it.
///
/// Unless said otherwise it runs as a durable job, may change things, and talks to servers.
pub struct Tool {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    input: fn() -> Value,
    output: fn() -> Option<Value>,
    annotations: Annotations,
    execution: Execution,
    server_argument: Option<&'static str>,
    run: Box<Run>,
}

impl Tool {
    /// `name` matches `^[a-zA-Z0-9_-]{1,64}$` without `__`; `title` is one line for people; `description` tells the model
    /// what the tool does, when to use it and when not.
    pub fn new<A, R>(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        run: impl Fn(&dyn Host, A) -> Result<Output<R>, Problem> + 'static,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema,
        R: Serialize + JsonSchema,
    {
        Tool {
            name,
            title,
            description,
            input: schema::input::<A>,
            output: schema::output::<R>,
            annotations: Annotations { read_only: false, destructive: true, idempotent: false, open_world: true },
            execution: Execution::Job,
            server_argument: None,
            run: Box::new(move |host, value| run(host, arguments::read::<A>(value)?)?.write()),
        }
    }

    /// It changes nothing.
    pub fn read_only(mut self) -> Self {
        self.annotations.read_only = true;
        self.annotations.destructive = false;
        self.annotations.idempotent = true;
        self
    }

    /// It changes things, but destroys and overwrites nothing.
    pub fn additive(mut self) -> Self {
        self.annotations.destructive = false;
        self
    }

    /// Calling it again with the same arguments changes nothing more.
    pub fn idempotent(mut self) -> Self {
        self.annotations.idempotent = true;
        self
    }

    /// It reaches nothing outside of the orchestrator.
    pub fn closed_world(mut self) -> Self {
        self.annotations.open_world = false;
        self
    }

    /// It is answered directly, without a record: right for what reaches no server.
    pub fn direct(mut self) -> Self {
        self.execution = Execution::Direct;
        self
    }

    /// The argument that holds the server's alias.
    pub fn server_argument(mut self, argument: &'static str) -> Self {
        self.server_argument = Some(argument);
        self
    }

    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            input_schema: (self.input)(),
            output_schema: (self.output)(),
            annotations: self.annotations,
            execution: self.execution,
            server_argument: self.server_argument.map(str::to_owned),
        }
    }
}

/// What the plugin `P` tells the host. Works natively: the build reads the descriptions of bundled plugins with it.
pub fn describe<P: Plugin>() -> PluginInfo {
    P::describe().info()
}

/// Calls a tool of the plugin `P`, with arguments that nobody has checked yet.
pub fn call<P: Plugin>(host: &dyn Host, tool: &str, arguments: Value) -> Result<Answer, Problem> {
    written::<P>(host, tool, arguments)?.read()
}

/// The same, with the answer as it goes to the host.
pub(crate) fn written<P: Plugin>(host: &dyn Host, tool: &str, arguments: Value) -> Result<Written, Problem> {
    let description = P::describe();
    let Some(tool) = description.tools.iter().find(|candidate| candidate.name == tool) else {
        let names: Vec<&str> = description.tools.iter().map(|tool| tool.name).collect();
        let message = format!("the plugin {} has no tool {tool:?}; it has {}", description.name, names.join(", "));
        return Err(Problem::invalid(message));
    };
    let arguments = if arguments.is_null() { Value::Object(Map::new()) } else { arguments };
    (tool.run)(host, arguments)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mock::Mock;

    struct Sample;

    impl Plugin for Sample {
        fn describe() -> Description {
            Description::new("sample", "1.2.3", "A sample.")
                .tool(Tool::new("count", "Count", "Counts servers.", count).read_only().direct())
                .tool(Tool::new("touch", "Touch", "Does nothing.", |_, _: NoArguments| Ok(Output::text("done"))))
                .wants_exec(&["df", "*"], "To look.")
        }
    }

    fn count(host: &dyn Host, _: NoArguments) -> Result<Output<Value>, Problem> {
        let count = host.servers().len();
        Ok(Output::new(format!("{count} servers"), json!({"count": count})))
    }

    #[test]
    fn a_description_is_written_as_the_contract_names_it() {
        let written = serde_json::to_value(describe::<Sample>()).unwrap();
        let tool = |index: usize| &written["tools"][index];
        assert_eq!(written["wants"], json!([{"capability": "exec", "scope": ["df", "*"], "reason": "To look."}]));
        assert_eq!((&written["settings_schema"], &tool(1)["output_schema"]), (&Value::Null, &Value::Null));
        assert_eq!((&tool(0)["execution"], &tool(1)["execution"]), (&json!("direct"), &json!("job")));
        assert_eq!(
            tool(0)["annotations"],
            json!({"read_only": true, "destructive": false, "idempotent": true, "open_world": true})
        );
        assert_eq!(tool(1)["annotations"]["destructive"], true);
        assert_eq!(serde_json::from_value::<PluginInfo>(written).unwrap(), describe::<Sample>());
    }

    #[test]
    fn a_call_reaches_its_tool_or_says_which_there_are() {
        let host = Mock::new().server("a", &[]).server("b", &[]);
        assert_eq!(host.call::<Sample>("count", json!({})).unwrap().structured, Some(json!({"count": 2})));
        let message = |tool, arguments| host.call::<Sample>(tool, arguments).unwrap_err().message;
        assert_eq!(message("cuont", json!({})), "the plugin sample has no tool \"cuont\"; it has count, touch");
        assert_eq!(message("touch", json!({"x": 1})), "the argument `x` is unknown; accepted are: none");
    }
}
