//! Memory of an idle process with all bundled plugins loaded, and the bytes of `tools/list`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::{Client, Launch};
use crate::place::Place;
use crate::sshd::Sshd;

use super::{Figure, compiled, exec};

pub async fn measure() -> Result<Vec<Figure>> {
    let sshd = Sshd::start().await?;
    let place = Place::new()?;
    // The first start compiles and fills the cache; what is measured is a start as a user has it every day.
    use_once(&place, &sshd).await?.0.close().await?;
    let (program, list) = use_once(&place, &sshd).await?;
    // The figure is of an idle process: what the calls used is to be given back first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident = resident_mb(program.pid())?;
    program.close().await?;
    let bytes = list.to_string().len();
    let tools = list["tools"].as_array().map_or(0, Vec::len);
    Ok(vec![
        Figure::new("resident memory, idle", resident, "MB")
            .target(40.0)
            .note("2 s after tools/list and a call of every plugin; the Node peers have 73–80 MB"),
        Figure::new("tools/list", float(bytes), "bytes").target(25_000.0).note(format!("{tools} tools")),
        Figure::new("bytes per tool", float(bytes / tools.max(1)), "bytes").target(650.0).note("the Node seed has 650"),
    ])
}

/// A program that has listed its tools and called every plugin, and the list.
async fn use_once(place: &Place, sshd: &Sshd) -> Result<(Client, Value)> {
    let program = Launch::new(place).start().await?;
    exec::add(&program, sshd, sshd.port()).await?;
    let list = program.request("tools/list", json!({})).await?;
    compiled(&program, "box").await?;
    Ok((program, list))
}

/// What a process has in memory.
pub(super) fn resident_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

/// Has the kernel forget the most that it has had (proc_pid_clear_refs(5)), and returns what it has now.
pub(super) fn reset_peak(pid: u32) -> Result<f64> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak of the memory")?;
    resident_mb(pid)
}

/// The most that it has had.
pub(super) fn peak_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field} in /proc"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn float(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::MAX, f64::from)
}
