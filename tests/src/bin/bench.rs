//! What `cargo xtask bench` runs: every measurement once, as a table, or with `--json` for programs.

use std::process::ExitCode;

use anyhow::Result;
use orchestrator_tests::bench::{self, Figure};

#[tokio::main]
async fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    match figures().await {
        Ok(figures) if json => match serde_json::to_string_pretty(&figures) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.into()),
        },
        Ok(figures) => {
            println!("{}", bench::table(&figures));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("the bench stopped: {error:#}");
    ExitCode::FAILURE
}

async fn figures() -> Result<Vec<Figure>> {
    let mut figures = bench::start::measure().await?;
    figures.extend(bench::bridge::measure().await?);
    figures.extend(bench::exec::measure().await?);
    figures.extend(bench::exec::measure_far().await?);
    figures.extend(bench::plugin::measure().await?);
    figures.extend(bench::size::measure().await?);
    Ok(figures)
}
