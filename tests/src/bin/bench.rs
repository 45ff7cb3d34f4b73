//! What `cargo xtask bench` runs: every measurement once, as a table, or with `--json` for programs. Names of groups, such as
//! `exec transfer`, run only those.

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
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut figures = Vec::new();
    if is_wanted("start") {
        figures.extend(bench::start::measure().await?);
    }
    if is_wanted("bridge") {
        figures.extend(bench::bridge::measure().await?);
    }
    if is_wanted("exec") {
        figures.extend(bench::exec::measure().await?);
        figures.extend(bench::exec::measure_far().await?);
    }
    if is_wanted("transfer") {
        figures.extend(bench::transfer::measure().await?);
        figures.extend(bench::transfer::measure_far().await?);
    }
    if is_wanted("plugin") {
        figures.extend(bench::plugin::measure().await?);
    }
    if is_wanted("size") {
        figures.extend(bench::size::measure().await?);
    }
    Ok(figures)
}
