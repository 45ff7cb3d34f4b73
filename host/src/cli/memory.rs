//! Memory that a burst of work has used goes back to the system: the allocator would keep it for as long as the process lives,
//! which may be months.
//!
//! Not a limit: every part bounds what it uses by itself.

use std::time::Duration;

/// How often it is looked after.
const EVERY: Duration = Duration::from_secs(10);
/// Less than that is left for the next call, which will want it. In bytes.
const WORTH: u64 = 16 << 20;

/// Gives back what is unused now, and whenever the process has grown since. Never returns.
pub async fn give_back_from_now_on() {
    let mut settled = None;
    loop {
        let now = resident();
        settled = match settled {
            Some(least) if now < least + WORTH => Some(now.min(least)),
            // It takes some milliseconds per hundred megabytes, which no call should wait for.
            _ => tokio::task::spawn_blocking(give_back).await.ok().map(|()| resident()),
        };
        tokio::time::sleep(EVERY).await;
    }
}

/// The resident set, in bytes; nothing where it can't be known.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}

fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim only gives back pages that hold no allocation; it may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
