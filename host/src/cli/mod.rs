//! The command line: one file per verb. Without a verb the program serves MCP on standard input and output.

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An MCP server that turns an AI agent into a careful system administrator.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    /// Where everything is kept; wins over MCP_DATA_DIR. Default: ~/.config/mcp-orchestrator
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<std::path::PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve MCP on standard input and output (the default; MCP clients start it so)
    Serve,
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.verb.unwrap_or(Verb::Serve) {
        Verb::Serve => serve::run(arguments.data_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is where an MCP client shows why a server did not start.
            eprintln!("mcp-orchestrator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
