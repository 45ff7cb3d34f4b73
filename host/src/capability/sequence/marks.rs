//! The marks between the outputs of several commands in one shell, and how they are found again in streams that arrive in
//! pieces of any size. Pure.
//!
//! A mark is `RS nonce SP kind SP step SP code RS` (RS is the byte 0x1e). The nonce is random and new each time, and no variable
//! of the shell holds it right behind an RS, so that a command can't print a mark by accident or by printing its environment.

use std::fmt;

use crate::capability::Stream;

const RS: u8 = 0x1e;
/// Longer than any mark's text behind the nonce.
const LONGEST: usize = 32;

/// What the marks of one run look like.
#[derive(Clone)]
pub struct Marks {
    nonce: String,
}

// The nonce is nobody's business.
impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks")
    }
}

/// What a mark says; steps are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Begin(usize),
    End {
        step: usize,
        code: u32,
        /// It had its share and was stopped.
        stopped: bool,
    },
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes(Vec<u8>),
    Mark(Mark),
}

impl Default for Marks {
    fn default() -> Self {
        Marks { nonce: format!("{:032x}", rand::random::<u128>()) }
    }
}

impl Marks {
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Finds the marks in both streams.
    pub fn splitter(&self) -> Splitter {
        let start = [&[RS], self.nonce.as_bytes(), b" "].concat();
        Splitter { start, stdout: Vec::new(), stderr: Vec::new() }
    }
}

/// Takes marks out of two streams.
#[derive(Debug)]
pub struct Splitter {
    /// How every mark begins.
    start: Vec<u8>,
    /// The end of what has arrived of a stream, while it may be the beginning of a mark; shorter than a mark.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Splitter {
    fn held(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// The pieces that are certain once `bytes` have arrived.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<Piece> {
        let mut all = std::mem::take(self.held(stream));
        all.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut rest = all.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == RS) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            plain.extend_from_slice(before);
            match self.read(from) {
                Read::Mark(mark, length) => {
                    flush(&mut plain, &mut pieces);
                    pieces.push(Piece::Mark(mark));
                    rest = from.get(length..).unwrap_or_default();
                }
                Read::Incomplete => {
                    flush(&mut plain, &mut pieces);
                    *self.held(stream) = from.to_vec();
                    return pieces;
                }
                Read::None => {
                    plain.push(RS);
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        plain.extend_from_slice(rest);
        flush(&mut plain, &mut pieces);
        pieces
    }

    /// What was held back, once no more can arrive.
    pub fn finish(&mut self, stream: Stream) -> Vec<u8> {
        std::mem::take(self.held(stream))
    }

    /// What begins with these bytes, of which the first is RS.
    fn read(&self, bytes: &[u8]) -> Read {
        let same = bytes.iter().zip(&self.start).take_while(|(a, b)| a == b).count();
        if same < self.start.len() {
            return if same == bytes.len() { Read::Incomplete } else { Read::None };
        }
        let text = bytes.get(self.start.len()..).unwrap_or_default();
        let Some(length) = text.iter().take(LONGEST).position(|byte| *byte == RS) else {
            return if text.len() < LONGEST { Read::Incomplete } else { Read::None };
        };
        let mark = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).and_then(parse);
        mark.map_or(Read::None, |mark| Read::Mark(mark, self.start.len() + length + 1))
    }
}

enum Read {
    /// With its length in bytes.
    Mark(Mark, usize),
    /// It may still become one.
    Incomplete,
    None,
}

fn parse(text: &str) -> Option<Mark> {
    let mut words = text.split(' ');
    let (kind, step, code) = (words.next()?, words.next()?, words.next()?);
    let step = step.parse::<usize>().ok()?.checked_sub(1)?;
    // A shell that was told another status than a number says nothing that we could read.
    let code = code.parse().unwrap_or(1);
    Some(match kind {
        "B" => Mark::Begin(step),
        "E" => Mark::End { step, code, stopped: false },
        "S" => Mark::End { step, code, stopped: true },
        _ => return None,
    })
}

fn flush(plain: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Bytes(std::mem::take(plain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks { nonce: "abc".to_owned() }
    }

    /// Marks are shown as `<B1>`, `<E1:code>`, `<S1:code>`; `~` stands for RS in the input and the output.
    fn check(input: &str, expected: &str) {
        let input = input.replace('~', "\x1e");
        for size in 1..=input.len() {
            let mut splitter = marks().splitter();
            let mut shown = String::new();
            for chunk in input.as_bytes().chunks(size) {
                for piece in splitter.push(Stream::Stdout, chunk) {
                    shown.push_str(&match piece {
                        Piece::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
                        Piece::Mark(Mark::Begin(step)) => format!("<B{step}>"),
                        Piece::Mark(Mark::End { step, code, stopped }) => {
                            format!("<{}{step}:{code}>", if stopped { "S" } else { "E" })
                        }
                    });
                }
            }
            shown.push_str(&String::from_utf8(splitter.finish(Stream::Stdout)).unwrap());
            assert_eq!(shown.replace('\x1e', "~"), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn marks_are_found_however_the_bytes_come() {
        check("~abc B 1 0~out~abc E 1 0~", "<B0>out<E0:0>");
        check("a~abc E 12 130~b\n", "a<E11:130>b\n");
        check("~abc S 2 0~~abc B 3 0~", "<S1:0><B2>");
    }

    #[test]
    fn what_only_looks_like_a_mark_is_output() {
        for text in [
            "~",
            "~~~",
            "~ab",
            "~abd B 1 0~",
            "abc B 1 0~",
            "~abc X 1 0~",
            "~abc B 0 0~",
            "~abc B one 0~",
            "~abc B~",
            "~abc ~",
            "~abc B 1 000000000000000000000000000000000000~",
        ] {
            check(text, text);
        }
        check("~~abc E 1 2~", "~<E0:2>");
        check("~abc ~abc E 1 2~", "~abc <E0:2>");
    }

    #[test]
    fn streams_do_not_mix() {
        let mut splitter = marks().splitter();
        assert_eq!(splitter.push(Stream::Stdout, b"\x1eab"), []);
        assert_eq!(splitter.push(Stream::Stderr, b"c B 1 0\x1e"), [Piece::Bytes(b"c B 1 0".to_vec()),]);
        assert_eq!(splitter.finish(Stream::Stderr), b"\x1e");
        assert_eq!(splitter.push(Stream::Stdout, b"c B 1 0\x1e"), [Piece::Mark(Mark::Begin(0))]);
    }

    #[test]
    fn every_run_has_marks_of_its_own() {
        assert_ne!(Marks::default().nonce, Marks::default().nonce);
        assert_eq!(Marks::default().nonce.len(), 32);
    }
}
