//! What `cargo xtask demo` shows: an MCP client starts the program, registers a server, runs commands on it and asks a
//! plugin about it. Everything is real; the server is an SSH server inside this process that lives as long as the tour.
//!
//! Each step checks what it shows: when one is not as it should be, the demo ends with a non-zero exit code.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::embedded::{Accounts, Embedded, new_key};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use russh::keys::ssh_key::LineEnding;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> ExitCode {
    // The path is shown at the end, to be copied into a client's settings: it must hold from anywhere.
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(binary) = given.map(|path| path.canonicalize().unwrap_or(path)) else {
        eprintln!("usage: demo PATH-OF-MCP-ORCHESTRATOR");
        return ExitCode::from(2);
    };
    match tour(binary).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(binary: PathBuf) -> Result<()> {
    let place = Place::new()?;
    let (server, key) = serve(&place).await?;
    println!("mcp-orchestrator, a tour with real output.");
    println!("A throwaway SSH server listens on {}; home and data are in {}.", server.address, place.root().display());

    heading("An MCP client starts the program over stdio")?;
    let started = Instant::now();
    let launch = || Launch::new(&place).binary(&binary).shared();
    // Ends with the tour, however that ends.
    let daemon = Daemon::of(&place).binary(&binary);
    let client = launch().start().await?;
    println!(
        "initialize was answered after {} ms, with the daemon that was started for it:",
        started.elapsed().as_millis()
    );
    println!("  {}", client.greeting["serverInfo"]);
    println!("  protocol {}", client.greeting["protocolVersion"]);
    list_tools(&client).await?;

    host_key_first(&client, &server, &key).await?;
    commands(&client).await?;
    plugin(&client).await?;
    memory(&client).await?;
    handover(client, launch()).await?;
    goodbye(&daemon)?;
    farewell(&binary);
    Ok(())
}

/// The server of the tour, and the key that logs in.
async fn serve(place: &Place) -> Result<(Embedded, PathBuf)> {
    let key = new_key()?;
    let path = place.root().join("demo_key");
    fs::write(&path, key.to_openssh(LineEnding::LF)?.as_bytes())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let accounts = Accounts { user: "demo".to_owned(), password: None, keys: vec![key.public_key().clone()] };
    Ok((Embedded::start(accounts).await?, path))
}

async fn list_tools(client: &Client) -> Result<()> {
    let tools = client.tools().await?;
    let plugins = call(client, "plugin_list", json!({})).await?.ok()?;
    let plugins = plugins.structured["plugins"].as_array().context("plugin_list tells no plugins")?.clone();
    let from_plugins: Vec<(String, String)> = plugins
        .iter()
        .flat_map(|plugin| {
            let name = plugin["name"].as_str().unwrap_or_default();
            let tools = plugin["tools"].as_array().cloned().unwrap_or_default();
            tools.into_iter().filter_map(move |tool| Some((tool.as_str()?.to_owned(), name.to_owned())))
        })
        .collect();
    let origin = |tool: &str| from_plugins.iter().find(|(name, _)| name == tool).map(|(_, plugin)| plugin.as_str());
    println!("\ntools/list: {} tools, {} of them from plugins:", tools.len(), from_plugins.len());
    for tool in tools {
        let origin = origin(&tool.name).map(|plugin| format!("   (plugin {plugin})")).unwrap_or_default();
        println!("  {:<24} {}{origin}", tool.name, tool.entry["title"].as_str().unwrap_or_default());
    }
    ensure!(origin("get_system_resources").is_some(), "get_system_resources comes from no plugin");
    Ok(())
}

async fn host_key_first(client: &Client, server: &Embedded, key: &std::path::Path) -> Result<()> {
    heading("A server is added, and nobody has vouched for its host key yet")?;
    let mut arguments = json!({
        "alias": "demo", "host": "127.0.0.1", "port": server.port(), "user": "demo", "keyPath": key,
        "description": "the throwaway server of the tour", "tags": ["tour"],
    });
    show(&call(client, "server_add", arguments.clone()).await?.ok()?);
    let refused = call(client, "task_exec", json!({"alias": "demo", "cmd": "true"})).await?;
    let problem = refused.problem("HOST_KEY_UNKNOWN")?;
    show(&refused);
    problem.names(&[&server.fingerprint])?;
    ensure!(server.seen().logins.is_empty(), "a login was tried on a server that nobody vouched for");
    println!("\nNothing was sent to it, not even the login.");

    heading("The fingerprint is the one that the server's owner tells us, so it is pinned")?;
    arguments["hostKey"] = json!(server.fingerprint);
    arguments["verify"] = json!(true);
    show(&call(client, "server_add", arguments).await?.ok()?);
    show(&call(client, "server_list", json!({})).await?.ok()?);
    Ok(())
}

async fn commands(client: &Client) -> Result<()> {
    heading("A command runs")?;
    let ran = call(client, "task_exec", json!({"alias": "demo", "cmd": "uname -a; id"})).await?.ok()?;
    show(&ran);
    ensure!(ran.str("stdout").contains("uid="), "`id` did not say who runs it");

    heading("A command fails, and says how")?;
    let failed = call(client, "task_exec", json!({"alias": "demo", "cmd": "ls /no/such/folder"})).await?;
    show(&failed);
    ensure!(failed.is_error, "a command that exits non-zero must be reported as an error");
    ensure!(failed.structured["exit_code"].as_i64().is_some_and(|code| code > 0), "no exit code");
    ensure!(failed.str("stderr").contains("/no/such/folder"), "standard error was lost");
    Ok(())
}

async fn plugin(client: &Client) -> Result<()> {
    heading("A WebAssembly plugin looks at the server")?;
    let resources = call(client, "get_system_resources", json!({"alias": "demo"})).await?.ok()?;
    show(&resources);
    ensure!(resources.structured.as_object().is_some_and(|data| !data.is_empty()), "no structured data");
    println!(
        "\nThe plugin never saw a password, a socket or a shell: it named programs and arguments, the host ran them."
    );
    Ok(())
}

async fn memory(client: &Client) -> Result<()> {
    heading("Everything was recorded")?;
    let history = call(client, "task_history", json!({"alias": "demo"})).await?.ok()?;
    show(&history);
    let jobs = history.structured["jobs"].as_array().map_or(0, Vec::len);
    ensure!(jobs >= 4, "the history should know four jobs and knows {jobs}");
    show(&call(client, "queue_stats", json!({})).await?.ok()?);
    Ok(())
}

async fn handover(client: Client, launch: Launch) -> Result<()> {
    heading("The client goes in the middle of a command, and another one takes it over")?;
    let arguments = json!({"alias": "demo", "cmd": "sleep 2; echo still here"});
    println!("\n> task_exec {arguments}");
    let pending = client.begin_call("task_exec", arguments).await?;
    let started = Instant::now();
    let other = launch.start().await?;
    println!("  a second client: initialize was answered after {} ms", started.elapsed().as_millis());
    // The two clients' requests take separate ways to the daemon.
    while other.call("task_queue", json!({"status": "running"})).await?.structured["jobs"][0].is_null() {
        ensure!(started.elapsed().as_secs() < 10, "the command of the first client does not run");
    }
    let queue = call(&other, "task_queue", json!({})).await?.ok()?;
    show(&queue);
    client.kill().await?;
    drop(pending);
    println!("\nThe first client was killed.");
    let id = queue.structured["jobs"][0]["id"].clone();
    let ended = call(&other, "task_wait", json!({"id": id})).await?.ok()?;
    show(&ended);
    ensure!(ended.text.contains("still here"), "the job was lost with its client");
    let status = other.close().await?;
    ensure!(status.success(), "the program ended with {status}");
    Ok(())
}

fn goodbye(daemon: &Daemon) -> Result<()> {
    heading("The daemon stays for the next client, for a while or until it is stopped")?;
    for verb in ["status", "stop"] {
        let said = daemon.ask(verb)?;
        println!("\n$ mcp-orchestrator daemon {verb}");
        for line in String::from_utf8_lossy(&said.stdout).lines() {
            println!("  {line}");
        }
        ensure!(said.status.success(), "daemon {verb} ended with {}", said.status);
    }
    Ok(())
}

async fn call(client: &Client, tool: &str, arguments: Value) -> Result<ToolResult> {
    println!("\n> {tool} {arguments}");
    client.call(tool, arguments).await
}

fn show(result: &ToolResult) {
    for line in result.text.lines() {
        println!("  {line}");
    }
}

fn heading(text: &str) -> Result<()> {
    println!("\n── {text} {}", "─".repeat(90_usize.saturating_sub(text.chars().count())));
    // The tour is read while it runs.
    Ok(std::io::stdout().flush()?)
}

fn farewell(binary: &std::path::Path) {
    println!("\n── That was all of it: the tour ended as it should {}", "─".repeat(44));
    println!("Add it to a client, for instance to Claude Code:\n");
    println!("  claude mcp add orchestrator -- {}\n", binary.display());
    println!("or in the JSON that Claude Desktop and Cursor read:\n");
    let config = json!({"mcpServers": {"orchestrator": {"command": binary}}});
    println!("{}", serde_json::to_string_pretty(&config).unwrap_or_default());
    println!("\nThe README has the other clients, the tools and the settings.");
}
