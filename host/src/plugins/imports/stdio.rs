//! Standard output and standard error of a guest: lines for the orchestrator's log, never our own streams (ours carry MCP
//! messages). The last lines of standard error are also kept, since that is where a panic says why.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::log::{Lines, MAX_MESSAGE, shorten};
use crate::plugins::bindings::orchestrator::plugin::log::Level;

/// What a guest may write before it is asked to come again; WASI writes at most 4 KiB at a time in practice.
const PERMIT: usize = 64 << 10;
/// Kept of standard error for the message about a trap.
const LAST_WORDS: usize = 1 << 10;

/// One of the two streams. Clones write into the same one, as WASI wants it.
///
/// A std mutex: it is held while a line is cut off and never across an await.
#[derive(Clone)]
pub struct LogStream(Arc<Mutex<Buffer>>);

struct Buffer {
    lines: Lines,
    stream: &'static str,
    level: Level,
    /// A line without its end, at most [`MAX_MESSAGE`] bytes.
    pending: Vec<u8>,
    last: String,
}

impl LogStream {
    pub fn stdout(lines: Lines) -> Self {
        Self::new(lines, "stdout", Level::Info)
    }

    pub fn stderr(lines: Lines) -> Self {
        Self::new(lines, "stderr", Level::Warn)
    }

    fn new(lines: Lines, stream: &'static str, level: Level) -> Self {
        LogStream(Arc::new(Mutex::new(Buffer { lines, stream, level, pending: Vec::new(), last: String::new() })))
    }

    fn take(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(bytes);
    }

    /// Writes what is left of an unfinished line and returns the last lines that were written.
    pub fn finish(&self) -> String {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.end_line();
        std::mem::take(&mut buffer.last)
    }
}

impl Buffer {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(MAX_MESSAGE) {
                if self.pending.len() + part.len() > MAX_MESSAGE {
                    self.end_line();
                }
                self.pending.extend_from_slice(part);
            }
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = shorten(&String::from_utf8_lossy(&std::mem::take(&mut self.pending)));
        if line.is_empty() {
            return;
        }
        self.lines.write(self.level, self.stream, &line, "");
        self.last.push_str(&line);
        self.last.push('\n');
        let mut start = self.last.len().saturating_sub(LAST_WORDS);
        while !self.last.is_char_boundary(start) {
            start += 1;
        }
        self.last.drain(..start);
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, which is not linked.
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> LogStream {
        LogStream::stderr(Lines::new("logs", "1.0.0", None))
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let stream = stream();
        for piece in ["panicked at ", "src/lib.rs\nindex", " out of bounds"] {
            stream.take(piece.as_bytes());
        }
        assert_eq!(stream.finish(), "panicked at src/lib.rs\nindex out of bounds\n");
    }

    #[test]
    fn a_line_without_an_end_is_kept_in_bounded_memory() {
        let stream = stream();
        for _ in 0..1000 {
            stream.take(&[b'x'; 5000]);
        }
        let buffer = stream.0.lock().unwrap();
        assert!(buffer.pending.len() <= MAX_MESSAGE && buffer.last.len() <= LAST_WORDS);
    }
}
