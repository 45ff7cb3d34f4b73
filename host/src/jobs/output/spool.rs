//! Taking a running job's output: in memory while it is small, in files once it is not, counted but dropped past the limit.
//!
//! The files are not synced: after a power failure the last seconds of an output may be missing, its job is not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::call::JobId;
use crate::capability::{OutputSink, Stream};
use crate::error::Problem;

use super::read::{Output, Source};
use super::{Counts, INLINE_LIMIT, KEPT_LIMIT, MEMORY_LIMIT, StreamCounts, stream_name};

/// Where a job's output goes. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Both>);

#[derive(Debug)]
struct Both {
    id: JobId,
    stdout: Arc<StreamSpool>,
    stderr: Arc<StreamSpool>,
}

/// One stream. A plain mutex: it is held for a copy or one file operation, and never across an await.
#[derive(Debug)]
pub(crate) struct StreamSpool {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    /// What follows the bytes in the file.
    memory: Vec<u8>,
    file: Option<File>,
    in_file: u64,
    /// The file could not be written: what is in memory stays there and nothing is added.
    broken: bool,
}

/// What a finished spool leaves to be stored with the job.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub counts: Counts,
    /// Streams that are too small for a file.
    pub inline: Vec<(Stream, Vec<u8>)>,
}

/// The file of one stream of a job.
pub(crate) fn file_name(id: JobId, stream: Stream) -> String {
    format!("{id}.{}", stream_name(stream))
}

/// The job that a file of that name belongs to.
pub(crate) fn parse_file_name(name: &str) -> Option<JobId> {
    let (id, stream) = name.split_once('.')?;
    matches!(stream, "stdout" | "stderr").then(|| id.parse().ok()).flatten()
}

impl Spool {
    /// A spool whose files, if it needs any, go to `directory`.
    pub fn new(directory: &Path, id: JobId) -> Self {
        let stream =
            |stream| Arc::new(StreamSpool { path: directory.join(file_name(id, stream)), state: Mutex::default() });
        Spool(Arc::new(Both { id, stdout: stream(Stream::Stdout), stderr: stream(Stream::Stderr) }))
    }

    /// A spool that goes on behind what an earlier process has left in files. What that had in memory is printed again.
    pub fn resume(directory: &Path, id: JobId) -> Self {
        let spool = Spool::new(directory, id);
        for stream in [&spool.0.stdout, &spool.0.stderr] {
            // Without a file nothing was kept.
            if let Ok(file) = OpenOptions::new().read(true).append(true).open(&stream.path) {
                let len = file.metadata().map_or(0, |file| file.len());
                *stream.lock() = State { total: len, file: Some(file), in_file: len, ..State::default() };
            }
        }
        spool
    }

    /// Counts bytes that were printed and are not to be had.
    pub fn skip(&self, stream: Stream, bytes: u64) {
        self.stream(stream).lock().total += bytes;
    }

    fn stream(&self, stream: Stream) -> &Arc<StreamSpool> {
        match stream {
            Stream::Stdout => &self.0.stdout,
            Stream::Stderr => &self.0.stderr,
        }
    }

    /// Adds to a stream. Waits for the disk when a buffer is full. A disk that does not take it costs the output its rest
    /// ([`Spool::counts`] shows that), not the job its life.
    pub async fn write(&self, stream: Stream, bytes: &[u8]) {
        let spool = self.stream(stream);
        if spool.push(bytes) {
            let spool = spool.clone();
            // The join fails only when the runtime is going down.
            let _ = tokio::task::spawn_blocking(move || spool.flush()).await;
        }
    }

    /// What was printed so far.
    pub fn counts(&self) -> Counts {
        Counts { stdout: self.0.stdout.counts(), stderr: self.0.stderr.counts() }
    }

    /// What was printed so far, to be read.
    pub fn output(&self) -> Output {
        let source = |spool: &Arc<StreamSpool>| Source::Live(spool.clone());
        Output::new(self.0.id, source(&self.0.stdout), source(&self.0.stderr), self.counts())
    }

    /// Ends the writing. What is not in a file after this is in the answer.
    pub(crate) async fn finish(&self) -> Kept {
        let mut inline = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let spool = self.stream(stream).clone();
            if spool.needs_file() {
                let _ = tokio::task::spawn_blocking({
                    let spool = spool.clone();
                    move || spool.flush()
                })
                .await;
            }
            let state = spool.lock();
            if state.in_file == 0 && !state.memory.is_empty() {
                inline.push((stream, state.memory.clone()));
            }
        }
        Kept { counts: self.counts(), inline }
    }
}

impl OutputSink for Spool {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        Spool::write(self, stream, bytes).await;
        Ok(())
    }
}

impl StreamSpool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Adds to the buffer; says whether it should be flushed.
    fn push(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        state.total += bytes.len() as u64;
        if state.broken {
            return false;
        }
        let kept = state.kept();
        let room = usize::try_from(KEPT_LIMIT.saturating_sub(kept)).unwrap_or(usize::MAX);
        state.memory.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        state.memory.len() > MEMORY_LIMIT
    }

    fn needs_file(&self) -> bool {
        let state = self.lock();
        !state.broken && !state.memory.is_empty() && (state.in_file > 0 || state.memory.len() > INLINE_LIMIT)
    }

    /// Writes the buffer to the file, which it creates if need be.
    fn flush(&self) {
        let mut state = self.lock();
        if let Err(error) = state.flush(&self.path) {
            tracing::error!(path = %self.path.display(), %error, "output could not be kept");
            state.broken = true;
            let position = state.in_file;
            // A part may have been written: cut it off, so that file and memory don't overlap.
            if let Some(file) = &state.file {
                let _ = file.set_len(position);
            }
            state.memory.truncate(MEMORY_LIMIT);
        }
    }

    fn counts(&self) -> StreamCounts {
        let state = self.lock();
        StreamCounts { total: state.total, kept: state.kept() }
    }

    pub(super) fn len(&self) -> u64 {
        self.lock().kept()
    }

    pub(super) fn in_memory(&self) -> bool {
        self.lock().in_file == 0
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.lock();
        match (&state.file, offset.checked_sub(state.in_file)) {
            (Some(file), None) => {
                let left = usize::try_from(state.in_file - offset).unwrap_or(usize::MAX).min(buffer.len());
                file.read_at(buffer.get_mut(..left).unwrap_or_default(), offset)
            }
            (_, inside) => {
                let start = usize::try_from(inside.unwrap_or(offset)).unwrap_or(usize::MAX);
                let mut rest = state.memory.get(start..).unwrap_or_default();
                io::Read::read(&mut rest, buffer)
            }
        }
    }
}

impl State {
    fn kept(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    fn flush(&mut self, path: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
                file.set_len(0)?;
                none.insert(file)
            }
        };
        file.write_all(&self.memory)?;
        self.in_file += self.memory.len() as u64;
        self.memory = Vec::new();
        Ok(())
    }
}
