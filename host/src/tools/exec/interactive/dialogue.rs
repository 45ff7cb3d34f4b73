//! A dialogue with a command, as a state machine without a clock and without I/O: it is told what the terminal shows and when
//! that has come to rest, and says what to type.
//!
//! Only the last line counts: that is where a prompt stands, and text further up may name anything. What the terminal echoes of
//! an answer is no prompt, and neither is a line that was answered already.

use regex::Regex;

use super::prompt::{self, Kind};
use crate::jobs::clean;
use crate::secrets::Secret;

/// How much of the output since the last answer is looked at.
const LOOKED_AT: usize = 4 << 10;
/// After so many answers a command is taken to ask for ever.
const MOST_ANSWERS: usize = 100;
/// What a program says when a password was wrong. It is not given again: that would lock the account.
const REFUSED: [&str; 5] = ["try again", "incorrect", "denied", "wrong password", "authentication failure"];

/// How a prompt is recognized.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// These words, in capitals or small letters.
    Text(String),
    Regex(Regex),
}

/// A prompt and its answer.
#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: Pattern,
    pub answer: Secret,
    /// The answer is never shown, and only typed within a line: "password updated" at the end of one is no prompt.
    pub hidden: bool,
}

/// One answer that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The line that was answered.
    pub prompt: String,
    /// Without what must not be shown.
    pub answer: Option<String>,
}

/// What to do now that the output has come to rest.
#[derive(Debug, PartialEq, Eq)]
pub enum Move {
    /// Type this and the return key.
    Type { answer: Secret, hidden: bool },
    /// Nobody answers this, and waiting will not help.
    Stuck(Stuck),
    /// Nothing is asked as far as one can see.
    Wait,
}

/// A prompt that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub prompt: String,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no answer for it.
    NoAnswer,
    /// The password was refused.
    Refused,
    /// It was answered too often.
    TooOften,
    /// It is no question: a pager waits to be scrolled.
    Pager,
}

/// How the end of the output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Within a line, where prompts stand.
    InLine,
    /// Behind a line.
    BehindLine,
}

#[derive(Debug)]
pub struct Dialogue {
    rules: Vec<Rule>,
    /// Whether the first rule that fits counts; else the one whose words are the longest.
    ordered: bool,
    /// Answers usual questions for yes or no.
    auto: bool,
    /// The output since the last answer.
    recent: Vec<u8>,
    /// What the terminal may still show of the last answer.
    echo: Option<String>,
    answered: Vec<Answered>,
    /// The line that the last password was given for.
    password_for: Option<String>,
}

impl Dialogue {
    pub fn new(rules: Vec<Rule>, ordered: bool, auto: bool) -> Self {
        let (recent, answered) = (Vec::new(), Vec::new());
        Dialogue { rules, ordered, auto, recent, echo: None, answered, password_for: None }
    }

    /// The terminal shows more.
    pub fn show(&mut self, bytes: &[u8]) {
        self.recent.extend_from_slice(bytes);
        let excess = self.recent.len().saturating_sub(LOOKED_AT);
        if excess > 0 {
            self.recent.drain(..excess);
            // The beginning of what is left has nothing to do with the answer any more.
            self.echo = None;
        }
    }

    /// Where the output stands, which says how long to wait before it counts as having come to rest.
    pub fn rest(&self) -> Rest {
        let text = self.text();
        if text.is_empty() || text.ends_with('\n') { Rest::BehindLine } else { Rest::InLine }
    }

    /// The output has come to rest: is there something to answer?
    pub fn next(&mut self) -> Move {
        let text = self.text();
        let line = last_line(&text).to_owned();
        if line.trim().is_empty() {
            return Move::Wait;
        }
        let open = !text.ends_with('\n');
        let kind = if open { prompt::classify(&line) } else { None };
        let stuck = |why| Move::Stuck(Stuck { prompt: line.trim().to_owned(), why });
        let chosen = match (self.fitting(&line, open), kind) {
            (Some(rule), _) => Some((rule.answer.clone(), rule.hidden)),
            (None, Some(Kind::YesNo(yes))) if self.auto => Some((Secret::new(yes), false)),
            (None, Some(Kind::Enter)) if self.auto => Some((Secret::new(""), false)),
            _ => None,
        };
        let Some((answer, hidden)) = chosen else {
            return match kind {
                Some(Kind::Pager) => stuck(Why::Pager),
                Some(_) => stuck(Why::NoAnswer),
                None => Move::Wait,
            };
        };
        let password = kind == Some(Kind::Password) || prompt::is_password(&line);
        if password && self.was_refused(&line, &text) {
            return stuck(Why::Refused);
        }
        if self.answered.len() >= MOST_ANSWERS {
            return stuck(Why::TooOften);
        }
        let hidden = hidden || password;
        self.password_for = password.then(|| line.trim().to_owned());
        self.answered
            .push(Answered { prompt: line.trim().to_owned(), answer: (!hidden).then(|| answer.expose().to_owned()) });
        self.recent.clear();
        self.echo = Some(answer.expose().to_owned()).filter(|answer| !answer.is_empty());
        Move::Type { answer, hidden }
    }

    /// The line that the output ends in, if it does not end behind one: most likely what is being waited for.
    pub fn open_line(&self) -> Option<String> {
        let text = self.text();
        let line = last_line(&text).trim();
        (!line.is_empty() && !text.ends_with('\n')).then(|| line.to_owned())
    }

    pub fn answered(&self) -> &[Answered] {
        &self.answered
    }

    /// What the terminal shows since the last answer, without the echo of that.
    fn text(&self) -> String {
        let text = clean(&self.recent);
        match &self.echo {
            Some(echo) if echo.starts_with(text.as_str()) => String::new(),
            Some(echo) => text.strip_prefix(echo.as_str()).map_or(text.clone(), str::to_owned),
            None => text,
        }
    }

    fn fitting(&self, line: &str, open: bool) -> Option<&Rule> {
        let mut best: Option<(&Rule, usize)> = None;
        for rule in self.rules.iter().filter(|rule| open || !rule.hidden) {
            let Some(length) = rule.pattern.fits(line) else { continue };
            if self.ordered {
                return Some(rule);
            }
            if best.is_none_or(|(_, other)| length > other) {
                best = Some((rule, length));
            }
        }
        best.map(|(rule, _)| rule)
    }

    fn was_refused(&self, line: &str, text: &str) -> bool {
        let text = text.to_lowercase();
        self.password_for.as_deref() == Some(line.trim()) && REFUSED.iter().any(|words| text.contains(words))
    }
}

impl Pattern {
    /// The number of characters of the line that it fits; `None` when it does not.
    fn fits(&self, line: &str) -> Option<usize> {
        match self {
            Pattern::Text(text) => {
                line.to_lowercase().contains(&text.trim().to_lowercase()).then(|| text.trim().chars().count())
            }
            Pattern::Regex(regex) => regex.find(line).map(|found| found.as_str().chars().count()),
        }
    }
}

/// The last line that says something.
fn last_line(text: &str) -> &str {
    text.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default()
}

#[cfg(test)]
#[path = "dialogue_tests.rs"]
mod tests;
