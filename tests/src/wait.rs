//! Waiting for something outside this process that sends no notification: a port that opens, a process that ends.
//!
//! Not for anything that can be awaited: a sleep in place of a notification hides a race.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `ready` every 10 ms until it says yes; fails with `what` when `limit` has passed.
pub async fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if ready() {
            return Ok(());
        }
        if start.elapsed() > limit {
            bail!("after {limit:?} still waiting for {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The processes whose command line contains `needle`, as `/proc` shows them. A zombie has no command line, so it does
/// not count.
pub fn processes_with(needle: &str) -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(needle))
        })
        .collect()
}
