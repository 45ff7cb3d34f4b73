//! Reading a job's output, while it runs and after: head and tail, page by page, the last lines, the lines that match.
//!
//! Never more than a window of it is in memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::call::JobId;
use crate::capability::Stream;
use crate::error::Problem;

use super::spool::StreamSpool;
use super::{Counts, Shown, StreamCounts, clean, show, stream_name};

/// The most that one answer reads.
const WINDOW: usize = 256 << 10;
/// Longer lines are matched and shown by their beginning.
const LINE_LIMIT: usize = 16 << 10;

/// Where a stream's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Live(Arc<StreamSpool>),
    Bytes(Arc<[u8]>),
    File { file: Arc<File>, len: u64 },
}

/// What a job printed.
#[derive(Clone, Debug)]
pub struct Output {
    id: JobId,
    stdout: Source,
    stderr: Source,
    counts: Counts,
}

/// Both streams as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub stdout: Shown,
    pub stderr: Shown,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub text: String,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// Where the next part begins; `None` at the end of what is there.
    pub next: Option<u64>,
    /// Bytes that can be read.
    pub len: u64,
}

/// A line that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where the line begins, in bytes.
    pub offset: u64,
    pub text: String,
}

/// The lines that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    pub lines: Vec<Match>,
    /// Where to go on looking; `None` when all was looked at.
    pub next: Option<u64>,
}

impl Output {
    pub(crate) fn new(id: JobId, stdout: Source, stderr: Source, counts: Counts) -> Self {
        Output { id, stdout, stderr, counts }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn source(&self, stream: Stream) -> &Source {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// Both streams in at most `limit` characters together with a marker where something is left out. A short stream leaves
    /// its room to the other one.
    pub async fn render(&self, limit: usize) -> Result<Rendered, Problem> {
        // Bytes are at least as many as characters, so this never gives away too much.
        let lengths = [Stream::Stdout, Stream::Stderr]
            .map(|stream| usize::try_from(self.source(stream).len()).unwrap_or(usize::MAX));
        let [stdout, stderr] = share(limit, lengths);
        Ok(Rendered {
            stdout: self.render_stream(Stream::Stdout, stdout).await?,
            stderr: self.render_stream(Stream::Stderr, stderr).await?,
        })
    }

    /// One stream in at most `limit` characters beside the marker.
    pub async fn render_stream(&self, stream: Stream, limit: usize) -> Result<Shown, Problem> {
        let (id, counts) = (self.id, self.counts.of(stream));
        self.with(stream, move |source| {
            let mut shown = render(source, 0..source.len(), id, stream, limit)?;
            note_dropped(&mut shown, counts);
            Ok(shown)
        })
        .await
    }

    /// These bytes of one stream in at most `limit` characters beside the marker.
    pub async fn render_part(&self, stream: Stream, part: Range<u64>, limit: usize) -> Result<Shown, Problem> {
        let id = self.id;
        self.with(stream, move |source| {
            let end = part.end.min(source.len());
            render(source, part.start.min(end)..end, id, stream, limit)
        })
        .await
    }

    /// The part from `offset` of at most `limit` bytes.
    pub async fn page(&self, stream: Stream, offset: u64, limit: usize) -> Result<Page, Problem> {
        self.with(stream, move |source| page(source, offset, limit.clamp(4, WINDOW))).await
    }

    /// The last `lines` lines, as far as they fit into `limit` bytes.
    pub async fn tail(&self, stream: Stream, lines: usize, limit: usize) -> Result<Page, Problem> {
        self.with(stream, move |source| tail(source, lines, limit.clamp(4, WINDOW))).await
    }

    /// The lines from `offset` on that match the regular expression `pattern`, at most `limit` of them.
    pub async fn grep(&self, stream: Stream, pattern: &str, offset: u64, limit: usize) -> Result<Matches, Problem> {
        let regex = RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
            .map_err(|error| Problem::invalid(format!("grep is not a regular expression: {error}")))?;
        self.with(stream, move |source| grep(source, &regex, offset, limit.max(1))).await
    }

    /// Runs `read` here when the bytes are in memory, else where it may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        stream: Stream,
        read: impl FnOnce(&Source) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let source = self.source(stream).clone();
        let id = self.id;
        let result = if source.is_in_memory() {
            read(&source)
        } else {
            tokio::task::spawn_blocking(move || read(&source))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        result.map_err(|error| {
            Problem::internal(format!("the {} of {id} could not be read: {error}", stream_name(stream)))
        })
    }
}

impl Source {
    /// The source that a file is; nothing when there is no such file.
    pub(crate) fn file(path: PathBuf) -> io::Result<Source> {
        match File::open(&path) {
            Ok(file) => Ok(Source::File { len: file.metadata()?.len(), file: Arc::new(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Source::Bytes(Arc::new([]))),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Source::Live(spool) => spool.len(),
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File { len, .. } => *len,
        }
    }

    fn is_in_memory(&self) -> bool {
        match self {
            Source::Live(spool) => spool.in_memory(),
            Source::Bytes(_) => true,
            Source::File { .. } => false,
        }
    }

    /// Up to `length` bytes from `offset`; fewer only at the end.
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; length.min(left)];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let place = offset + filled as u64;
            let count = match self {
                Source::Live(spool) => spool.read_at(place, rest)?,
                Source::Bytes(bytes) => {
                    let start = usize::try_from(place).unwrap_or(usize::MAX);
                    io::Read::read(&mut bytes.get(start..).unwrap_or_default(), rest)?
                }
                Source::File { file, .. } => file.read_at(rest, place)?,
            };
            if count == 0 {
                break;
            }
            filled += count;
        }
        buffer.truncate(filled);
        Ok(buffer)
    }
}

/// `limit` split between two streams of these lengths: halves, but what one does not need goes to the other.
fn share(limit: usize, [first, second]: [usize; 2]) -> [usize; 2] {
    let half = limit / 2;
    let one = first.min(limit - second.min(half));
    [one, second.min(limit - one)]
}

fn render(source: &Source, part: Range<u64>, id: JobId, stream: Stream, limit: usize) -> io::Result<Shown> {
    let Range { start, end } = part;
    let read = |from: u64, length: usize| {
        source.read(from, length.min(usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX)))
    };
    // A character has at most four bytes; colours can make it more, and then the cut comes a little early.
    let window = limit.saturating_mul(4);
    if end - start <= window as u64 {
        let text = clean(&read(start, window)?);
        if text.chars().count() <= limit {
            return Ok(Shown { text, omitted: 0 });
        }
    }
    let half = limit / 2;
    let first = read(start, half.saturating_mul(4))?;
    let first = first.get(..show::head(&first, half)).unwrap_or_default();
    let next = start + first.len() as u64;
    let from = end.saturating_sub(half as u64 * 4).max(next);
    let last = read(from, half.saturating_mul(4))?;
    let last = last.get(last.len() - show::tail(&last, half).min(last.len())..).unwrap_or_default();
    let omitted = (end - next).saturating_sub(last.len() as u64);
    let mut text = clean(first);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!(
        "[… {omitted} bytes left out; read them with task_output (id {id}, stream {}, offset {next}) …]\n",
        stream_name(stream),
    ));
    text.push_str(&clean(last));
    Ok(Shown { text, omitted })
}

fn note_dropped(shown: &mut Shown, counts: StreamCounts) {
    let dropped = counts.total.saturating_sub(counts.kept);
    if dropped > 0 {
        if !shown.text.is_empty() && !shown.text.ends_with('\n') {
            shown.text.push('\n');
        }
        shown.text.push_str(&format!("[{dropped} more bytes were printed but not kept]\n"));
        shown.omitted += dropped;
    }
}

fn page(source: &Source, offset: u64, limit: usize) -> io::Result<Page> {
    let len = source.len();
    let offset = offset.min(len);
    let bytes = source.read(offset, limit)?;
    let mut end = bytes.len();
    if offset + (end as u64) < len {
        // A split character is left to the next page.
        let last = end.saturating_sub(1);
        let start = show::boundary(&bytes, last);
        if start > 0 && bytes.get(start..end).is_some_and(is_incomplete) {
            end = start;
        }
    }
    let next = offset + end as u64;
    Ok(Page { text: clean(bytes.get(..end).unwrap_or_default()), offset, next: (next < len).then_some(next), len })
}

fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn tail(source: &Source, lines: usize, limit: usize) -> io::Result<Page> {
    let len = source.len();
    let from = len.saturating_sub(limit as u64);
    let bytes = source.read(from, limit)?;
    // The line end of the last line does not begin another one.
    let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let mut ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1);
    let start = match lines.checked_sub(1) {
        None => bytes.len(),
        Some(more) => match ends.nth(more) {
            Some(start) => start,
            None if from == 0 => 0,
            // The line that the window cuts is left out, unless it is the only one.
            None => body.iter().position(|byte| *byte == b'\n').map_or(0, |place| place + 1),
        },
    };
    let text = clean(bytes.get(start..).unwrap_or_default());
    Ok(Page { text, offset: from + start as u64, next: None, len })
}

fn grep(source: &Source, regex: &Regex, offset: u64, limit: usize) -> io::Result<Matches> {
    let len = source.len();
    let mut lines = Vec::new();
    let mut shown = 0;
    let mut start = offset.min(len);
    while start < len {
        let window = source.read(start, WINDOW)?;
        if window.is_empty() {
            break;
        }
        let whole = start + window.len() as u64 >= len;
        let usable = match window.iter().rposition(|byte| *byte == b'\n') {
            Some(end) if !whole => end + 1,
            // The last line, or one that is longer than the window.
            _ => window.len(),
        };
        let mut place = start;
        for line in window.get(..usable).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            if lines.len() >= limit || shown > WINDOW {
                return Ok(Matches { lines, next: Some(place) });
            }
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            let cut = if bare.len() > LINE_LIMIT { show::boundary(bare, LINE_LIMIT) } else { bare.len() };
            let text = clean(bare.get(..cut).unwrap_or_default());
            let text = text.trim_end_matches('\n');
            if regex.is_match(text) {
                shown += text.len();
                lines.push(Match { offset: place, text: text.to_owned() });
            }
            place += line.len() as u64;
        }
        start = place;
    }
    Ok(Matches { lines, next: None })
}
