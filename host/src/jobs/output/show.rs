//! Bytes as text for a model: valid UTF-8, without terminal control, cut in the middle when too long. Pure.

use std::fmt::Write;

/// What is shown of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub text: String,
    /// Bytes that are not in `text`.
    pub omitted: u64,
}

/// How far a cut may move to fall on the end of a line.
const LINE_SEARCH: usize = 400;

/// `bytes` as text: invalid UTF-8 as U+FFFD, ANSI escape sequences (ECMA-48) removed, line ends as `\n`, every other control
/// character and those that reorder text written as an escape.
pub fn clean(bytes: &[u8]) -> String {
    let mut cleaner = Cleaner { text: String::with_capacity(bytes.len()), state: State::Text };
    for chunk in bytes.utf8_chunks() {
        cleaner.push_all(chunk.valid());
        if !chunk.invalid().is_empty() {
            cleaner.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if matches!(cleaner.state, State::Return) {
        cleaner.text.push('\n');
    }
    cleaner.text
}

#[derive(Clone, Copy)]
enum State {
    Text,
    /// After a carriage return, which ends a line whether or not a line feed follows.
    Return,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte: one more final byte.
    Intermediate,
    /// A control sequence: ESC [ parameters final.
    Sequence,
    /// A control string (OSC, DCS …), up to BEL or ST. A line feed ends it too, so that a lost end cannot swallow the rest.
    String,
    /// ESC inside a control string.
    StringEscape,
}

struct Cleaner {
    text: String,
    state: State,
}

impl Cleaner {
    fn push_all(&mut self, mut text: &str) {
        loop {
            if let State::Text = self.state {
                // Nearly all of an output: what is taken over as it is.
                let clear = text.bytes().take_while(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')).count();
                let (clear, rest) = text.split_at_checked(clear).unwrap_or((text, ""));
                self.text.push_str(clear);
                text = rest;
            }
            let mut chars = text.chars();
            let Some(char) = chars.next() else { return };
            self.push(char);
            text = chars.as_str();
        }
    }

    fn push(&mut self, char: char) {
        self.state = match (self.state, char) {
            (State::Return, '\n') => {
                self.text.push('\n');
                State::Text
            }
            (State::Return, _) => {
                self.text.push('\n');
                self.state = State::Text;
                return self.push(char);
            }
            (_, '\x1b') if !matches!(self.state, State::String) => State::Escape,
            (State::Text, '\r') => State::Return,
            (State::Text, _) => self.emit(char),
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::String,
            (State::Escape, ' '..='/') => State::Intermediate,
            (State::Escape | State::Intermediate, '0'..='~') => State::Text,
            (State::Intermediate, ' '..='/') => State::Intermediate,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Sequence, '@'..='~') => State::Text,
            (State::String, '\x1b') => State::StringEscape,
            (State::String, '\x07') | (State::StringEscape, '\\') => State::Text,
            (State::String, '\n') => self.emit(char),
            (State::String, _) => State::String,
            // Not a sequence after all: what broke it off is text again.
            (State::Escape | State::Intermediate | State::Sequence | State::StringEscape, _) => {
                self.state = State::Text;
                return self.push(char);
            }
        };
    }

    fn emit(&mut self, char: char) -> State {
        match char {
            '\n' | '\t' => self.text.push(char),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(self.text, "\\x{:02x}", u32::from(char));
            }
            '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(self.text, "\\u{{{:x}}}", u32::from(char));
            }
            _ => self.text.push(char),
        }
        State::Text
    }
}

/// The nearest place at or before `at` where no UTF-8 character is split.
pub(super) fn boundary(bytes: &[u8], at: usize) -> usize {
    let continues = |place: usize| bytes.get(place).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has at most three continuation bytes; more of them are not UTF-8, and then any place will do.
    (at.saturating_sub(3)..=at).rev().find(|place| !continues(*place)).unwrap_or(at)
}

/// How many bytes from the beginning can be shown in `limit` characters.
pub(super) fn head(bytes: &[u8], limit: usize) -> usize {
    let end = nth_char(bytes, limit).unwrap_or(bytes.len());
    let end = shrink(end, |end| clean(bytes.get(..end).unwrap_or_default()), limit);
    let end = boundary(bytes, end);
    let near = bytes.get(end.saturating_sub(LINE_SEARCH)..end).unwrap_or_default();
    match near.iter().rposition(|byte| *byte == b'\n') {
        Some(line) if end < bytes.len() => end.saturating_sub(near.len()) + line + 1,
        _ => end,
    }
}

/// How many bytes from the end can be shown in `limit` characters.
pub(super) fn tail(bytes: &[u8], limit: usize) -> usize {
    let start_of = |length: usize| {
        let start = bytes.len().saturating_sub(length);
        // Forward, so that it never gets longer.
        (start..bytes.len()).find(|place| boundary(bytes, *place) == *place).unwrap_or(start)
    };
    let length = nth_char_from_end(bytes, limit).unwrap_or(bytes.len());
    let length = shrink(length, |length| clean(bytes.get(start_of(length)..).unwrap_or_default()), limit);
    let start = start_of(length);
    let near = bytes.get(start..bytes.len().min(start + LINE_SEARCH)).unwrap_or_default();
    match near.iter().position(|byte| *byte == b'\n') {
        Some(line) if start > 0 && start + line + 1 < bytes.len() => bytes.len() - start - line - 1,
        _ => bytes.len() - start,
    }
}

/// The greatest length up to `length` whose text has at most `limit` characters, found by halving.
fn shrink(length: usize, text: impl Fn(usize) -> String, limit: usize) -> usize {
    let fits = |length: usize| text(length).chars().count() <= limit;
    if fits(length) {
        return length;
    }
    let (mut good, mut bad) = (0, length);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    good
}

fn nth_char(bytes: &[u8], n: usize) -> Option<usize> {
    let mut starts = bytes.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80);
    starts.nth(n).map(|(place, _)| place)
}

fn nth_char_from_end(bytes: &[u8], n: usize) -> Option<usize> {
    let mut starts = bytes.iter().rev().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80);
    n.checked_sub(1).map_or(Some(0), |n| starts.nth(n).map(|(place, _)| place + 1))
}
