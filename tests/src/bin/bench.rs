//! What `cargo xtask bench` runs: every measurement once, or those that are named, as a table, or with `--json` for programs.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use orchestrator_tests::bench::{self, Figure};

/// What can be measured, by the name that selects it.
const GROUPS: [&str; 12] =
    ["start", "bridge", "exec", "far", "flight", "fleet", "transfer", "beside", "seed", "queue", "plugin", "size"];

#[tokio::main]
async fn main() -> ExitCode {
    let (options, names): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let json = options.iter().any(|option| option == "--json");
    match figures(&names).await {
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

async fn figures(names: &[String]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for name in names {
        ensure!(GROUPS.contains(&name.as_str()), "there is no measurement {name:?}, only {}", GROUPS.join(", "));
    }
    for group in GROUPS.into_iter().filter(|group| names.is_empty() || names.iter().any(|name| name == group)) {
        figures.extend(match group {
            "start" => bench::start::measure().await?,
            "bridge" => bench::bridge::measure().await?,
            "exec" => bench::exec::measure().await?,
            "far" => bench::exec::measure_far().await?,
            "flight" => bench::fleet::measure_flight().await?,
            "fleet" => bench::fleet::measure().await?,
            "transfer" => {
                let mut figures = bench::transfer::measure().await?;
                figures.extend(bench::transfer::measure_far().await?);
                figures
            }
            "beside" => bench::beside::measure().await?,
            "seed" => bench::seed::measure().await?,
            "queue" => bench::queue::measure().await?,
            "plugin" => bench::plugin::measure().await?,
            _ => bench::size::measure().await?,
        });
    }
    Ok(figures)
}
