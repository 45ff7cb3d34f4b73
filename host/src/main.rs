//! The entry point: hands the command line to its verb and turns what comes back into an exit code.
//! Not a place for logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_orchestrator::cli::main()
}
