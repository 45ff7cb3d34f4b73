//! `progress`: how far a call has come, and whether anybody still wants its result. How often a client is told is decided
//! where the client is known; here only the last report is kept.

use wasmtime::component::{HasSelf, Linker};

use crate::call::{Call, Report};
use crate::plugins::bindings::orchestrator::plugin::progress as wit;
use crate::plugins::describe::one_line;

pub struct Context {
    pub call: Call,
    /// The greatest `done` so far.
    pub done: f64,
}

/// A report that is safe to show: finite numbers that never go backwards (MCP requires it), one short line.
fn report(before: f64, done: f64, total: Option<f64>, message: Option<&str>) -> Report {
    let done = if done.is_finite() { done.max(before) } else { before };
    let total = total.filter(|total| total.is_finite() && *total >= 0.0);
    let message = message.map(one_line).filter(|line| !line.is_empty());
    Report { done, total, message }
}

impl wit::Host for Context {
    fn report(&mut self, done: f64, total: Option<f64>, message: Option<String>) -> wasmtime::Result<()> {
        let report = report(self.done, done, total, message.as_deref());
        self.done = report.done;
        self.call.progress.report(report);
        Ok(())
    }

    fn cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.call.cancel.is_cancelled())
    }
}

pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, context: fn(&mut T) -> &mut Context) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_never_goes_backwards_and_holds_finite_numbers_and_one_line() {
        let check = |done: f64, total: Option<f64>, expected: (f64, Option<f64>)| {
            let report = report(2.0, done, total, None);
            assert_eq!((report.done, report.total), expected);
        };
        check(3.0, Some(4.0), (3.0, Some(4.0)));
        check(1.0, None, (2.0, None));
        check(f64::NAN, Some(f64::INFINITY), (2.0, None));
        check(f64::INFINITY, Some(-1.0), (2.0, None));
        assert_eq!(report(0.0, 1.0, None, Some("two\nlines ")).message.as_deref(), Some("two lines"));
        assert_eq!(report(0.0, 1.0, None, Some(" \n")).message, None);
    }
}
