//! What jobs print: kept as the bytes that they are, shown as text that a model can read.

mod read;
mod show;
mod spool;

use serde::{Deserialize, Serialize};

use crate::capability::Stream;

pub(super) use read::Source;
pub use read::{Match, Matches, Output, Page, Rendered};
pub use show::{Shown, clean};
pub use spool::Spool;
pub(super) use spool::{Kept, file_name, parse_file_name};

/// How much of a stream stays in memory before it goes to a file; also the size of a write to that file.
pub const MEMORY_LIMIT: usize = 64 << 10;
/// How much of a stream is kept at all.
pub const KEPT_LIMIT: u64 = 64 << 20;
/// What a job printed up to this size is kept beside its record instead of in a file.
const INLINE_LIMIT: usize = 4 << 10;

/// Bytes of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamCounts {
    /// Bytes that were printed.
    pub total: u64,
    /// Bytes of these that can be read, from the beginning.
    pub kept: u64,
}

/// Bytes of both streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub stdout: StreamCounts,
    pub stderr: StreamCounts,
}

impl Counts {
    pub fn is_empty(&self) -> bool {
        self.stdout.total == 0 && self.stderr.total == 0
    }

    pub fn of(&self, stream: Stream) -> StreamCounts {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// A stream's name in files, arguments and results.
pub fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests;
