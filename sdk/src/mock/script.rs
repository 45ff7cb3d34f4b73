//! Processes of the mock host: what each prints, in which order, and how it ends. No time passes: a silence is an empty read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::process::Running;
use crate::{Finished, Printed, Problem, Signal};

/// What a process does: one piece for each read. One without an end goes on in silence until it is signalled or dropped.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pieces: VecDeque<Printed>,
    end: Option<Result<Finished, Problem>>,
}

impl Script {
    /// A process that prints nothing and does not end.
    pub fn new() -> Self {
        Script::default()
    }

    /// It prints this to standard output.
    pub fn stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push_back(Printed { stdout: bytes.into(), ..Printed::default() });
        self
    }

    /// It prints this to standard error.
    pub fn stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push_back(Printed { stderr: bytes.into(), ..Printed::default() });
        self
    }

    /// It prints nothing for as long as a read waits.
    pub fn silence(mut self) -> Self {
        self.pieces.push_back(Printed::default());
        self
    }

    /// Then it exits with this status.
    pub fn exits(mut self, exit_code: u32) -> Self {
        self.end = Some(Ok(Finished { exit_code: Some(exit_code), ..Finished::default() }));
        self
    }

    /// Then it cannot be watched any more.
    pub fn fails(mut self, problem: Problem) -> Self {
        self.end = Some(Err(problem));
        self
    }
}

/// What was done to the processes of a mock host.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) signals: Vec<Signal>,
    /// Processes that had not ended when they were dropped.
    pub(super) stopped: usize,
}

/// A process that follows its script.
pub(super) struct Scripted {
    pub(super) script: Script,
    pub(super) deeds: Rc<RefCell<Deeds>>,
}

impl Scripted {
    fn end(&self) -> Option<Result<Finished, Problem>> {
        self.script.end.clone().filter(|_| self.script.pieces.is_empty())
    }
}

impl Running for Scripted {
    fn read(&mut self, _: Duration) -> Result<Printed, Problem> {
        if let Some(printed) = self.script.pieces.pop_front() {
            return Ok(printed);
        }
        match self.end() {
            Some(Ok(_)) => Ok(Printed { ended: true, ..Printed::default() }),
            Some(Err(problem)) => Err(problem),
            None => Ok(Printed::default()),
        }
    }

    /// Every signal ends it.
    fn signal(&mut self, signal: Signal) -> Result<bool, Problem> {
        if self.end().is_some() {
            return Ok(false);
        }
        self.deeds.borrow_mut().signals.push(signal);
        let exit_signal = Some(signal.name().to_owned());
        self.script = Script { end: Some(Ok(Finished { exit_signal, ..Finished::default() })), ..Script::default() };
        Ok(true)
    }

    fn wait(&mut self, _: Duration) -> Result<Option<Finished>, Problem> {
        self.end().transpose()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if self.end().is_none() {
            self.deeds.borrow_mut().stopped += 1;
        }
    }
}
