//! A program and its arguments as one line that any login shell passes on byte for byte.
//!
//! The login shell is not known: sh, bash, zsh, dash, ksh, ash, fish, tcsh. What they have in common is little: words of plain
//! characters, and single quotes around anything without `'`, `!`, `\` in front of either, and line breaks. So plain words go as
//! they are behind `exec`, and anything else becomes `exec sh -c '…'` whose script stays within that common ground and makes every other byte with
//! `printf` in octal, in a POSIX shell that is always the same. Pure.

use crate::error::Problem;

/// Why a command cannot be written as a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    #[error("the program is empty")]
    NoProgram,
    /// `env` and `sudo` would read it as an option or an assignment, and shells as options of `exec`.
    #[error("{0:?} is no name of a program: it must not begin with '-' or hold '='")]
    ProgramName(String),
    #[error("{0} holds a NUL character, which no process can be given")]
    Nul(&'static str),
    #[error("{0:?} is no name of an environment variable (letters, digits and _, no digit first)")]
    EnvName(String),
}

impl From<QuoteError> for Problem {
    fn from(error: QuoteError) -> Problem {
        Problem::invalid(error.to_string())
    }
}

/// The line that runs `program` with `args`, with `env` set for it, through `sudo -n` if so asked.
pub fn command_line(
    program: &str,
    args: &[String],
    env: &[(String, String)],
    sudo: bool,
) -> Result<String, QuoteError> {
    let words = command_words(program, args, env, sudo)?;
    // `exec` keeps aliases, keywords and builtins of the login shell out, and saves it a fork.
    if words.iter().enumerate().all(|(index, word)| is_plain(word, index == 0)) {
        return Ok(format!("exec {}", words.join(" ")));
    }
    Ok(format!("exec sh -c '{}'", script(&words)))
}

/// The words of that line, as the program that is run first gets them.
pub fn command_words(
    program: &str,
    args: &[String],
    env: &[(String, String)],
    sudo: bool,
) -> Result<Vec<String>, QuoteError> {
    if program.is_empty() {
        return Err(QuoteError::NoProgram);
    }
    if program.starts_with('-') || program.contains('=') {
        return Err(QuoteError::ProgramName(program.to_owned()));
    }
    let mut words: Vec<String> = Vec::new();
    if sudo {
        words.extend(["sudo", "-n", "--"].map(str::to_owned));
    }
    // Behind sudo, because sudo would drop what was set before it.
    if !env.is_empty() {
        words.push("env".to_owned());
        for (name, value) in env {
            if !is_env_name(name) {
                return Err(QuoteError::EnvName(name.clone()));
            }
            words.push(format!("{name}={value}"));
        }
    }
    words.push(program.to_owned());
    words.extend(args.iter().cloned());
    if words.iter().any(|word| word.contains('\0')) {
        return Err(QuoteError::Nul(if program.contains('\0') { "the program's name" } else { "an argument" }));
    }
    Ok(words)
}

fn is_env_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A byte that means itself to every shell, inside single quotes and out.
fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@' | b'%' | b'+' | b':' | b',' | b'.' | b'/' | b'-')
}

/// Whether a word may stand without quotes behind `exec`.
fn is_plain(word: &str, program: bool) -> bool {
    // Only at the beginning of a word: `=ls` is a path in zsh, `%1` a job in csh and fish.
    let begins = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
    word.as_bytes().first().is_some_and(begins)
        && word.bytes().all(|byte| is_plain_byte(byte) || byte == b'=')
        // zsh goes on reading words of its own behind `exec`.
        && !(program && matches!(word, "command" | "builtin" | "noglob" | "nocorrect" | "exec"))
}

/// The words as the script of `sh -c`, safe between single quotes of any shell.
///
/// Every byte that is not plain is made by `printf` from octal. A dot behind the text, cut off again, keeps line breaks at its
/// end, which a command substitution would take away; the cutting is done by the parameter expansion `%.`.
fn script(words: &[String]) -> String {
    let mut prepare = String::new();
    let mut command = String::from("exec");
    for (index, word) in words.iter().enumerate() {
        command.push(' ');
        if is_plain(word, false) {
            command.push_str(word);
        } else if word.is_empty() {
            command.push_str("\"\"");
        } else if word.bytes().all(is_double_quotable) {
            command.push('"');
            command.push_str(word);
            command.push('"');
        } else {
            prepare.push_str(&format!("v{index}=$(printf \"{}.\"); ", octal(word)));
            command.push_str(&format!("\"${{v{index}%.}}\""));
        }
    }
    prepare + &command
}

/// A byte that means itself between double quotes in a POSIX shell, within single quotes in every other.
fn is_double_quotable(byte: u8) -> bool {
    is_plain_byte(byte)
        || matches!(
            byte,
            b' ' | b'='
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'<'
                | b'>'
                | b'|'
                | b'&'
                | b';'
                | b'#'
                | b'*'
                | b'?'
                | b'~'
                | b'^'
        )
}

/// The word as a format of `printf`.
fn octal(word: &str) -> String {
    let mut format = String::with_capacity(word.len() * 2);
    for (index, byte) in word.bytes().enumerate() {
        match byte {
            b'%' => format.push_str("%%"),
            // `printf` would take it for an option, and print nothing.
            b'-' if index == 0 => format.push_str("\\055"),
            byte if is_double_quotable(byte) => format.push(char::from(byte)),
            byte => {
                format.push('\\');
                format.extend([byte >> 6, byte >> 3, byte].map(|digits| char::from(b'0' + (digits & 7))));
            }
        }
    }
    format
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Every shell that may be somebody's login shell, as far as it is installed here; `sh` always is.
    const SHELLS: &[&[&str]] = &[
        &["sh"],
        &["bash"],
        &["dash"],
        &["zsh"],
        &["ksh"],
        &["busybox", "sh"],
        &["fish"],
        &["tcsh"],
        &["csh"],
        &["mksh"],
        &["yash"],
    ];

    fn hostile() -> Vec<String> {
        let mut words: Vec<String> = [
            "",
            " ",
            "a b",
            "'",
            "''",
            "\"",
            "\\",
            "\\'",
            "'\\''",
            "\\\\'",
            "!",
            "!!",
            "'!'",
            "\\!",
            "\n",
            "a\n",
            "\n\n\n",
            "a\nb",
            "\r\n",
            "\t",
            "$HOME",
            "${HOME}",
            "$(id)",
            "`id`",
            "$((1+1))",
            "a$",
            "%",
            "%s",
            "%%",
            "%d%n",
            "100%",
            "\\n",
            "\\047",
            "\\x41",
            "\\c",
            "*",
            "?",
            "[a]",
            "[!a]",
            "{a,b}",
            "{1..3}",
            "~",
            "~root",
            "~/x",
            "a~",
            "=ls",
            "a=b",
            "a=~",
            "==",
            "-",
            "--",
            "-n",
            "-e",
            "-c",
            "--help",
            "#",
            "#a",
            "a#b",
            ";",
            "; id",
            "| id",
            "& id",
            "&&",
            "||",
            "> /dev/null",
            "< /dev/null",
            "<(id)",
            ">(id)",
            "2>&1",
            "(",
            ")",
            "(a)",
            "{",
            "}",
            "{}",
            "^",
            "^a^b",
            "@",
            "@a",
            "+",
            "+x",
            ":",
            ",",
            ".",
            "..",
            "/",
            "%1",
            "%self",
            "if",
            "exec",
            "command",
            "noglob",
            "a.",
            "...",
            ".\n",
            "é",
            "ü\n",
            "日本語",
            "🦀",
            "\u{7f}",
            "\u{1}",
            "\u{1b}[31m",
            "a\\",
            "a\\\n",
            "x\\\\\\",
            "'; id; '",
            "\"; id; \"",
            "$'a'",
            "$\"a\"",
            "a\u{a0}b",
            "\u{2028}",
            "*/",
            "a:b",
            "a,b",
            "user@host",
            "-%",
            "-'",
            "-n\n",
            "--\n",
            "--help\u{1}",
            "-v x\\",
            "!1",
            "!$",
            "\u{b}",
            "\u{c}",
        ]
        .map(str::to_owned)
        .to_vec();
        words.push((1..=127u8).map(char::from).collect());
        words.push((1..=127u8).rev().map(char::from).collect());
        words.push("'\\!\n".repeat(300));
        words
    }

    fn run(shell: &[&str], line: &str) -> std::process::Output {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-c").arg(line).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{shell:?}: {error}"))
    }

    fn installed() -> Vec<&'static [&'static str]> {
        let here = |shell: &&&[&str]| {
            let probe = Command::new(shell[0]).args(&shell[1..]).args(["-c", "exit 0"]).stdin(Stdio::null()).output();
            probe.is_ok_and(|output| output.status.success())
        };
        SHELLS.iter().filter(here).copied().collect()
    }

    /// What `printf '%s\0'` prints of the arguments is compared byte for byte.
    fn check(shell: &[&str], args: &[String]) {
        let mut all = vec!["%s\\0".to_owned()];
        all.extend_from_slice(args);
        let line = command_line("/usr/bin/printf", &all, &[], false).unwrap();
        let output = run(shell, &line);
        let mut expected: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        if args.is_empty() {
            expected = b"\0".to_vec();
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.stdout == expected,
            "{shell:?} {args:?}\n{line}\n{:?}\n{told}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    #[test]
    fn every_shell_passes_hostile_arguments_byte_for_byte() {
        let shells = installed();
        assert!(shells.contains(&&["sh"][..]), "there is no sh");
        let words = hostile();
        assert!(words.len() > 100);
        for shell in shells {
            for word in &words {
                check(shell, std::slice::from_ref(word));
            }
            check(shell, &words);
        }
    }

    #[test]
    fn every_shell_passes_hostile_values_of_the_environment() {
        for shell in installed() {
            for value in hostile() {
                let env = [("HOSTILE".to_owned(), value.clone())];
                let args = ["-c".to_owned(), "printf %s. \"$HOSTILE\"".to_owned()];
                let output = run(shell, &command_line("/bin/sh", &args, &env, false).unwrap());
                assert!(output.stdout == format!("{value}.").into_bytes(), "{shell:?} {value:?} {output:?}");
            }
        }
    }

    #[test]
    fn every_shell_finds_a_program_with_a_strange_name() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain", "a b", "it's", "!x", "$HOME", "new\nline", "é", "command", "~", "%x", "back\\slash"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "#!/bin/sh\nprintf here\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            for shell in installed() {
                let output = run(shell, &command_line(path.to_str().unwrap(), &[], &[], false).unwrap());
                assert_eq!(output.stdout, b"here", "{shell:?} {name:?} {output:?}");
            }
        }
    }

    #[test]
    fn a_plain_line_stays_readable() {
        let args = ["--no-pager".to_owned(), "--state=failed".to_owned()];
        assert_eq!(command_line("systemctl", &args, &[], false).unwrap(), "exec systemctl --no-pager --state=failed");
        assert_eq!(
            command_line("systemctl", &args, &[], true).unwrap(),
            "exec sudo -n -- systemctl --no-pager --state=failed"
        );
        let env = [("LC_ALL".to_owned(), "C".to_owned())];
        assert_eq!(command_line("df", &[], &env, true).unwrap(), "exec sudo -n -- env LC_ALL=C df");
    }

    #[test]
    fn what_no_process_can_be_given_is_refused() {
        let nul = "a\0b".to_owned();
        assert_eq!(command_line("", &[], &[], false), Err(QuoteError::NoProgram));
        assert_eq!(command_line("ls", std::slice::from_ref(&nul), &[], false), Err(QuoteError::Nul("an argument")));
        assert_eq!(command_line(&nul, &[], &[], false), Err(QuoteError::Nul("the program's name")));
        assert_eq!(command_line("ls", &[], &[("A".to_owned(), nul)], false), Err(QuoteError::Nul("an argument")));
        for name in ["", "1A", "A B", "A=B", "Ä", "A-B"] {
            let env = [(name.to_owned(), String::new())];
            assert_eq!(command_line("ls", &[], &env, false), Err(QuoteError::EnvName(name.to_owned())));
        }
        for program in ["-x", "LD_PRELOAD=/tmp/x", "A=b"] {
            assert_eq!(command_line(program, &[], &[], true), Err(QuoteError::ProgramName(program.to_owned())));
        }
    }
}
