//! `help`: generated from the registry, so that it names every tool there is, the plugins' included.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::typed::{Direct, signature};
use super::{Annotations, Core, Execution, Origin, Tool, ToolSpec};
use crate::call::Reply;
use crate::error::Problem;

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![help(core)]
}

#[derive(Deserialize, JsonSchema)]
struct HelpArguments {
    /// Only this tool, in full.
    tool: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct HelpResult {
    tools: Vec<HelpEntry>,
}

#[derive(Serialize, JsonSchema)]
struct HelpEntry {
    name: String,
    title: String,
    /// core, or the plugin's name and version.
    origin: String,
    arguments: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<Map<String, Value>>,
}

impl HelpEntry {
    fn new(spec: &ToolSpec, full: bool) -> Self {
        HelpEntry {
            name: spec.name.clone(),
            title: spec.title.clone(),
            origin: spec.origin.to_string(),
            arguments: signature(spec),
            description: full.then(|| spec.description.clone()),
            input_schema: full.then(|| spec.input_schema.clone()),
        }
    }
}

fn help(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<HelpArguments, HelpResult>(
            "help",
            "What the tools do",
            "Lists all tools with their arguments, or explains one.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: HelpArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                match arguments.tool {
                    None => overview(&core),
                    Some(name) => explain(&core, &name),
                }
            }
        },
    )
}

fn overview(core: &Core) -> Result<Reply, Problem> {
    let registry = core.registry()?;
    let mut text = String::from(
        "Add a server with server_add, look at it with server_list, run commands on it with task_exec.\n\
         A call that takes long comes back with a job's id: task_wait waits for its end.\n",
    );
    let tools: Vec<HelpEntry> = registry.specs().map(|spec| HelpEntry::new(spec, false)).collect();
    for spec in registry.specs() {
        let origin = match &spec.origin {
            Origin::Core => String::new(),
            Origin::Plugin { name, .. } => format!(" [{name}]"),
        };
        text.push_str(&format!("\n{} ({}) {}{origin}", spec.name, signature(spec), spec.title));
    }
    Ok(Reply::new(text, &HelpResult { tools }))
}

fn explain(core: &Core, name: &str) -> Result<Reply, Problem> {
    let registry = core.registry()?;
    let Some(spec) = registry.spec(name) else { return Err(registry.unknown(name)) };
    let mut text = format!("{}: {}\n{}\n", spec.name, spec.title, spec.description);
    let required = spec.input_schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(Value::Object(properties)) = spec.input_schema.get("properties") {
        for (argument, schema) in properties {
            let optional = if required.contains(&Value::from(argument.as_str())) { "" } else { ", optional" };
            let kind = schema.get("type").and_then(Value::as_str).unwrap_or("any");
            let described = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            text.push_str(&format!("\n{argument} ({kind}{optional}) {described}"));
        }
    }
    text.push_str(&format!("\n\nFrom: {}", spec.origin));
    Ok(Reply::new(text, &HelpResult { tools: vec![HelpEntry::new(spec, true)] }))
}
