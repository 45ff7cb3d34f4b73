//! The measurements behind `cargo xtask bench`: side by side in one run, on the release build, nothing asserted.
//!
//! A figure without its target says little, so each carries it where the project has set one.

/// From the start of the process to the first answers.
pub mod start;
/// What the daemon's bridge costs.
pub mod bridge;
/// A command through the program and the same command over a bare channel.
pub mod exec;
/// Files through the program and through others.
pub mod transfer;
/// A command while a big file moves.
pub mod beside;
/// Many commands at once, many servers, cold connections, large outputs.
pub mod fleet;
/// The Node project that this one replaces.
pub mod seed;
/// Programs that people copy files with today.
mod others;
/// The queue under a flood.
pub mod queue;
/// What a call of a plugin costs beyond a call of the core.
pub mod plugin;
/// Memory of an idle process, and the size of what a client must read first.
pub mod size;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::client::Client;

/// One measured quantity.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What the project wants it to stay below.
    pub target: Option<f64>,
    /// How it was measured, or what stands beside it.
    pub note: String,
}

impl Figure {
    pub fn new(name: &'static str, value: f64, unit: &'static str) -> Figure {
        Figure { name, value, unit, target: None, note: String::new() }
    }

    pub fn target(mut self, target: f64) -> Figure {
        self.target = Some(target);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Figure {
        self.note = note.into();
        self
    }

    /// The measured value by its target: below 1 is within it.
    pub fn ratio(&self) -> Option<f64> {
        self.target.filter(|target| *target > 0.0).map(|target| self.value / target)
    }
}

/// Returns when every bundled plugin is compiled, so that compiling does not take the processor from what is measured: each
/// of these tools is another plugin's, and its call waits for that. `alias` must be registered.
pub async fn compiled(program: &Client, alias: &str) -> Result<()> {
    program.call("api_list", json!({})).await?;
    program.call("tail_file", json!({"alias": alias, "filepath": "/etc/passwd"})).await?;
    let alias = json!({"alias": alias});
    program.call("get_fail2ban_status", alias.clone()).await?;
    program.call("get_system_resources", alias).await?.ok()?;
    Ok(())
}

/// The middle and the edge of many samples, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub p95: f64,
}

/// Of no samples everything is zero.
pub fn spread(samples: &[Duration]) -> Spread {
    let mut sorted: Vec<f64> = samples.iter().map(|sample| sample.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1))).copied();
    Spread { median: at(50).unwrap_or_default(), p95: at(95).unwrap_or_default() }
}

/// The figures as a table for people.
pub fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
    let mut lines = vec![format!("{:<width$}  {:>12}  {:>12}  {:>6}  ", "", "measured", "target", "ratio")];
    for figure in figures {
        let value = format!("{:.3} {}", figure.value, figure.unit);
        let target = figure.target.map_or_else(String::new, |target| format!("{target} {}", figure.unit));
        let ratio = figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        lines.push(format!("{:<width$}  {value:>12}  {target:>12}  {ratio:>6}  {}", figure.name, figure.note));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_edge_are_found_in_any_order() {
        let samples: Vec<Duration> = [5, 1, 4, 2, 3].map(Duration::from_millis).to_vec();
        let found = spread(&samples);
        assert_eq!((found.median, found.p95), (3.0, 5.0));
        assert_eq!(spread(&[]).median, 0.0);
    }
}
