//! A log file that never grows beyond two halves: when one is full it becomes the older one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// The newer half.
pub const CURRENT: &str = "orchestrator.jsonl";
/// The older half.
pub const PREVIOUS: &str = "orchestrator.1.jsonl";

/// The size at which a half is full, in bytes.
const HALF: u64 = 4 << 20;

/// Where log lines go. A plain mutex: a line is written while it is held, and nothing is awaited.
#[derive(Clone)]
pub struct RotatingFile(Arc<Mutex<State>>);

struct State {
    directory: PathBuf,
    file: File,
    size: u64,
}

impl RotatingFile {
    /// Opens or creates the log in `directory`, which is made with mode 0700.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = open(&directory.join(CURRENT))?;
        let size = file.metadata()?.len();
        Ok(RotatingFile(Arc::new(Mutex::new(State { directory: directory.to_owned(), file, size }))))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for &RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.size >= HALF {
            std::fs::rename(state.directory.join(CURRENT), state.directory.join(PREVIOUS))?;
            state.file = open(&state.directory.join(CURRENT))?;
            state.size = 0;
        }
        state.file.write_all(line)?;
        state.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatingFile {
    type Writer = &'a RotatingFile;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_half_becomes_the_older_one_and_no_line_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let file = RotatingFile::open(directory.path()).unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..5 {
            (&file).write_all(&line).unwrap();
        }
        let size = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().len();
        assert_eq!((size(PREVIOUS), size(CURRENT)), (4 << 20, 1 << 20));
    }
}
