//! A running command's last line, for whoever follows its progress.

use std::time::Instant;

use crate::call::{Progress, Report};
use crate::capability::{OutputSink, Stream};
use crate::error::Problem;
use crate::jobs::{Spool, clean};

/// Passes output on to the spool, and its last line to whoever follows the call's progress.
pub struct Reporting {
    pub spool: Spool,
    pub progress: Progress,
    pub started: Instant,
}

impl OutputSink for Reporting {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        self.spool.write(stream, bytes).await;
        if let Some(line) = last_line(bytes) {
            self.progress.report(Report {
                done: self.started.elapsed().as_secs_f64(),
                total: None,
                message: Some(line),
            });
        }
        Ok(())
    }
}

/// The last line of a packet that says something, short enough for a status line.
fn last_line(bytes: &[u8]) -> Option<String> {
    let tail = bytes.get(bytes.len().saturating_sub(400)..).unwrap_or(bytes);
    let shown = clean(tail);
    let line = shown.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(160).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_reported() {
        for (bytes, expected) in
            [("a\nb\n", Some("b")), ("\x1b[32m50 %\x1b[0m\r", Some("50 %")), ("a\n\n  \n", Some("a")), ("\n", None)]
        {
            assert_eq!(last_line(bytes.as_bytes()).as_deref(), expected, "{bytes:?}");
        }
        assert_eq!(last_line("ä".repeat(1000).as_bytes()).map(|line| line.chars().count()), Some(160));
    }
}
