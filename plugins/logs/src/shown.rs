//! Lines of a log: which of them are shown. How they are escaped and what stands around them is the SDK's.

pub use orchestrator_sdk::data::{block, plain, safe};

/// Characters of all lines of an answer. Of more, the last are shown.
pub const TOTAL: usize = 20_000;

/// The last lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub lines: Vec<String>,
    /// Earlier lines for which there was no room.
    pub left_out: usize,
}

impl Lines {
    /// The last of these that fit into `room` characters, none of them escaped yet.
    pub fn last<'a>(lines: impl DoubleEndedIterator<Item = &'a str>, room: usize) -> Lines {
        let mut shown = Lines::default();
        let mut left = room;
        for line in lines.rev() {
            let line = safe(line);
            let length = line.chars().count() + 1;
            if shown.left_out > 0 || length > left {
                shown.left_out += 1;
            } else {
                left -= length;
                shown.lines.push(line);
            }
        }
        shown.lines.reverse();
        shown
    }

    /// Says what is missing, if anything is.
    pub fn note(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} left out to keep the answer short: ask for fewer, or use `grep`",
                crate::count(self.left_out, "earlier line")
            )
        })
    }
}

/// The lines of what was printed, without the line break at its end.
pub fn split(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.strip_suffix('\n').unwrap_or(text).split('\n').filter(move |_| !text.is_empty())
}

/// Whether `line` holds `grep`, in either case.
pub fn has(line: &str, grep: Option<&str>) -> bool {
    grep.is_none_or(|wanted| line.to_lowercase().contains(&wanted.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_lines_the_last_are_shown() {
        let lines = ["aaaa", "bb", "cccc", "d"];
        let shown = Lines::last(lines.into_iter(), 8);
        assert_eq!((shown.lines, shown.left_out), (vec!["cccc".to_owned(), "d".to_owned()], 2));
    }

    #[test]
    fn the_break_at_the_end_is_not_a_line() {
        let check = |text: &str, lines: &[&str]| assert_eq!(split(text).collect::<Vec<_>>(), lines);
        check("", &[]);
        check("\n", &[""]);
        check("a\n\nb", &["a", "", "b"]);
    }
}
