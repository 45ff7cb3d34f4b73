//! A command that runs while the tool goes on: read as it prints, signalled, waited for. Limits and errors are in `wit/ssh.wit`.

use std::time::Duration;

use crate::{Finished, Problem};

/// A command that runs. Dropping it ends the command.
pub struct Process(Box<dyn Running>);

/// What stands behind a [`Process`]: the contract's resource, or a script of the mock host.
pub(crate) trait Running {
    fn read(&mut self, timeout: Duration) -> Result<Printed, Problem>;
    fn signal(&mut self, signal: Signal) -> Result<bool, Problem>;
    fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, Problem>;
}

/// What a process printed since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// Not necessarily whole lines: see [`Lines`].
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The command has ended and nothing more will come.
    pub ended: bool,
}

impl Printed {
    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }
}

/// A signal for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Kill,
    Usr1,
    Usr2,
}

impl Signal {
    /// Its name without SIG.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Quit => "QUIT",
            Signal::Term => "TERM",
            Signal::Kill => "KILL",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
        }
    }
}

impl Process {
    pub(crate) fn new(running: impl Running + 'static) -> Self {
        Process(Box::new(running))
    }

    /// Waits until something was printed, at most so long, and returns all that is there. Nothing in that time is no problem.
    /// When the call is cancelled it returns at once, one time: return what you have, see [`Host::cancelled`](crate::Host::cancelled).
    pub fn read(&mut self, timeout: Duration) -> Result<Printed, Problem> {
        self.0.read(timeout)
    }

    /// Sends a signal to the command and what it started. False when it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<bool, Problem> {
        self.0.signal(signal)
    }

    /// Waits for the end, at most so long; `None` when the command still runs then. The outputs of the answer are empty: `read`
    /// has them, and a command that prints much does not end before somebody reads.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Finished>, Problem> {
        self.0.wait(timeout)
    }
}

/// Bytes of a line after which it is cut.
const MAX_LINE: usize = 64 << 10;

/// Makes lines of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes complete, without their line breaks. What is not UTF-8 is replaced.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.last() == Some(&b'\n') {
                self.begun.pop();
            } else if self.begun.len() < MAX_LINE {
                continue;
            }
            lines.push(self.take());
        }
        lines
    }

    /// The line that has no end yet, if there is one.
    pub fn finish(&mut self) -> Option<String> {
        (!self.begun.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let line = std::mem::take(&mut self.begun);
        String::from_utf8_lossy(&line).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let text = "one\n\nthree é\r\nfo".as_bytes();
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let whole: Vec<String> = text.chunks(size).flat_map(|piece| lines.push(piece)).collect();
            assert_eq!(whole, ["one", "", "three é\r"], "{size}");
            assert_eq!((lines.finish().as_deref(), lines.finish()), (Some("fo"), None));
        }
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let mut lines = Lines::default();
        let cut: Vec<String> = (0..3).flat_map(|_| lines.push(&[b'x'; MAX_LINE / 2])).collect();
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE]);
        assert_eq!(lines.finish().map(|rest| rest.len()), Some(MAX_LINE / 2));
    }
}
