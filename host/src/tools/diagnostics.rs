//! How the orchestrator itself is doing: `pool_stats`, `plugin_list`, `task_logs`, `system_diagnostics`.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::typed::Direct;
use super::{Annotations, Core, Execution, Tool, ToolSpec};
use crate::call::Reply;
use crate::error::Problem;
use crate::jobs::AnyJob;
use crate::logs::{Level, Query};
use crate::plugins::PluginStatus;

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![pool(core), plugins(core), logs(core), diagnostics(core)]
}

#[derive(Deserialize, JsonSchema)]
struct NoArguments {}

#[derive(Serialize, JsonSchema)]
struct PoolResult {
    servers: Vec<Value>,
}

fn pool(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<NoArguments, PoolResult>(
            "pool_stats",
            "SSH connections",
            "Per server: channels in use and free, waiting calls, age, keep-alive.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |NoArguments {}, _call| {
            let core = Arc::clone(&core);
            async move {
                let stats = core.servers.pool_stats();
                let mut text = String::new();
                for server in &stats {
                    text.push_str(&format!(
                        "{} ({}): {} of at most {} connections, {} calls waiting\n",
                        server.alias,
                        server.purpose.as_str(),
                        server.connections.len(),
                        server.max_connections,
                        server.waiting
                    ));
                    for connection in &server.connections {
                        let free = connection.capacity.saturating_sub(connection.channels);
                        text.push_str(&format!(
                            "  {} channels in use, {} opened ahead, {free} free, up {} s, {} bytes in, {} out, keep-alive {}\n",
                            connection.channels,
                            connection.ready,
                            connection.age_s,
                            connection.bytes_in,
                            connection.bytes_out,
                            connection.keep_alive
                        ));
                    }
                }
                if text.is_empty() {
                    text.push_str("No connection is open. The first command on a server opens one.");
                }
                let servers = stats.iter().filter_map(|server| serde_json::to_value(server).ok()).collect();
                Ok(Reply::new(text, &PoolResult { servers }))
            }
        },
    )
}

#[derive(Deserialize, JsonSchema)]
struct PluginArguments {
    /// Only this plugin.
    name: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct PluginsResult {
    plugins: Vec<Value>,
}

fn plugins(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<PluginArguments, PluginsResult>(
            "plugin_list",
            "Plugins",
            "Version, state, tools, grants, last error. Only the operator can change them.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: PluginArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let all = core.plugins.status();
                let shown: Vec<&PluginStatus> = all
                    .iter()
                    .filter(|plugin| arguments.name.as_ref().is_none_or(|name| plugin.name == *name))
                    .collect();
                if let (Some(name), true) = (&arguments.name, shown.is_empty()) {
                    let known: Vec<&str> = all.iter().map(|plugin| plugin.name.as_str()).collect();
                    return Err(Problem::invalid(format!("there is no plugin {name:?}"))
                        .detail("argument", "name")
                        .hint(format!("Known are: {}.", known.join(", "))));
                }
                let text = match shown.is_empty() {
                    true => "No plugin is loaded.".to_owned(),
                    false => shown.iter().map(|plugin| plugin_text(plugin)).collect::<Vec<_>>().join("\n"),
                };
                let plugins = shown.iter().filter_map(|plugin| serde_json::to_value(plugin).ok()).collect();
                Ok(Reply::new(text, &PluginsResult { plugins }))
            }
        },
    )
}

fn plugin_short(plugin: &PluginStatus) -> String {
    format!("{} {} ({})", plugin.name, plugin.version, plugin.state)
}

/// A plugin in a few lines: what is wrong first.
fn plugin_text(plugin: &PluginStatus) -> String {
    let mut text = format!("{}, {}", plugin_short(plugin), plugin.source);
    if let Some(problem) = &plugin.problem {
        text.push_str(&format!("\n  {problem}"));
    }
    if let Some(error) = &plugin.last_error {
        text.push_str(&format!("\n  last error, {} in {}: {}", error.at, error.tool, error.message));
    }
    if !plugin.tools.is_empty() {
        text.push_str(&format!("\n  tools: {}", plugin.tools.join(", ")));
    }
    text
}

#[derive(Deserialize, JsonSchema)]
struct LogArguments {
    /// And more serious. Default info.
    level: Option<Level>,
    /// Only lines with this text.
    search: Option<String>,
    /// Default 50.
    limit: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct LogResult {
    lines: Vec<String>,
}

fn logs(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<LogArguments, LogResult>(
            "task_logs",
            "The orchestrator's log",
            "The end of our own log, not a server's.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: LogArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let query = Query {
                    level: arguments.level.unwrap_or(Level::Info),
                    search: arguments.search,
                    limit: arguments.limit.unwrap_or(50).clamp(1, 1000),
                };
                let lines = core.logs.last(query).await?;
                let text = match lines.is_empty() {
                    true => "No line matches.".to_owned(),
                    false => lines.join("\n"),
                };
                Ok(Reply::new(text, &LogResult { lines }))
            }
        },
    )
}

#[derive(Deserialize, JsonSchema)]
struct DiagnosticsArguments {
    /// Also settings and every connection.
    verbose: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct DiagnosticsResult {
    healthy: bool,
    warnings: Vec<String>,
    #[schemars(skip)]
    version: String,
    #[schemars(skip)]
    uptime_seconds: u64,
    #[schemars(skip)]
    data_dir: String,
    #[schemars(skip)]
    database_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_free_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[schemars(skip)]
    servers: usize,
    #[schemars(skip)]
    connections: usize,
    #[schemars(skip)]
    jobs_active: usize,
    #[schemars(skip)]
    jobs_total: u64,
    plugins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

fn diagnostics(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<DiagnosticsArguments, DiagnosticsResult>(
            "system_diagnostics",
            "Is the orchestrator well?",
            "The orchestrator's own health, warnings first.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: DiagnosticsArguments, _call| {
            let core = Arc::clone(&core);
            async move { diagnose(&core, arguments.verbose.unwrap_or(false)).await }
        },
    )
}

/// Below this much free space in the data directory's file system, jobs may soon not be recorded.
const LOW_DISK_BYTES: u64 = 256 << 20;

/// After so many seconds the files of an ended detached job should be gone from its server.
const LEFT_AFTER: i64 = 900;

async fn diagnose(core: &Core, verbose: bool) -> Result<Reply, Problem> {
    let stats = core.jobs.stats().await?;
    let pool = core.servers.pool_stats();
    let plugins = core.plugins.status();
    let disk_free_bytes = rustix::fs::statvfs(&core.settings.data_dir).ok().map(|fs| fs.f_bavail * fs.f_frsize);
    let mut warnings = core.store.warnings().to_vec();
    if core.audit.failed() > 0 {
        warnings.push(format!("{} acts could not be written to audit.jsonl", core.audit.failed()));
    }
    if let Some(free) = disk_free_bytes.filter(|free| *free < LOW_DISK_BYTES) {
        warnings.push(format!("only {} MiB are free for the data directory", free >> 20));
    }
    for plugin in &plugins {
        if let Some(problem) = &plugin.problem {
            warnings.push(format!("plugin {} failed to load: {problem}", plugin.name));
        }
        if let Some(error) = &plugin.last_error {
            warnings.push(format!("plugin {} went wrong at {}: {}", plugin.name, error.at, error.message));
        }
    }
    if !stats.retryable_crashed.is_empty() {
        let count = stats.retryable_crashed.len();
        warnings.push(format!("{count} crashed jobs can be retried: task_history with status crashed"));
    }
    let left = left_on_servers(core)?;
    if !left.is_empty() {
        warnings
            .push(format!("files of detached jobs that have ended are still on their servers: {}", left.join(", ")));
    }
    let active = core.jobs.count();
    if active * 10 >= core.jobs.capacity() * 9 {
        warnings.push(format!("the queue is nearly full: {active} of {} jobs", core.jobs.capacity()));
    }
    let result = DiagnosticsResult {
        healthy: warnings.is_empty(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: core.started.elapsed().as_secs(),
        data_dir: core.settings.data_dir.display().to_string(),
        database_bytes: core.store.file_size().unwrap_or_default(),
        disk_free_bytes,
        memory_bytes: resident_bytes(),
        servers: core.servers.list().len(),
        connections: pool.iter().map(|server| server.connections.len()).sum(),
        jobs_active: active,
        jobs_total: stats.total,
        plugins: plugins.iter().map(plugin_short).collect(),
        details: verbose.then(|| json!({ "settings": core.settings.shown(), "pool": pool })),
        warnings,
    };
    Ok(Reply::new(diagnostics_text(&result), &result))
}

fn diagnostics_text(result: &DiagnosticsResult) -> String {
    let mut text = match result.warnings.as_slice() {
        [] => "All is well.\n".to_owned(),
        warnings => warnings.iter().map(|warning| format!("WARNING: {warning}\n")).collect(),
    };
    text.push_str(&format!(
        "mcp-orchestrator {}, up {} s\n{} servers, {} connections open\n{} jobs active, {} known\nplugins: {}\n\
         data directory: {} (database {} KiB",
        result.version,
        result.uptime_seconds,
        result.servers,
        result.connections,
        result.jobs_active,
        result.jobs_total,
        if result.plugins.is_empty() { "none".to_owned() } else { result.plugins.join(", ") },
        result.data_dir,
        result.database_bytes >> 10,
    ));
    if let Some(free) = result.disk_free_bytes {
        text.push_str(&format!(", {} MiB free", free >> 20));
    }
    text.push(')');
    if let Some(memory) = result.memory_bytes {
        text.push_str(&format!("\nmemory: {} MiB", memory >> 20));
    }
    text
}

/// Detached jobs that ended a while ago and whose files are still on their servers, as `ID on ALIAS`.
fn left_on_servers(core: &Core) -> Result<Vec<String>, Problem> {
    let told = |job: &AnyJob| {
        let since = Timestamp::now().duration_since(job.ended()?).as_secs();
        (since > LEFT_AFTER).then(|| format!("{} on {}", job.id(), job.head().server.as_deref().unwrap_or_default()))
    };
    Ok(core.jobs.places()?.iter().filter_map(told).collect())
}

/// The memory of this process that is in use, where the system tells (Linux).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
