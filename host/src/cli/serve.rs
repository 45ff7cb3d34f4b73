//! `serve`: one MCP client on standard input and output, through the daemon of the data directory or, with `--standalone`,
//! by this process alone.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use super::overrides;
use super::program::{Program, stop_on_signal};
use crate::config::Settings;
use crate::daemon;
use crate::logs::{self, Logs};
use crate::mcp;

pub fn run(data_dir: Option<PathBuf>, standalone: bool) -> Result<()> {
    let settings = Settings::load(overrides(data_dir)).context("reading the settings")?;
    if standalone {
        return alone(Arc::new(settings));
    }
    let session = daemon::attach(&settings, |sentence| {
        // A client that closed its end of standard error is none the worse for it.
        let _ = writeln!(std::io::stderr(), "mcp-orchestrator: {sentence}");
    })?;
    Ok(daemon::bridge(session)?)
}

fn alone(settings: Arc<Settings>) -> Result<()> {
    let logs = logs::start(&settings.data_dir, &settings.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let served = runtime.block_on(serve(settings, logs));
    // A read of standard input can't be cancelled on every platform; it must not keep the process alive.
    runtime.shutdown_background();
    served
}

async fn serve(settings: Arc<Settings>, logs: Logs) -> Result<()> {
    let program = Program::build(settings, logs).await?;
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signal(stop.clone()));
    let (read, write) = rmcp::transport::io::stdio_pipes();
    let served = mcp::serve(Arc::clone(&program.registry), read, write, None, stop).await;
    signals.abort();
    program.shutdown().await;
    served.context("serving the MCP client")
}
