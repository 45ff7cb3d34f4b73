//! What the last line of an output looks like: a question, and which kind. Pure, and careful: what is not plainly a question is
//! none, since an answer to something that was not asked ends up in whatever is asked next.

/// What is being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A password, passphrase, PIN or code. Never answered by itself.
    Password,
    /// Yes or no, and how yes is written.
    YesNo(&'static str),
    /// Only the return key.
    Enter,
    /// A pager that waits to be scrolled.
    Pager,
    /// A question that none of these is, or the prompt of a shell.
    Question,
}

/// Words of which one stands in front of the colon when something secret is asked for.
const SECRETS: [&str; 10] = [
    "password",
    "passphrase",
    "passwd",
    "passcode",
    "pin",
    "otp",
    "token",
    "verification code",
    "secret",
    "one-time code",
];

/// What `line` asks for: a line that was not ended, as it stands on a terminal.
pub fn classify(line: &str) -> Option<Kind> {
    let lower = line.to_lowercase();
    let text = lower.trim();
    if text.is_empty() {
        return None;
    }
    if is_password(text) {
        return Some(Kind::Password);
    }
    if text == "(end)"
        || text == ":"
        || text.contains("--more--")
        || text.starts_with("lines ") && text.contains("(end)")
    {
        return Some(Kind::Pager);
    }
    if let Some(yes) = yes_no(text) {
        return Some(Kind::YesNo(yes));
    }
    if ["press enter", "press return", "press any key", "press [enter]", "hit enter", "press <enter>"]
        .iter()
        .any(|words| text.contains(words))
    {
        return Some(Kind::Enter);
    }
    (text.ends_with('?') || text.ends_with("[fingerprint])?") || is_shell(line)).then_some(Kind::Question)
}

/// Whether something secret is asked for.
pub fn is_password(text: &str) -> bool {
    text.trim_end().strip_suffix([':', '?', '>']).is_some_and(names_a_secret)
}

/// Whether one of the words for something secret is in a text.
pub fn names_a_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    let letter = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
    SECRETS.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().last());
            let behind = text.get(at + word.len()..).and_then(|text| text.chars().next());
            !letter(before) && !letter(behind)
        })
    })
}

/// How yes is written where a line ends in `[y/n]`, `(yes/no)` or the like. A list with further choices is a question of its own
/// kind: "y" to dpkg's `(Y/I/N/O/D/Z)` overwrites a file, and ssh's `(yes/no/[fingerprint])` trusts a host key.
fn yes_no(text: &str) -> Option<&'static str> {
    let text = text.trim_end_matches([' ', ':', '?', '>']);
    let group = match text.chars().last()? {
        ']' => text.rfind('[').and_then(|at| text.get(at..)),
        ')' => text.rfind('(').and_then(|at| text.get(at..)),
        _ => text.rsplit([' ', '?']).next(),
    }?;
    let choices: Vec<String> = group
        .trim_matches(['[', ']', '(', ')'])
        .split('/')
        .map(|choice| choice.chars().filter(|char| char.is_alphanumeric()).collect())
        .collect();
    let harmless = |choice: &String| matches!(choice.as_str(), "y" | "n" | "yes" | "no" | "q" | "quit" | "d");
    if choices.len() > 3 || !choices.iter().all(harmless) {
        return None;
    }
    let has = |choice: &str| choices.iter().any(|known| known == choice);
    match () {
        () if has("yes") && has("no") => Some("yes"),
        () if has("y") && (has("n") || has("no")) => Some("y"),
        () => None,
    }
}

/// `root@host:~# `, `mysql> `, `>>> `: one word and a space.
fn is_shell(line: &str) -> bool {
    line.strip_suffix(' ').is_some_and(|word| {
        word.ends_with(['$', '#', '>']) && word.len() <= 60 && !word.contains(char::is_whitespace) && word != "#"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Option<Kind>, lines: &[&str]) {
        for line in lines {
            assert_eq!(classify(line), kind, "{line:?}");
        }
    }

    #[test]
    fn secrets_are_told_from_other_questions() {
        check(
            Some(Kind::Password),
            &[
                "[sudo] password for ada: ",
                "Password:",
                "ada@10.0.0.1's password: ",
                "Enter passphrase for key '/root/.ssh/id': ",
                "New password: ",
                "Retype new UNIX password: ",
                "Verification code: ",
                "Enter PIN: ",
                "Enter your secret?",
            ],
        );
        check(None, &["password updated successfully", "Changing password for root.", "Spinning: ", "Pinging host: "]);
    }

    #[test]
    fn yes_and_no_are_answered_as_they_are_written() {
        check(
            Some(Kind::YesNo("y")),
            &[
                "Do you want to continue? [Y/n] ",
                "Overwrite (y/N)?",
                "Is this ok [y/d/N]: ",
                "Proceed ([y]/n)? ",
                "Continue? y/n: ",
                "remove? [y/n/q]",
            ],
        );
        check(Some(Kind::YesNo("yes")), &["Are you sure? (yes/no) ", "Really [yes/no]:", "Go on yes/no? "]);
    }

    #[test]
    fn choices_with_more_at_stake_are_only_questions() {
        check(
            Some(Kind::Question),
            &[
                "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
                "*** x.conf (Y/I/N/O/D/Z) [default=N] ? ",
                "Abort, retry, fail?",
                "Which one? ",
                "root@host:~# ",
                "mysql> ",
                ">>> ",
            ],
        );
    }

    #[test]
    fn keys_and_pagers_are_recognized() {
        check(Some(Kind::Enter), &["Press ENTER to continue", "Press any key to go on...", "press [Enter] to exit: "]);
        check(Some(Kind::Pager), &["--More--", "--More--(42%)", "(END)", ":", "lines 1-49/49 (END)"]);
    }

    #[test]
    fn output_is_no_question() {
        check(None, &["", "   ", "Downloading 45%", "[####      ", "#", "# ", "done.", "Setting up x ...", "Name: "]);
    }
}
