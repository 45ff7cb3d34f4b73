//! How far a transfer has come, and what that looks like for whoever waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{Progress, Report};

/// No more reports than anybody could read.
const PACE: Duration = Duration::from_millis(200);

/// Counts, and reports now and then.
pub struct Meter {
    progress: Progress,
    started: Instant,
    bytes: AtomicU64,
    files: AtomicU64,
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    reported: Mutex<Option<Instant>>,
}

impl Meter {
    pub fn new(progress: Progress) -> Self {
        Meter {
            progress,
            started: Instant::now(),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            total_files: AtomicU64::new(0),
            reported: Mutex::new(None),
        }
    }

    /// So much is to be done.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.total_files.fetch_add(files, Ordering::Relaxed);
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn arrived(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.report();
    }

    /// So much is to be moved once more.
    pub fn again(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much need not be moved after all.
    pub fn spared(&self, bytes: u64) {
        let less = |total: u64| Some(total.saturating_sub(bytes));
        let _ = self.total_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub fn file_done(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.report();
    }

    /// Moved so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn report(&self) {
        {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.is_some_and(|at| at.elapsed() < PACE) {
                return;
            }
            *reported = Some(Instant::now());
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes, total) = (read(&self.bytes), read(&self.total_bytes));
        let message = status(bytes, total, read(&self.files), read(&self.total_files), self.started.elapsed());
        self.progress.report(Report { done: bytes as f64, total: Some(total as f64), message: Some(message) });
    }
}

fn status(bytes: u64, total: u64, files: u64, all_files: u64, elapsed: Duration) -> String {
    let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-3);
    let mut text = format!("{} of {}, {}/s", size(bytes), size(total), size(rate as u64));
    if all_files > 1 {
        text.push_str(&format!(", {files} of {all_files} files"));
    }
    if rate > 0.0 && total > bytes {
        text.push_str(&format!(", {} s left", ((total - bytes) as f64 / rate).ceil() as u64));
    }
    text
}

/// Bytes for people, in decimal units as disks and networks are sold.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_readable() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (999_999, "1.0 MB"),
            (5 << 40, "5.5 TB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        let second = Duration::from_secs(1);
        assert_eq!(
            status(50_000_000, 100_000_000, 3, 8, second),
            "50.0 MB of 100.0 MB, 50.0 MB/s, 3 of 8 files, 1 s left"
        );
        assert_eq!(status(10, 10, 1, 1, second), "10 B of 10 B, 10 B/s");
    }
}
