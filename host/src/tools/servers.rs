//! `server_add`, `server_list`, `server_remove`: the inventory as a model sees it, which is without any secret.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::one_or_more::OneOrMore;
use super::typed::Direct;
use super::{Annotations, Core, Execution, Tool, ToolSpec};
use crate::call::{Call, Reply};
use crate::capability::{NewServer, Verified};
use crate::error::{Code, Problem};
use crate::inventory::Server;
use crate::jobs::{Filter, Status};
use crate::secrets::Secret;

pub fn tools(core: &Arc<Core>) -> Vec<Box<dyn Tool>> {
    vec![add(core), list(core), remove(core)]
}

#[derive(Deserialize, JsonSchema)]
struct AddArguments {
    /// Its name here.
    alias: String,
    /// Name or address.
    host: Option<String>,
    /// Login name.
    user: Option<String>,
    /// Default 22.
    port: Option<u64>,
    /// Private key file here; or a list, tried in order.
    #[serde(rename = "keyPath")]
    key_path: Option<OneOrMore>,
    /// Of the key; as password.
    passphrase: Option<String>,
    /// Stored encrypted; or env:NAME, file:/path, cmd:COMMAND.
    password: Option<String>,
    /// Use ssh-agent.
    agent: Option<bool>,
    /// Via alias or user@host:port.
    jump: Option<String>,
    /// socks5:// or http://[user@]host:port.
    proxy: Option<String>,
    /// Of its user; as password.
    #[serde(rename = "proxyPassword")]
    proxy_password: Option<String>,
    /// SHA256:… to pin.
    #[serde(rename = "hostKey")]
    host_key: Option<String>,
    /// Labels.
    tags: Option<Vec<String>>,
    /// A note.
    description: Option<String>,
    /// Connect now.
    verify: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct AddResult {
    created: bool,
    server: Listed,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
}

/// A server without its secrets.
#[derive(Serialize, JsonSchema)]
pub struct Listed {
    alias: String,
    host: String,
    port: u16,
    user: String,
    /// The kinds of login, in the order in which they are tried.
    auth: Vec<String>,
    /// The private key files, in the order in which they are tried.
    #[serde(rename = "keyPath", skip_serializing_if = "Vec::is_empty")]
    key_paths: Vec<String>,
    tags: Vec<String>,
    /// Where the entry comes from.
    source: &'static str,
    connected: bool,
    #[serde(rename = "hostKey", skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jump: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

fn listed(core: &Core, server: &Server) -> Listed {
    Listed {
        alias: server.alias.clone(),
        host: server.host.clone(),
        port: server.port,
        user: server.user.clone(),
        auth: server.auth_kinds().into_iter().map(str::to_owned).collect(),
        key_paths: server.key_paths.clone(),
        tags: server.tags.clone(),
        source: "inventory",
        connected: core.servers.is_connected(&server.alias),
        host_key: server.host_key.clone(),
        jump: server.jump.clone(),
        proxy: server.proxy.clone(),
        description: server.description.clone(),
    }
}

fn add(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<AddArguments, AddResult>(
            "server_add",
            "Add or update a server",
            "Adds a server, or updates the given fields. A new one needs host, user and keyPath, password or agent.",
            Execution::Direct,
            Annotations::RECORDS,
        ),
        move |arguments: AddArguments, call| {
            let core = Arc::clone(&core);
            async move { add_server(&core, arguments, call).await }
        },
    )
}

async fn add_server(core: &Core, arguments: AddArguments, call: Call) -> Result<Reply, Problem> {
    let verify = arguments.verify.unwrap_or(false);
    let (server, created) = core
        .servers
        .add(NewServer {
            alias: arguments.alias,
            host: arguments.host,
            port: arguments.port,
            user: arguments.user,
            key_paths: arguments.key_path.map(|paths| paths.texts()),
            passphrase: arguments.passphrase.map(Secret::new),
            password: arguments.password.map(Secret::new),
            agent: arguments.agent,
            jump: arguments.jump,
            proxy: arguments.proxy,
            proxy_password: arguments.proxy_password.map(Secret::new),
            host_key: arguments.host_key,
            tags: arguments.tags,
            description: arguments.description,
        })
        .await?;
    let verb = if created { "Added" } else { "Updated" };
    let mut text = format!("{verb} {}: {}@{}:{}", server.alias, server.user, server.host, server.port);
    let verified = match verify {
        true => {
            let verified = core.servers.verify(&call, &server.alias).await.map_err(|problem| {
                let saved = format!("{} was saved, but does not answer as it should. ", server.alias);
                let hint = problem.hint.clone().unwrap_or_default();
                problem.hint(format!("{saved}{hint}"))
            })?;
            text.push_str(&format!(
                "\nVerified in {} ms: host key {} ({}, {}), logged in as {}.",
                verified.duration_ms, verified.fingerprint, verified.key_type, verified.trusted_by, server.user
            ));
            Some(verified)
        }
        false => None,
    };
    Ok(Reply::new(text, &AddResult { created, server: listed(core, &server), verified }))
}

#[derive(Deserialize, JsonSchema)]
struct ListArguments {
    /// Only servers with this tag.
    tag: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ListResult {
    servers: Vec<Listed>,
}

fn list(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<ListArguments, ListResult>(
            "server_list",
            "List servers",
            "The known servers and how each is logged in to.",
            Execution::Direct,
            Annotations::LOOKS,
        ),
        move |arguments: ListArguments, _call| {
            let core = Arc::clone(&core);
            async move {
                let servers: Vec<Listed> = core
                    .servers
                    .all()
                    .iter()
                    .filter(|server| arguments.tag.as_ref().is_none_or(|tag| server.tags.contains(tag)))
                    .map(|server| listed(&core, server))
                    .collect();
                let text = match (servers.is_empty(), &arguments.tag) {
                    (true, None) => "No server is known yet. Add one with server_add.".to_owned(),
                    (true, Some(tag)) => format!("No server has the tag {tag:?}."),
                    (false, _) => servers.iter().map(line).collect::<Vec<_>>().join("\n"),
                };
                Ok(Reply::new(text, &ListResult { servers }))
            }
        },
    )
}

fn line(server: &Listed) -> String {
    let mut line =
        format!("{}  {}@{}:{}  auth: {}", server.alias, server.user, server.host, server.port, server.auth.join(", "));
    if !server.key_paths.is_empty() {
        line.push_str(&format!("  keys: {}", server.key_paths.join(", ")));
    }
    if !server.tags.is_empty() {
        line.push_str(&format!("  tags: {}", server.tags.join(", ")));
    }
    if let Some(jump) = &server.jump {
        line.push_str(&format!("  via {jump}"));
    }
    if let Some(proxy) = &server.proxy {
        line.push_str(&format!("  proxy {proxy}"));
    }
    if server.connected {
        line.push_str("  connected");
    }
    if let Some(description) = &server.description {
        line.push_str(&format!("  ({description})"));
    }
    line
}

#[derive(Deserialize, JsonSchema)]
struct RemoveArguments {
    /// As in server_list.
    alias: String,
    /// Cancels what runs on it.
    force: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
struct RemoveResult {
    removed: String,
}

fn remove(core: &Arc<Core>) -> Box<dyn Tool> {
    let core = Arc::clone(core);
    Direct::tool(
        ToolSpec::core::<RemoveArguments, RemoveResult>(
            "server_remove",
            "Remove a server",
            "Forgets a server and its secrets; the server itself is not touched.",
            Execution::Direct,
            Annotations::REMOVES,
        ),
        move |arguments: RemoveArguments, _call| {
            let core = Arc::clone(&core);
            async move { remove_server(&core, arguments).await }
        },
    )
}

async fn remove_server(core: &Core, arguments: RemoveArguments) -> Result<Reply, Problem> {
    let alias = arguments.alias;
    core.servers.describe(&alias)?;
    let filter = Filter { server: Some(alias.clone()), status: Some(Status::Running), limit: 200, ..Filter::default() };
    let running = core.jobs.list(&filter).await?;
    if !running.is_empty() && !arguments.force.unwrap_or(false) {
        let ids: Vec<String> = running.iter().map(|job| job.id().to_string()).collect();
        return Err(Problem::new(
            Code::InvalidArgument,
            format!("{alias} was not removed: jobs still run on it ({})", ids.join(", ")),
        )
        .detail("alias", alias)
        .detail("jobs", ids)
        .hint("Wait for them with task_wait, cancel them with task_cancel, or say force: true."));
    }
    // While the connection is still there: afterwards nothing could stop what runs.
    futures::future::join_all(running.iter().map(|job| core.jobs.cancel(job.id()))).await;
    core.servers.remove(&alias).await?;
    Ok(Reply::new(
        format!("Removed {alias}, its stored secrets and its connections."),
        &RemoveResult { removed: alias },
    ))
}
