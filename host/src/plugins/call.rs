//! One call of a plugin's tool, from the arguments to a reply or a problem with the plugin's name and version in it.

use std::sync::PoisonError;

use serde_json::{Map, Value};
use tokio::time::sleep_until;

use super::bindings::PluginPre;
use super::bindings::exports::orchestrator::plugin::tools::Output;
use super::bindings::orchestrator::plugin::types;
use super::describe::{ToolInfo, clamp, one_line};
use super::error::LoadError;
use super::instance::{Capabilities, Failure, Guest};
use super::registry::{Plugin, Plugins, State};
use super::status::LastError;
use crate::call::{Call, Reply};
use crate::config::PluginLimits;
use crate::error::{Code, Problem};

/// Characters of a reply's text.
const MAX_TEXT: usize = 200_000;
/// Bytes of a reply's structured half.
const MAX_STRUCTURED: usize = 8 << 20;
/// Characters of a guest's message and hint, and bytes of its details.
const MAX_MESSAGE: usize = 4096;
const MAX_DETAILS: usize = 64 << 10;

impl Plugins {
    /// Runs one tool of a plugin in a fresh instance.
    ///
    /// Ends at the deadline and with the cancel token of `call`, also while the guest waits for a server. Every problem
    /// carries the plugin's name and version in its details; those that the host itself made and the guest passed on are
    /// otherwise unchanged.
    pub async fn call(
        &self,
        plugin: &str,
        tool: &str,
        arguments: Map<String, Value>,
        call: Call,
    ) -> Result<Reply, Problem> {
        let Some(plugin) = self.get(plugin) else {
            return Err(Problem::new(Code::PluginFailed, format!("there is no plugin {plugin:?}"))
                .hint("plugin_list shows the plugins that are loaded."));
        };
        let result = self.attempt(plugin, tool, arguments, call).await;
        result.map_err(|mut problem| {
            problem.details.insert("plugin".to_owned(), plugin.name.clone().into());
            problem.details.insert("version".to_owned(), plugin.version.clone().into());
            if let Some(error) = LastError::of(tool, &problem) {
                *plugin.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            problem
        })
    }

    async fn attempt(
        &self,
        plugin: &Plugin,
        tool: &str,
        arguments: Map<String, Value>,
        mut call: Call,
    ) -> Result<Reply, Problem> {
        let title = format!("the plugin {} {}", plugin.name, plugin.version);
        match &plugin.state {
            State::Ready => {}
            State::Disabled => return Err(failed(format!("{title} is disabled in orchestrator.toml"))),
            State::Failed(error) => return Err(failed(format!("{title} is not loaded: {error}"))),
        }
        let Some(tool) = plugin.tool(tool) else {
            return Err(Problem::invalid(format!("{title} has no tool {:?}", clamp(tool, 64))));
        };
        call.plugin = Some(format!("{} {}", plugin.name, plugin.version).into());
        let prepared = tokio::select! {
            biased;
            () = call.cancel.cancelled() => return Err(problem(&title, tool, Failure::Cancelled, self.sandbox.limits)),
            prepared = self.prepare(plugin) => prepared.map_err(|error| failed(format!("{title} cannot run: {error}")))?,
            () = async { match call.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            } } => return Err(Problem::new(Code::PluginTimeout, format!("{title} was still being compiled when the time of {} ran out", tool.name)).retryable(true)),
        };
        let given = Capabilities {
            granted: plugin.granted.clone(),
            settings: plugin.settings.clone(),
            servers: Some(self.servers.clone()),
            http: Some(self.http.clone()),
            kept: Some(self.kept.of(&plugin.name)),
            call,
        };
        let arguments = Value::Object(arguments).to_string();
        match self.sandbox.call(&prepared, given, &tool.name, &arguments).await {
            Ok(output) => reply(&title, tool, output),
            Err(failure) => Err(problem(&title, tool, failure, self.sandbox.limits)),
        }
    }

    /// The plugin's linked component. The first call of a plugin waits here for its compilation, which goes on when the
    /// call is cancelled: the next one needs it too.
    pub(super) async fn prepare(&self, plugin: &Plugin) -> Result<PluginPre<Guest>, LoadError> {
        if let Some(ready) = plugin.component.ready() {
            return Ok(ready);
        }
        let (component, sandbox) = (plugin.component.clone(), self.sandbox.clone());
        let compiled = tokio::task::spawn_blocking(move || component.prepare(&sandbox)).await;
        compiled.unwrap_or_else(|error| Err(LoadError::Compile(error.to_string())))
    }
}

fn failed(message: String) -> Problem {
    Problem::new(Code::PluginFailed, message)
        .hint("This is a fault of the plugin, and the same call will meet it again: plugin_list tells where the plugin comes from.")
}

/// The output as a reply, if it keeps the contract.
fn reply(title: &str, tool: &ToolInfo, output: Output) -> Result<Reply, Problem> {
    let tool_name = &tool.name;
    let structured = match output.structured {
        None if tool.output_schema.is_some() && !output.is_error => {
            return Err(failed(format!(
                "{title} returned no structured output from {tool_name}, which has a schema for it"
            )));
        }
        None => Map::new(),
        Some(text) if text.len() > MAX_STRUCTURED => {
            return Err(failed(format!(
                "{title} returned {} bytes of structured output from {tool_name}; at most {MAX_STRUCTURED} are allowed",
                text.len()
            )));
        }
        Some(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => map,
            Ok(_) => {
                return Err(failed(format!(
                    "{title} returned structured output from {tool_name} that is not a JSON object"
                )));
            }
            Err(error) => {
                return Err(failed(format!(
                    "{title} returned structured output from {tool_name} that is not JSON: {error}"
                )));
            }
        },
    };
    Ok(Reply { text: cut(output.text), structured, is_error: output.is_error })
}

/// At most [`MAX_TEXT`] characters, with a note about the rest.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        let left_out = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("\n… ({left_out} bytes more were left out)"));
    }
    text
}

/// What the caller is told about a failure.
fn problem(title: &str, tool: &ToolInfo, failure: Failure, limits: PluginLimits) -> Problem {
    let tool_name = &tool.name;
    match failure {
        Failure::Problem(problem) => told(title, tool_name, problem),
        Failure::Trap { reason, stderr } => {
            let mut problem = failed(format!("{title} failed in {tool_name}: {reason}"));
            let words: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("note: run with")).collect();
            if !words.is_empty() {
                problem.message.push_str(&format!("; it said: {}", one_line(&words.join(" "))));
                problem = problem.detail("stderr", stderr);
            }
            problem.detail("tool", tool_name.clone())
        }
        Failure::Memory => {
            let limit = limits.memory >> 20;
            failed(format!("{title} needed more than {limit} MiB of memory in {tool_name}"))
                .detail("tool", tool_name.clone())
                .detail("memory_mb", limit)
                .hint("The limit is memory_mb in [plugin_limits] of orchestrator.toml.")
        }
        Failure::Compute => {
            let limit = limits.compute.as_secs_f64();
            Problem::new(Code::PluginTimeout, format!("{title} computed for more than {limit} s in {tool_name}"))
                .detail("tool", tool_name.clone())
                .detail("compute_s", limit)
                .hint("The limit is compute_s in [plugin_limits] of orchestrator.toml.")
        }
        Failure::Deadline => {
            Problem::new(Code::PluginTimeout, format!("{title} had not answered {tool_name} when its time ran out"))
                .detail("tool", tool_name.clone())
        }
        Failure::NoRoom => Problem::new(
            Code::PluginTimeout,
            format!(
                "{title} did not get to run {tool_name}: too many plugin calls were running until its time ran out"
            ),
        )
        .detail("tool", tool_name.clone())
        .retryable(true),
        Failure::Cancelled => Problem::new(Code::Cancelled, format!("{tool_name} of {title} was cancelled"))
            .detail("tool", tool_name.clone()),
    }
}

/// A problem as the guest told it: its code if that is one of ours, its words as far as they fit.
fn told(title: &str, tool: &str, problem: types::Problem) -> Problem {
    let details = match problem.details {
        Some(text) if text.len() <= MAX_DETAILS => match serde_json::from_str(&text) {
            Ok(Value::Object(details)) => details,
            _ => Map::new(),
        },
        _ => Map::new(),
    };
    let mut message = clamp(problem.message.trim(), MAX_MESSAGE);
    if message.is_empty() {
        message = format!("{title} failed in {tool} and did not say why");
    }
    let known = Code::parse(&problem.code);
    let mut told = Problem::new(known.unwrap_or(Code::PluginFailed), message).retryable(problem.retryable);
    told.details = details;
    told.hint = problem.hint.map(|hint| clamp(&hint, MAX_MESSAGE)).filter(|hint| !hint.is_empty());
    if known.is_none() {
        told = told.detail("plugin_code", clamp(&problem.code, 64));
    }
    told
}
