//! Places at which a test lets the process die, as `kill -9` and a power cut do: no destructor runs, nothing is flushed. Or has
//! it wait there, so that something else comes in between.
//!
//! Only a debug build has them: in a release build the function is empty and no variable is read.

/// Which place, and the how manieth time that it is come by: `NAME:COUNT`; with `:MS` it waits there so long instead of dying.
#[cfg(debug_assertions)]
const VARIABLE: &str = "ORCHESTRATOR_FAILPOINT";

/// Ends the process, or waits, if this place is the one that was asked for.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    // Process-wide, as its end is.
    static ARMED: OnceLock<Option<(String, u64, Option<u64>)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let mut parts = text.split(':');
        let (name, count) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        Some((name, count, parts.next().and_then(|wait| wait.parse().ok())))
    });
    if let Some((place, count, wait)) = armed
        && place == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        if let Some(wait) = wait {
            return std::thread::sleep(std::time::Duration::from_millis(*wait));
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn failpoint(_name: &str) {}
