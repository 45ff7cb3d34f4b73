//! `log`: lines of a guest in the orchestrator's own log, bounded in length and number. The standard streams end here too
//! (see [`stdio`](super::stdio)).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::component::{HasSelf, Linker};

use crate::call::JobId;
use crate::plugins::bindings::orchestrator::plugin::log as wit;
use crate::plugins::describe::clamp;

/// Bytes of a message, as the contract says.
pub const MAX_MESSAGE: usize = 4 << 10;
const MAX_FIELDS: usize = 16;
/// Characters of a field's name and of its value.
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 256;
/// Lines of one call: a guest in a loop must not push everybody else's lines out of the log.
const MAX_LINES: usize = 1000;

/// Where the lines of one call go, from the import and from both streams.
#[derive(Clone)]
pub struct Lines {
    plugin: Arc<str>,
    version: Arc<str>,
    job: Option<JobId>,
    written: Arc<AtomicUsize>,
}

impl Lines {
    pub fn new(plugin: &str, version: &str, job: Option<JobId>) -> Self {
        Lines { plugin: plugin.into(), version: version.into(), job, written: Arc::new(AtomicUsize::new(0)) }
    }

    /// Writes one line; the one after the last allowed says that the rest is dropped.
    pub fn write(&self, level: wit::Level, stream: &'static str, message: &str, fields: &str) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let (message, fields) = match number.cmp(&MAX_LINES) {
            std::cmp::Ordering::Less => (message, fields),
            std::cmp::Ordering::Equal => ("further lines of this call are dropped", ""),
            std::cmp::Ordering::Greater => return,
        };
        let job = self.job.map(|job| job.to_string()).unwrap_or_default();
        let (plugin, version) = (&self.plugin, &self.version);
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(target: "plugin", $level, %plugin, %version, %job, stream, fields, "{message}")
            };
        }
        match level {
            wit::Level::Error => line!(tracing::Level::ERROR),
            wit::Level::Warn => line!(tracing::Level::WARN),
            wit::Level::Info => line!(tracing::Level::INFO),
            wit::Level::Debug => line!(tracing::Level::DEBUG),
            wit::Level::Trace => line!(tracing::Level::TRACE),
        }
    }
}

pub struct Context {
    pub lines: Lines,
}

/// At most [`MAX_MESSAGE`] bytes on one line, whole characters only, nothing that moves a terminal's cursor.
pub fn shorten(message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let cut = message.get(..end).unwrap_or_default();
    clamp(cut.trim_end(), MAX_MESSAGE).replace('\n', "⏎")
}

fn join(fields: &[(String, String)]) -> String {
    let field = |(name, value): &(String, String)| format!("{}={:?}", clamp(name, MAX_NAME), clamp(value, MAX_VALUE));
    fields.iter().take(MAX_FIELDS).map(field).collect::<Vec<_>>().join(" ")
}

impl wit::Host for Context {
    fn write(&mut self, level: wit::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.lines.write(level, "log", &shorten(&message), &join(&fields));
        Ok(())
    }
}

pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, context: fn(&mut T) -> &mut Context) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters_and_stays_on_one_line() {
        assert_eq!(shorten("two\nlines\u{1b}[2J\r\n"), "two⏎lines[2J");
        let long = shorten(&format!("a{}", "ä".repeat(MAX_MESSAGE)));
        assert_eq!(long.len(), MAX_MESSAGE - 1);
        assert!(long.ends_with('ä'));
    }

    #[test]
    fn fields_are_bounded_in_number_and_length() {
        let field = ("name\n".repeat(100), "v\"".repeat(1000));
        let joined = join(&vec![field; 100]);
        assert!(joined.len() < MAX_FIELDS * (MAX_NAME + 3 * MAX_VALUE));
        assert_eq!(join(&[("a".to_owned(), "b c".to_owned())]), "a=\"b c\"");
    }
}
