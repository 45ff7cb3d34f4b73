//! What a program on the server answers: frames that say something, and between them pieces of the command's two streams.
//!
//! A frame is `RS nonce SP words LF`; `out N` and `err N` are followed by that many bytes as they are. Whatever a login script
//! prints before the first frame is skipped. Pure.

use crate::capability::Stream;

const RS: u8 = 0x1e;
/// No frame's words are longer.
const LONGEST: usize = 256;

/// What is known of a detached command on its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was started, by this means.
    Up {
        how: String,
    },
    /// It runs on; this round is over.
    More,
    Ended(Exit),
    /// Its supervisor is gone and has left no exit code.
    Gone {
        rebooted: bool,
        begun: i64,
        sizes: [u64; 2],
    },
    /// There is no directory of that name.
    Absent,
    /// It is being started, or its start was broken off.
    Waiting,
    /// It was decided that it is not started.
    Void,
    /// It was sent these signals and has ended; none were needed when it is empty.
    Stopped {
        sent: String,
    },
    /// It was sent these signals and lives.
    Alive {
        sent: String,
    },
    Clean,
}

/// How a command ended, in the server's own seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u32,
    pub begun: i64,
    pub ended: i64,
    /// Bytes of each stream.
    pub sizes: [u64; 2],
}

/// What was found in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Bytes(Stream, Vec<u8>),
    State(State),
}

/// Finds frames in an answer that arrives in pieces of any size.
#[derive(Debug)]
pub(super) struct Frames {
    start: Vec<u8>,
    /// What is not understood yet.
    pending: Vec<u8>,
    /// The stream whose bytes come next, and how many.
    open: Option<(Stream, usize)>,
}

impl Frames {
    pub(super) fn new(nonce: &str) -> Self {
        Frames { start: [&[RS], nonce.as_bytes(), b" "].concat(), pending: Vec::new(), open: None }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.pending.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while self.step(&mut pieces) {}
        pieces
    }

    /// Understands one thing more; `false` when that takes more bytes.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if let Some((stream, left)) = self.open {
            let here = left.min(self.pending.len());
            if here > 0 {
                pieces.push(Piece::Bytes(stream, self.pending.drain(..here).collect()));
            }
            self.open = (left > here).then_some((stream, left - here));
            return self.open.is_none();
        }
        let Some(at) = self.pending.windows(self.start.len()).position(|window| window == self.start) else {
            // All but what may be the beginning of a frame.
            let noise = self.pending.len().saturating_sub(self.start.len() - 1);
            self.pending.drain(..noise);
            return false;
        };
        self.pending.drain(..at);
        let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
            if self.pending.len() > self.start.len() + LONGEST {
                self.pending.drain(..self.start.len());
                return true;
            }
            return false;
        };
        let line: Vec<u8> = self.pending.drain(..=end).skip(self.start.len()).collect();
        let line = String::from_utf8_lossy(&line);
        match parse(line.trim_end()) {
            Some(Said::Bytes(stream, len)) => self.open = Some((stream, len)),
            Some(Said::State(state)) => pieces.push(Piece::State(state)),
            None => {}
        }
        true
    }
}

enum Said {
    Bytes(Stream, usize),
    State(State),
}

fn parse(line: &str) -> Option<Said> {
    let words: Vec<&str> = line.split(' ').collect();
    let state = match words.as_slice() {
        ["out", len] => return Some(Said::Bytes(Stream::Stdout, len.parse().ok()?)),
        ["err", len] => return Some(Said::Bytes(Stream::Stderr, len.parse().ok()?)),
        ["up", how] => State::Up { how: (*how).to_owned() },
        ["more"] => State::More,
        ["ended", code, begun, ended, out, err] => State::Ended(Exit {
            code: code.parse().ok()?,
            begun: begun.parse().ok()?,
            ended: ended.parse().ok()?,
            sizes: [out.parse().ok()?, err.parse().ok()?],
        }),
        ["gone", why, begun, out, err] => State::Gone {
            rebooted: *why == "rebooted",
            begun: begun.parse().ok()?,
            sizes: [out.parse().ok()?, err.parse().ok()?],
        },
        ["absent"] => State::Absent,
        ["waiting"] => State::Waiting,
        ["void"] => State::Void,
        ["stopped", "-"] => State::Stopped { sent: String::new() },
        ["stopped", sent] => State::Stopped { sent: sent.replace(',', ", ") },
        ["alive", sent] => State::Alive { sent: sent.replace(',', ", ") },
        ["clean"] => State::Clean,
        _ => return None,
    };
    Some(Said::State(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: Vec<Piece>) -> (Vec<u8>, Vec<u8>, Vec<State>) {
        let (mut out, mut err, mut states) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Bytes(Stream::Stdout, bytes) => out.extend(bytes),
                Piece::Bytes(Stream::Stderr, bytes) => err.extend(bytes),
                Piece::State(state) => states.push(state),
            }
        }
        (out, err, states)
    }

    #[test]
    fn an_answer_is_understood_however_it_is_cut() {
        let answer = b"Welcome!\n\x1e\n\x1en out 5\na\x1en b\x1en err 2\n\n\n\x1en out 3\nxyz\x1en what is this\n\
            \x1en ended 3 100 160 8 2\n";
        for size in 1..answer.len() {
            let mut frames = Frames::new("n");
            let pieces = answer.chunks(size).flat_map(|chunk| frames.take(chunk)).collect();
            let (out, err, states) = joined(pieces);
            assert_eq!((out.as_slice(), err.as_slice()), (b"a\x1en bxyz".as_slice(), b"\n\n".as_slice()), "{size}");
            let exit = Exit { code: 3, begun: 100, ended: 160, sizes: [8, 2] };
            assert_eq!(states, [State::Ended(exit)], "{size}");
        }
    }

    #[test]
    fn noise_without_a_frame_is_not_kept() {
        let mut frames = Frames::new("nonce");
        assert_eq!(frames.take(&[b'x'; 100_000]), []);
        assert!(frames.pending.len() < 10);
        let endless = [b"\x1enonce ".as_slice(), &[b'y'; 10_000]].concat();
        assert_eq!(frames.take(&endless), []);
        assert!(frames.pending.len() < 600);
        assert_eq!(frames.take(b"\n\x1enonce more\n"), [Piece::State(State::More)]);
    }

    #[test]
    fn each_state_is_read() {
        let check = |line: &str, expected: State| {
            let said = Frames::new("n").take(format!("\u{1e}n {line}\n").as_bytes());
            assert_eq!(said, [Piece::State(expected)], "{line}");
        };
        check("up setsid", State::Up { how: "setsid".to_owned() });
        check("gone rebooted 5 1 2", State::Gone { rebooted: true, begun: 5, sizes: [1, 2] });
        check("gone killed 5 1 2", State::Gone { rebooted: false, begun: 5, sizes: [1, 2] });
        check("absent", State::Absent);
        check("waiting", State::Waiting);
        check("void", State::Void);
        check("stopped -", State::Stopped { sent: String::new() });
        check("stopped INT,TERM", State::Stopped { sent: "INT, TERM".to_owned() });
        check("alive INT,KILL", State::Alive { sent: "INT, KILL".to_owned() });
        check("clean", State::Clean);
    }
}
