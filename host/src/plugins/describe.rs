//! What a plugin says about itself, in our own types and checked: the guest, the bundle and the cache file are all treated
//! as strangers. Not how it is asked: that is [`instance`](super::instance); not what it is granted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::bindings::exports::orchestrator::plugin::tools as wit;
use crate::config::check_http_scope;

/// A plugin has at most this many tools: each costs every client context on every turn.
pub const MAX_TOOLS: usize = 64;
const MAX_WANTS: usize = 256;
/// Words of one scope, and bytes of one word.
const MAX_SCOPE: usize = 64;
const MAX_WORD: usize = 1024;
/// Characters of a title, and of a description for the model.
const MAX_LINE: usize = 200;
const MAX_DESCRIPTION: usize = 4096;
/// Bytes of one schema.
const MAX_SCHEMA: usize = 64 << 10;

/// What a plugin is and has: the WIT record `plugin-info` with schemas as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginInfo {
    pub name: String,
    pub version: String,
    pub description: String,
    pub tools: Vec<ToolInfo>,
    #[serde(default)]
    pub wants: Vec<Want>,
    #[serde(default)]
    pub settings_schema: Option<Map<String, Value>>,
}

/// One tool as the MCP client sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolInfo {
    pub name: String,
    pub title: String,
    pub description: String,
    pub input_schema: Map<String, Value>,
    #[serde(default)]
    pub output_schema: Option<Map<String, Value>>,
    pub annotations: Annotations,
    pub execution: Execution,
    /// The argument that holds a server's alias; always a property of `input_schema`.
    #[serde(default)]
    pub server_argument: Option<String>,
}

/// MCP's `ToolAnnotations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotations {
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
}

/// How calls of a tool run.
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

/// What is wrong with a description. It names the tool or want, since its author must find it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    #[error("the plugin's name {0:?} does not match ^[a-z][a-z0-9-]{{0,31}}$")]
    PluginName(String),
    #[error("the version {0:?} is not a semantic version")]
    Version(String),
    #[error("it has no tools")]
    NoTools,
    #[error("it has {0} tools; at most {MAX_TOOLS} are allowed")]
    TooManyTools(usize),
    #[error("the tool name {0:?} does not match ^[a-zA-Z0-9_-]{{1,64}}$ without \"__\"")]
    ToolName(String),
    #[error("the tool {0} is described twice")]
    ToolTwice(String),
    #[error("the tool {0} has no description")]
    NoDescription(String),
    #[error("{schema} of {subject} {problem}")]
    Schema { subject: String, schema: &'static str, problem: String },
    #[error("the server argument {argument:?} of the tool {tool} is not a property of its input schema")]
    ServerArgument { tool: String, argument: String },
    #[error("it has {0} wants; at most {MAX_WANTS} are allowed")]
    TooManyWants(usize),
    #[error("its want number {number} {problem}")]
    Want { number: usize, problem: &'static str },
    #[error("it does not read as a description: {0}")]
    Json(String),
}

impl PluginInfo {
    /// A description from the bundle or the cache.
    pub fn from_json(json: &str) -> Result<Self, DescriptionError> {
        let info: PluginInfo = serde_json::from_str(json).map_err(|error| DescriptionError::Json(error.to_string()))?;
        info.checked()
    }

    /// A description from a guest. The number of tools is checked first, so that nothing is parsed for a hostile list.
    pub(super) fn from_guest(info: wit::PluginInfo) -> Result<Self, DescriptionError> {
        if info.tools.len() > MAX_TOOLS {
            return Err(DescriptionError::TooManyTools(info.tools.len()));
        }
        let tools = info.tools.into_iter().map(ToolInfo::from_guest).collect::<Result<_, _>>()?;
        let wants = info
            .wants
            .into_iter()
            .take(MAX_WANTS + 1)
            .map(|want| Want { capability: want.capability, scope: want.scope, reason: want.reason })
            .collect();
        let settings_schema =
            info.settings_schema.map(|text| parse_schema("the plugin", "the settings schema", &text)).transpose()?;
        PluginInfo {
            name: info.name,
            version: info.version,
            description: info.description,
            tools,
            wants,
            settings_schema,
        }
        .checked()
    }

    /// Refuses what would break a client or an operator's decision; shortens what is only too long.
    fn checked(mut self) -> Result<Self, DescriptionError> {
        if !is_plugin_name(&self.name) {
            return Err(DescriptionError::PluginName(clamp(&self.name, MAX_LINE)));
        }
        if !is_version(&self.version) {
            return Err(DescriptionError::Version(clamp(&self.version, MAX_LINE)));
        }
        if self.tools.is_empty() {
            return Err(DescriptionError::NoTools);
        }
        if self.tools.len() > MAX_TOOLS {
            return Err(DescriptionError::TooManyTools(self.tools.len()));
        }
        if self.wants.len() > MAX_WANTS {
            return Err(DescriptionError::TooManyWants(self.wants.len()));
        }
        self.description = one_line(&self.description);
        let mut seen = std::collections::BTreeSet::new();
        for tool in &mut self.tools {
            tool.check()?;
            if !seen.insert(tool.name.clone()) {
                return Err(DescriptionError::ToolTwice(tool.name.clone()));
            }
        }
        for (index, want) in self.wants.iter_mut().enumerate() {
            want.check().map_err(|problem| DescriptionError::Want { number: index + 1, problem })?;
        }
        if let Some(schema) = &self.settings_schema {
            check_schema("the plugin", "the settings schema", schema)?;
        }
        Ok(self)
    }
}

impl ToolInfo {
    fn from_guest(tool: wit::ToolSpec) -> Result<Self, DescriptionError> {
        // Before anything else, so that the name can stand in the errors below.
        if !is_tool_name(&tool.name) {
            return Err(DescriptionError::ToolName(clamp(&tool.name, MAX_LINE)));
        }
        let subject = format!("the tool {}", tool.name);
        let input_schema = parse_schema(&subject, "the input schema", &tool.input_schema)?;
        let output_schema =
            tool.output_schema.map(|text| parse_schema(&subject, "the output schema", &text)).transpose()?;
        Ok(ToolInfo {
            name: tool.name,
            title: tool.title,
            description: tool.description,
            input_schema,
            output_schema,
            annotations: Annotations {
                read_only: tool.annotations.read_only,
                destructive: tool.annotations.destructive,
                idempotent: tool.annotations.idempotent,
                open_world: tool.annotations.open_world,
            },
            execution: match tool.execution {
                wit::Execution::Job => Execution::Job,
                wit::Execution::Direct => Execution::Direct,
            },
            server_argument: tool.server_argument,
        })
    }

    fn check(&mut self) -> Result<(), DescriptionError> {
        if !is_tool_name(&self.name) {
            return Err(DescriptionError::ToolName(clamp(&self.name, MAX_LINE)));
        }
        let subject = format!("the tool {}", self.name);
        check_schema(&subject, "the input schema", &self.input_schema)?;
        if let Some(schema) = &self.output_schema {
            check_schema(&subject, "the output schema", schema)?;
        }
        if let Some(argument) = &self.server_argument {
            let properties = self.input_schema.get("properties").and_then(Value::as_object);
            if !properties.is_some_and(|properties| properties.contains_key(argument)) {
                return Err(DescriptionError::ServerArgument {
                    tool: self.name.clone(),
                    argument: clamp(argument, MAX_LINE),
                });
            }
        }
        self.title = one_line(&self.title);
        self.description = clamp(self.description.trim(), MAX_DESCRIPTION);
        if self.description.is_empty() {
            return Err(DescriptionError::NoDescription(self.name.clone()));
        }
        Ok(())
    }
}

impl Want {
    fn check(&mut self) -> Result<(), &'static str> {
        let capability = &self.capability;
        if capability.is_empty() || capability.len() > 32 || !capability.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err("names no capability");
        }
        if self.scope.is_empty() {
            return Err("has an empty scope");
        }
        if self.scope.len() > MAX_SCOPE || self.scope.iter().any(|word| word.len() > MAX_WORD) {
            return Err("has a scope that is too long");
        }
        if self.capability == "servers" && self.scope.len() != 1 {
            return Err("for servers must have a scope of exactly one pattern");
        }
        if self.capability == "http" {
            check_http_scope(&self.scope)?;
        }
        self.reason = one_line(&self.reason);
        Ok(())
    }
}

/// `^[a-z][a-z0-9-]{0,31}$`
pub fn is_plugin_name(name: &str) -> bool {
    name.len() <= 32
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `^[a-zA-Z0-9_-]{1,64}$` without `__`, which clients use to put a prefix before a name.
pub fn is_tool_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && !name.contains("__")
}

/// `MAJOR.MINOR.PATCH` with an optional pre-release or build part.
fn is_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    version.len() <= 64
        && core.split('.').count() == 3
        && core.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
}

fn schema_error(subject: &str, schema: &'static str, problem: impl Into<String>) -> DescriptionError {
    DescriptionError::Schema { subject: subject.to_owned(), schema, problem: problem.into() }
}

fn parse_schema(subject: &str, schema: &'static str, text: &str) -> Result<Map<String, Value>, DescriptionError> {
    if text.len() > MAX_SCHEMA {
        return Err(schema_error(subject, schema, format!("is longer than {MAX_SCHEMA} bytes")));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(schema_error(subject, schema, "is not a JSON object")),
        Err(error) => Err(schema_error(subject, schema, format!("is not JSON: {error}"))),
    }
}

/// MCP wants object schemas, and a client may drop the whole server over one that is not.
fn check_schema(subject: &str, schema: &'static str, map: &Map<String, Value>) -> Result<(), DescriptionError> {
    if map.get("type").and_then(Value::as_str) != Some("object") {
        return Err(schema_error(subject, schema, "does not have \"type\": \"object\""));
    }
    Ok(())
}

/// At most `limit` characters, without control characters except line breaks and tabs.
pub(super) fn clamp(text: &str, limit: usize) -> String {
    text.chars().filter(|char| !char.is_control() || matches!(char, '\n' | '\t')).take(limit).collect()
}

/// The text as one bounded line.
pub(super) fn one_line(text: &str) -> String {
    let bounded: String = text.chars().take(MAX_LINE * 4).collect();
    clamp(&bounded.split_whitespace().collect::<Vec<_>>().join(" "), MAX_LINE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A description that is accepted, with `change` made to its JSON.
    fn read(change: impl FnOnce(&mut Value)) -> Result<PluginInfo, DescriptionError> {
        let mut info = json!({
            "name": "logs", "version": "1.2.3", "description": "Reads logs.",
            "tools": [{
                "name": "tail_file", "title": "Tail", "description": "Last lines of a file.",
                "input_schema": {"type": "object", "properties": {"alias": {"type": "string"}}},
                "output_schema": null,
                "annotations": {"read_only": true, "destructive": false, "idempotent": true, "open_world": true},
                "execution": "job", "server_argument": "alias",
            }],
            "wants": [{"capability": "servers", "scope": ["*"], "reason": "Logs are everywhere."}],
            "settings_schema": null,
        });
        change(&mut info);
        PluginInfo::from_json(&info.to_string())
    }

    #[test]
    fn a_good_description_is_kept_as_it_is_and_survives_the_cache() {
        let info = read(|_| {}).unwrap();
        assert_eq!(info.tools[0].execution, Execution::Job);
        assert_eq!(PluginInfo::from_json(&serde_json::to_string(&info).unwrap()), Ok(info));
    }

    #[test]
    fn what_would_break_a_client_is_refused() {
        let check = |path: &str, value: Value, expected: &str| {
            let error = read(|info| *info.pointer_mut(path).unwrap() = value.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{path} = {value}: {error}");
        };
        for name in ["", "Logs", "1logs", "lo gs", "logs\n", "l_ogs", &"l".repeat(33)] {
            check("/name", json!(name), "^[a-z]");
        }
        for version in ["", "1", "1.2", "1.2.x", "1.2.3 ", "1..3", "1.2.3.4"] {
            check("/version", json!(version), "semantic version");
        }
        for name in ["", "tail file", "tail__file", "täil", "tail/file", &"t".repeat(65)] {
            check("/tools/0/name", json!(name), "^[a-zA-Z0-9_-]");
        }
        check("/tools", json!([]), "no tools");
        check("/tools/0/description", json!(" \n"), "no description");
        check("/tools/0/input_schema", json!({}), "\"type\": \"object\"");
        check("/tools/0/input_schema", json!({"type": "string"}), "input schema of the tool tail_file");
        check("/tools/0/output_schema", json!({"type": ["object"]}), "output schema of the tool tail_file");
        check("/tools/0/input_schema", json!("{}"), "does not read");
        check("/tools/0/server_argument", json!("server"), "server argument \"server\"");
        check("/settings_schema", json!({"type": "array"}), "settings schema of the plugin");
        check("/wants/0/scope", json!([]), "want number 1 has an empty scope");
        check("/wants/0/scope", json!(["a", "b"]), "exactly one pattern");
        check("/wants/0/scope", json!(["x".repeat(2000)]), "too long");
        check("/wants/0/capability", json!("Servers"), "names no capability");
    }

    #[test]
    fn too_many_tools_or_one_twice_are_refused() {
        let tools = |count: usize, name: fn(usize) -> String| {
            read(|info| {
                let tool = info["tools"][0].clone();
                let named = (0..count).map(|index| {
                    let mut tool = tool.clone();
                    tool["name"] = json!(name(index));
                    tool
                });
                info["tools"] = named.collect();
            })
        };
        assert_eq!(tools(MAX_TOOLS, |index| format!("tool_{index}")).unwrap().tools.len(), MAX_TOOLS);
        assert_eq!(
            tools(MAX_TOOLS + 1, |index| format!("tool_{index}")),
            Err(DescriptionError::TooManyTools(MAX_TOOLS + 1))
        );
        assert_eq!(tools(2, |_| "same".to_owned()), Err(DescriptionError::ToolTwice("same".to_owned())));
    }

    #[test]
    fn what_is_only_too_long_is_shortened() {
        let info = read(|info| {
            info["description"] = json!(format!("two\n lines {}", "x".repeat(1_000_000)));
            info["tools"][0]["description"] = json!(format!("a\u{1b}[31m\n{}", "ä".repeat(10_000)));
            info["tools"][0]["title"] = json!("a\tb\u{0}");
        })
        .unwrap();
        assert!(info.description.starts_with("two lines xxx") && info.description.chars().count() == MAX_LINE);
        assert!(info.tools[0].description.starts_with("a[31m\nää"));
        assert_eq!(info.tools[0].description.chars().count(), MAX_DESCRIPTION);
        assert_eq!(info.tools[0].title, "a b");
    }
}
