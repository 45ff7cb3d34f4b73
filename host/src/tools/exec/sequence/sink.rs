//! Takes what the shell prints: marks out of it, the rest to the job's spool, and down which step which bytes belong to.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::call::Report;
use crate::capability::{Mark, OutputSink, Piece, Splitter, Stream};
use crate::error::Problem;
use crate::tools::exec::reporting::Reporting;

/// The step that runs, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub step: usize,
    pub since: Instant,
}

/// What is known of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub began: Option<Instant>,
    pub ended: Option<Ended>,
    /// Where its output lies in the job's, in bytes.
    pub stdout: Range<u64>,
    pub stderr: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: u32,
    /// It had its share and was stopped.
    pub stopped: bool,
    pub after: Duration,
}

pub struct Recording {
    splitter: Splitter,
    reporting: Reporting,
    steps: Vec<Recorded>,
    /// The step that each stream is at.
    stdout: Place,
    stderr: Place,
    now: watch::Sender<Option<Now>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    step: Option<usize>,
    written: u64,
}

impl Recording {
    pub fn new(splitter: Splitter, reporting: Reporting, steps: usize, now: watch::Sender<Option<Now>>) -> Self {
        let steps = vec![Recorded::default(); steps];
        Recording { splitter, reporting, steps, stdout: Place::default(), stderr: Place::default(), now }
    }

    /// Hands on what was held back in case it became a mark.
    pub async fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.splitter.finish(stream);
            // The spool takes everything.
            let _ = self.take(stream, rest).await;
        }
    }

    pub fn into_steps(self) -> Vec<Recorded> {
        self.steps
    }

    async fn take(&mut self, stream: Stream, bytes: Vec<u8>) -> Result<(), Problem> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.reporting.write(stream, &bytes).await?;
        let place = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        place.written += bytes.len() as u64;
        if let Some(step) = place.step.and_then(|step| self.steps.get_mut(step)) {
            let range = match stream {
                Stream::Stdout => &mut step.stdout,
                Stream::Stderr => &mut step.stderr,
            };
            range.end = place.written;
        }
        Ok(())
    }

    fn mark(&mut self, stream: Stream, mark: Mark) {
        let total = self.steps.len();
        match (mark, stream) {
            (Mark::Begin(number), _) => {
                let place = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                place.step = Some(number);
                let Some(step) = self.steps.get_mut(number) else { return };
                let range = place.written..place.written;
                if stream == Stream::Stderr {
                    step.stderr = range;
                    return;
                }
                step.stdout = range;
                let since = Instant::now();
                step.began = Some(since);
                self.now.send_replace(Some(Now { step: number, since }));
                self.reporting.progress.report(Report {
                    done: number as f64,
                    total: Some(total as f64),
                    message: Some(format!("step {} of {total}", number + 1)),
                });
            }
            // Said on both streams; one is enough.
            (Mark::End { step: number, code, stopped }, Stream::Stdout) => {
                if let Some(step) = self.steps.get_mut(number)
                    && let Some(began) = step.began
                {
                    step.ended = Some(Ended { code, stopped, after: began.elapsed() });
                    self.now.send_replace(None);
                }
            }
            (Mark::End { .. }, Stream::Stderr) => {}
        }
    }
}

impl OutputSink for Recording {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        for piece in self.splitter.push(stream, bytes) {
            match piece {
                Piece::Bytes(bytes) => self.take(stream, bytes).await?,
                Piece::Mark(mark) => self.mark(stream, mark),
            }
        }
        Ok(())
    }
}
