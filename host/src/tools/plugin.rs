//! The plugins' tools, as tools like any other.

use std::sync::Arc;

use futures::FutureExt;
use serde_json::{Map, Value};

use super::{Annotations, Core, Execution, JobWork, Origin, Tool, ToolSpec, Work, schema};
use crate::error::Problem;
use crate::plugins::{self, Plugin, Plugins, Source, ToolInfo};

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    core.plugins
        .tools()
        .map(|(plugin, tool)| -> Box<dyn Tool> { Box::new(PluginTool::new(core, plugin, tool)) })
        .collect()
}

struct PluginTool {
    plugins: Arc<Plugins>,
    plugin: String,
    server_argument: Option<String>,
    /// So it says, and it is one of ours.
    only_reads: bool,
    spec: ToolSpec,
}

impl PluginTool {
    fn new(core: &Core, plugin: &Plugin, tool: &ToolInfo) -> Self {
        let execution = match tool.execution {
            plugins::Execution::Job => Execution::Job,
            plugins::Execution::Direct => Execution::Direct,
        };
        let hints = tool.annotations;
        let spec = ToolSpec {
            name: tool.name.clone(),
            title: tool.title.clone(),
            description: tool.description.clone(),
            input_schema: schema::advertised_input(tool.input_schema.clone()),
            output_schema: tool.output_schema.clone().map(schema::advertised_output),
            annotations: Annotations {
                read_only: hints.read_only,
                destructive: hints.destructive,
                idempotent: hints.idempotent,
                open_world: hints.open_world,
            },
            execution,
            origin: Origin::Plugin { name: plugin.name.clone(), version: plugin.version.clone() },
        };
        PluginTool {
            plugins: Arc::clone(&core.plugins),
            plugin: plugin.name.clone(),
            server_argument: tool.server_argument.clone(),
            only_reads: hints.read_only && plugin.source == Source::Bundled,
            spec,
        }
    }
}

impl Tool for PluginTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn prepare(&self, arguments: Map<String, Value>) -> Result<Work, Problem> {
        let server = self
            .server_argument
            .as_ref()
            .and_then(|name| arguments.get(name))
            .and_then(Value::as_str)
            .map(str::to_owned);
        let recorded = arguments.clone();
        let plugins = Arc::clone(&self.plugins);
        let (plugin, tool) = (self.plugin.clone(), self.spec.name.clone());
        let run = move |call| async move { plugins.call(&plugin, &tool, arguments, call).await }.boxed();
        Ok(match self.spec.execution {
            Execution::Direct => Work::Direct(Box::new(run)),
            Execution::Job => Work::Job(JobWork {
                arguments: recorded,
                server,
                servers: Vec::new(),
                rappel: None,
                idempotency_key: None,
                detach: false,
                withheld: false,
                only_reads: self.only_reads,
                run: Box::new(move |call, _spool| run(call)),
            }),
        })
    }
}
