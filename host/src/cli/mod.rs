//! The command line: one file per verb. Without a verb the program serves MCP on standard input and output.

mod serve;
mod daemon;
mod import;
mod server;
mod caller;
mod report;
mod program;
mod memory;
mod files;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

/// An MCP server that turns an AI agent into a careful system administrator.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    /// Where everything is kept; wins over MCP_DATA_DIR. Default: ~/.config/mcp-orchestrator
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Args)]
struct Serve {
    /// Do everything in this process instead of sharing a daemon; jobs then end with it
    #[arg(long)]
    standalone: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve MCP on standard input and output (the default; MCP clients start it so)
    Serve(Serve),
    /// The process that serves all clients of a data directory
    #[command(subcommand)]
    Daemon(daemon::Verb),
    /// Take over the servers and APIs of the Node project mcp-sftp-orchestrator
    Import(import::Arguments),
    /// Look at servers, test them, trust their host keys, import them from ~/.ssh/config
    #[command(subcommand)]
    Server(server::Verb),
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    let Arguments { data_dir, serve, verb } = Arguments::parse();
    let done = match verb {
        None => serve::run(data_dir, serve.standalone).map(|()| ExitCode::SUCCESS),
        Some(Verb::Serve(own)) => serve::run(data_dir, serve.standalone || own.standalone).map(|()| ExitCode::SUCCESS),
        Some(Verb::Daemon(verb)) => daemon::run(data_dir, &verb),
        Some(Verb::Import(arguments)) => import::run(data_dir, &arguments),
        Some(Verb::Server(verb)) => server::run(data_dir, &verb),
    };
    done.unwrap_or_else(|error| {
        // Standard error is where an MCP client shows why a server did not start. One that does not listen is no reason to
        // panic.
        let _ = writeln!(std::io::stderr(), "mcp-orchestrator: {error:#}");
        ExitCode::FAILURE
    })
}

/// What the command line says about settings, by their names in the environment.
fn overrides(data_dir: Option<PathBuf>) -> BTreeMap<String, String> {
    data_dir.map(|dir| ("MCP_DATA_DIR".to_owned(), dir.display().to_string())).into_iter().collect()
}

/// To standard output, which is for people in every verb but `serve`.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("writing to standard output")
}
