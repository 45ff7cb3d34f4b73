//! A command's output in bounded memory: the beginning and the end of each stream, whatever lies between. Not a record: what
//! is left out here is gone.

use std::collections::VecDeque;

use crate::error::Problem;
use crate::ssh::{OutputSink, Stream};

/// Both streams of one command.
#[derive(Clone, Debug)]
pub struct Excerpt {
    pub stdout: Ends,
    pub stderr: Ends,
}

/// The two ends of a stream.
#[derive(Clone, Debug)]
pub struct Ends {
    /// Bytes kept of each end.
    limit: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

impl Excerpt {
    /// Keeps at most `limit` bytes of each stream, half of them from its beginning.
    pub fn new(limit: usize) -> Self {
        let ends = Ends { limit: (limit / 2).max(1), head: Vec::new(), tail: VecDeque::new(), total: 0 };
        Excerpt { stdout: ends.clone(), stderr: ends }
    }
}

impl OutputSink for Excerpt {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        match stream {
            Stream::Stdout => self.stdout.push(bytes),
            Stream::Stderr => self.stderr.push(bytes),
        }
        Ok(())
    }
}

impl Ends {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.limit.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(head);
        let skipped = rest.len().saturating_sub(self.limit);
        let rest = rest.get(skipped..).unwrap_or_default();
        let excess = (self.tail.len() + rest.len()).saturating_sub(self.limit);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend(rest);
    }

    /// Bytes that were printed.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that were printed and not kept.
    pub fn omitted(&self) -> u64 {
        self.total.saturating_sub((self.head.len() + self.tail.len()) as u64)
    }

    /// What was kept of the beginning and of the end, without characters that the gap between them would split.
    /// Without a gap all of it is in the first half.
    pub fn halves(&self) -> (Vec<u8>, Vec<u8>) {
        let tail = self.tail.iter().copied();
        if self.omitted() == 0 {
            return (self.head.iter().copied().chain(tail).collect(), Vec::new());
        }
        let mut head = self.head.clone();
        if let Err(error) = std::str::from_utf8(&head)
            && error.error_len().is_none()
        {
            head.truncate(error.valid_up_to());
        }
        // A character has at most three bytes after its first.
        let split = self.tail.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        (head, tail.skip(split).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: usize, writes: &[&str], head: &str, tail: &str, omitted: u64) {
        let mut excerpt = Excerpt::new(limit);
        for write in writes {
            excerpt.stdout.push(write.as_bytes());
        }
        let (first, last) = excerpt.stdout.halves();
        assert_eq!((String::from_utf8(first).unwrap(), String::from_utf8(last).unwrap()), (head.into(), tail.into()));
        assert_eq!(excerpt.stdout.omitted(), omitted);
        assert_eq!(excerpt.stdout.total(), writes.iter().map(|write| write.len() as u64).sum::<u64>());
    }

    #[test]
    fn both_ends_are_kept_however_the_bytes_come() {
        check(8, &["abc"], "abc", "", 0);
        check(8, &["abcd", "efgh"], "abcdefgh", "", 0);
        check(8, &["abcdefghi"], "abcd", "fghi", 1);
        check(8, &["ab", "cdef", "gh", "ijk"], "abcd", "hijk", 3);
        check(8, &["abcdefgh", "0123456789"], "abcd", "6789", 10);
        check(8, &[], "", "", 0);
    }

    #[test]
    fn a_gap_splits_no_character() {
        check(8, &["abcé", "xxxxxxxx", "éabc"], "abc", "abc", 10);
    }
}
