//! What an import says: one line per entry with what became of it and why, and a last line that counts. No I/O.

use std::fmt::Write as _;
use std::process::ExitCode;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Imported,
    /// There is one of that name already.
    Kept,
    /// It is not meant to be imported, such as a pattern.
    Passed,
    /// It should have been imported and could not be.
    Failed,
}

/// Collects lines.
pub struct Report {
    dry_run: bool,
    text: String,
    counts: [usize; 4],
}

impl Report {
    pub fn new(dry_run: bool) -> Report {
        Report { dry_run, text: String::new(), counts: [0; 4] }
    }

    pub fn heading(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    /// `name` comes from a file that somebody else wrote: it is shown without control characters.
    pub fn entry(&mut self, fate: Fate, name: &str, why: &str) {
        let (index, word) = match (fate, self.dry_run) {
            (Fate::Imported, false) => (0, "imported"),
            (Fate::Imported, true) => (0, "would import"),
            (Fate::Kept, _) => (1, "kept"),
            (Fate::Passed, _) => (2, "skipped"),
            (Fate::Failed, _) => (3, "FAILED"),
        };
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
        let _ = writeln!(self.text, "  {word:12} {}: {}", plain(name), plain(why));
    }

    /// Something about the entry before that its reader should know.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.text, "  {:12} note: {}", "", plain(text));
    }

    /// The text with its last line, and how the process ends: badly if something failed.
    pub fn finish(mut self) -> (String, ExitCode) {
        let [imported, kept, passed, failed] = self.counts;
        let verb = if self.dry_run { "Would be imported" } else { "Imported" };
        let _ =
            writeln!(self.text, "{verb}: {imported}; kept as they are: {kept}; skipped: {passed}; failed: {failed}.");
        if self.dry_run {
            self.text.push_str("Nothing was changed (--dry-run).\n");
        }
        (self.text, if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_it_tells() {
        let mut report = Report::new(false);
        report.entry(Fate::Imported, "web", "root@192.0.2.1");
        report.entry(Fate::Failed, "a\u{1b}[2Jb", "no host");
        let (text, code) = report.finish();
        assert_eq!(
            text,
            "  imported     web: root@192.0.2.1\n  FAILED       a [2Jb: no host\n\
             Imported: 1; kept as they are: 0; skipped: 0; failed: 1.\n"
        );
        assert_eq!(code, ExitCode::FAILURE);
    }
}
