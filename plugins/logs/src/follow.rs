//! Following a log for a bounded time: what is written is told as it arrives, and nothing is left running on the server.

use std::time::{Duration, Instant};

use orchestrator_sdk::prelude::*;
use orchestrator_sdk::{Finished, Lines, Signal};

use crate::{MAX_LINES, count, shown};

/// The longest time.
pub const MAX_SECONDS: u32 = 60;
/// Bytes after which enough was read.
const MAX_BYTES: usize = 1_000_000;
/// Seconds after which a command ends by itself on the server, when neither we nor the connection are there to end it.
pub const SLACK: u32 = 5;
/// How long a command that was told to end is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a command printed while it was followed.
#[derive(Debug)]
pub struct Followed {
    /// As if it had run to its end. One that was ended because it had its time is taken for one that succeeded.
    pub finished: Finished,
    pub note: Option<String>,
    pub seconds: u64,
}

/// Why it is over.
enum Over {
    Time,
    Enough,
    Cancelled,
    /// The command ended by itself.
    Ended(Finished),
}

/// Follows what a command prints until its time is over, enough has come, or nobody waits for it any more.
pub fn follow(host: &dyn Host, alias: &str, command: Command, asked: Asked<'_>) -> Result<Followed, Problem> {
    let mut process = host.spawn(alias, command)?;
    let started = Instant::now();
    let end = started + Duration::from_secs(asked.seconds.into());
    let (mut finished, mut telling) = (Finished::default(), Telling::new(host, started, asked));
    let over = loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Over::Time;
        }
        let printed = process.read(left)?;
        telling.tell(&printed.stdout, &printed.stderr);
        finished.stdout.extend_from_slice(&printed.stdout);
        finished.stderr.extend_from_slice(&printed.stderr);
        if printed.ended {
            break Over::Ended(process.wait(PATIENCE)?.unwrap_or_default());
        }
        if host.cancelled() {
            break Over::Cancelled;
        }
        // It has waited for all of the time that was left.
        if printed.is_empty() {
            break Over::Time;
        }
        if finished.stdout.len() + finished.stderr.len() >= MAX_BYTES || telling.lines >= MAX_LINES as usize {
            break Over::Enough;
        }
    };
    let seconds = match over {
        Over::Time => asked.seconds.into(),
        _ => started.elapsed().as_secs(),
    };
    if matches!(over, Over::Time | Over::Enough) {
        end_it(&mut process)?;
    }
    let note = match &over {
        Over::Cancelled => Some(format!("the call was cancelled after {seconds} s; this is what had come by then")),
        Over::Enough => Some(format!("so much came that it was followed for {seconds} s only")),
        Over::Time | Over::Ended(_) => None,
    };
    match over {
        Over::Ended(ended) => (finished.exit_code, finished.exit_signal) = (ended.exit_code, ended.exit_signal),
        _ => finished.exit_code = Some(0),
    }
    Ok(Followed { finished, note, seconds })
}

/// Ends a command that would go on. Dropping it would do the same less gently.
fn end_it(process: &mut orchestrator_sdk::Process) -> Result<(), Problem> {
    if process.signal(Signal::Term)? {
        // Read, because a command that cannot print may not end.
        while let Ok(printed) = process.read(PATIENCE)
            && !printed.ended
            && !printed.is_empty()
        {}
    }
    Ok(())
}

/// What is wanted of what a command prints.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub seconds: u32,
    /// Lines of standard output before those of the log.
    pub preamble: usize,
    pub grep: Option<&'a str>,
    /// What a line of standard output says; nothing for one that is not of the log.
    pub says: fn(&str) -> Option<String>,
}

impl Followed {
    /// What a command that was not followed printed.
    pub fn at_once(finished: Finished) -> Self {
        Followed { finished, note: None, seconds: 0 }
    }

    /// How long it was followed, behind other words.
    pub fn about(&self) -> String {
        if self.seconds > 0 { format!(", followed for {} s", self.seconds) } else { String::new() }
    }
}

/// For a log that is printed as it is.
pub fn itself(line: &str) -> Option<String> {
    Some(line.to_owned())
}

/// Reports new lines.
struct Telling<'a> {
    host: &'a dyn Host,
    started: Instant,
    asked: Asked<'a>,
    stdout: Lines,
    stderr: Lines,
    skip: usize,
    /// That came so far.
    lines: usize,
}

impl<'a> Telling<'a> {
    fn new(host: &'a dyn Host, started: Instant, asked: Asked<'a>) -> Self {
        let skip = asked.preamble;
        Telling { host, started, asked, stdout: Lines::default(), stderr: Lines::default(), skip, lines: 0 }
    }

    /// One report for all lines that came at once: how many, and the last of them.
    fn tell(&mut self, stdout: &[u8], stderr: &[u8]) {
        let mut new = self.stdout.push(stdout);
        let skipped = self.skip.min(new.len());
        self.skip -= skipped;
        new.drain(..skipped);
        let mut new: Vec<String> = new.iter().filter_map(|line| (self.asked.says)(line)).collect();
        new.extend(self.stderr.push(stderr));
        self.lines += new.len();
        new.retain(|line| shown::has(line, self.asked.grep));
        if let Some(last) = new.last() {
            let message = format!("{}: {}", count(new.len(), "line"), shown::safe(last));
            let seconds = f64::from(self.asked.seconds);
            self.host.report(self.started.elapsed().as_secs_f64().min(seconds), Some(seconds), Some(&message));
        }
    }
}
