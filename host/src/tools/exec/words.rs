//! A shell line taken apart into its simple commands and their words, as far as that can be done without a shell.
//!
//! Not a parser of the language: whoever uses this must be content with what is plain to see. Nothing is expanded.

/// A simple command (POSIX, 2.9.1): its words without quotes, redirections and comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simple {
    pub words: Vec<String>,
    /// Its output goes into the next command of the list.
    pub piped: bool,
    /// It is not waited for.
    pub background: bool,
}

/// The simple commands of a line, in order.
pub fn simple_commands(line: &str) -> Vec<Simple> {
    let mut reader = Reader { chars: line.chars().collect(), at: 0, ..Reader::default() };
    reader.read();
    reader.commands
}

#[derive(Default)]
struct Reader {
    chars: Vec<char>,
    at: usize,
    commands: Vec<Simple>,
    words: Vec<String>,
    /// The word that is being read; `None` between words.
    word: Option<String>,
    /// The next word is the file of a redirection.
    redirects: bool,
    /// The next word ends a here-document, whose lines begin after this one.
    awaits_delimiter: bool,
    /// The here-documents whose lines are still to come.
    documents: Vec<String>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn read(&mut self) {
        while let Some(char) = self.peek(0) {
            self.at += 1;
            match char {
                '\\' => match self.peek(0) {
                    Some('\n') => self.at += 1,
                    Some(next) => {
                        self.at += 1;
                        self.add(next);
                    }
                    None => {}
                },
                '\'' => self.single_quoted(),
                '"' => self.double_quoted(),
                '`' => self.substituted('`'),
                '$' if self.peek(0) == Some('(') => {
                    self.at += 1;
                    self.substituted(')');
                }
                '#' if self.word.is_none() => self.skip_line(),
                ' ' | '\t' | '\r' => self.end_word(),
                '\n' => {
                    self.end_command(false, false);
                    self.skip_documents();
                }
                '>' | '<' => self.redirection(char),
                '&' if self.peek(0) == Some('>') => {
                    self.end_word();
                    self.at += 1;
                    self.redirection('>');
                }
                '&' if self.peek(0) == Some('&') => {
                    self.at += 1;
                    self.end_command(false, false);
                }
                '&' => self.end_command(false, true),
                '|' => {
                    let piped = match self.peek(0) {
                        Some('|') => {
                            self.at += 1;
                            false
                        }
                        Some('&') => {
                            self.at += 1;
                            true
                        }
                        _ => true,
                    };
                    self.end_command(piped, false);
                }
                ';' | '(' | ')' => self.end_command(false, false),
                other => self.add(other),
            }
        }
        self.end_command(false, false);
    }

    fn add(&mut self, char: char) {
        self.word.get_or_insert_default().push(char);
    }

    fn single_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(char) = self.peek(0) {
            self.at += 1;
            if char == '\'' {
                return;
            }
            self.add(char);
        }
    }

    fn double_quoted(&mut self) {
        self.word.get_or_insert_default();
        while let Some(char) = self.peek(0) {
            self.at += 1;
            match char {
                '"' => return,
                '\\' => {
                    if let Some(next) = self.peek(0) {
                        self.at += 1;
                        self.add(next);
                    }
                }
                '$' if self.peek(0) == Some('(') => {
                    self.at += 1;
                    self.substituted(')');
                }
                '`' => self.substituted('`'),
                other => self.add(other),
            }
        }
    }

    /// Skips a substitution, which stands for text that nobody knows here.
    fn substituted(&mut self, end: char) {
        self.add('\u{fffd}');
        let mut depth = 1;
        let mut quoted = false;
        while let Some(char) = self.peek(0) {
            self.at += 1;
            match char {
                '\\' => self.at += 1,
                '\'' if end == ')' => quoted = !quoted,
                _ if quoted => {}
                '(' if end == ')' => depth += 1,
                other if other == end => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn redirection(&mut self, first: char) {
        // `2>` takes its number with it.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|char| char.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        if first == '<' && self.peek(0) == Some('<') && self.peek(1) != Some('<') {
            self.at += 1;
            if self.peek(0) == Some('-') {
                self.at += 1;
            }
            self.awaits_delimiter = true;
            return;
        }
        while self.peek(0).is_some_and(|char| matches!(char, '>' | '<' | '|' | '&')) {
            self.at += 1;
        }
        // A process substitution reads a command of its own, which is left aside with the file.
        if self.peek(0) == Some('(') {
            self.at += 1;
            self.substituted(')');
        }
        self.redirects = true;
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if std::mem::take(&mut self.awaits_delimiter) {
            self.documents.push(word);
        } else if !std::mem::take(&mut self.redirects) {
            self.words.push(word);
        }
    }

    fn end_command(&mut self, piped: bool, background: bool) {
        self.end_word();
        self.redirects = false;
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(Simple { words, piped, background });
        } else if let Some(last) = self.commands.last_mut() {
            // `(a; b) | c` and `(a) &`: what is said of the group is said of its last command.
            last.piped |= piped;
            last.background |= background;
        }
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|char| char != '\n') {
            self.at += 1;
        }
    }

    fn skip_documents(&mut self) {
        for end in std::mem::take(&mut self.documents) {
            while self.at < self.chars.len() {
                let start = self.at;
                self.skip_line();
                let line: String = self.chars.get(start..self.at).unwrap_or_default().iter().collect();
                self.at += 1;
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words are joined by `_`, commands by a space; `|` and `&` stand behind what is piped or not waited for.
    fn check(line: &str, expected: &str) {
        let shown: Vec<String> = simple_commands(line)
            .into_iter()
            .map(|command| {
                let mark = if command.piped { "|" } else { "" };
                let background = if command.background { "&" } else { "" };
                format!("{}{mark}{background}", command.words.join("_"))
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{line}");
    }

    #[test]
    fn operators_end_commands() {
        check("a b && c || d; e\nf", "a_b c d e f");
        check("a | b |& c", "a| b| c");
        check("a & b", "a& b");
        check("(a; b) | c", "a b| c");
        check("", "");
        check(" ;; ", "");
    }

    #[test]
    fn quotes_keep_words_together() {
        check("grep 'tail -f' file", "grep_tail -f_file");
        check(r#"echo "a; b" c\;d "x\"y""#, "echo_a; b_c;d_x\"y");
        check("a\\\nb", "ab");
        check("echo '' \"\"", "echo__");
        check("echo 'open", "echo_open");
    }

    #[test]
    fn what_is_no_command_is_left_out() {
        check("a # b; c\nd", "a d");
        check("a#b", "a#b");
        check("a >f 2>&1 <in b >>g &>h", "a_b");
        check("a 5", "a_5");
        check("a $(b; c) \"$(d | e)\" `f`", "a_\u{fffd}_\u{fffd}_\u{fffd}");
        check("a $(echo ')') b", "a_\u{fffd}_b");
        check("diff <(a; b) <(c)", "diff");
        check("cat <<END >x\ntail -f y\nEND\nls", "cat ls");
        check("cat <<-'E' | b\n\ttail\n\tE\nls", "cat| b ls");
        check("cat <<< 'tail -f' && b", "cat b");
    }
}
