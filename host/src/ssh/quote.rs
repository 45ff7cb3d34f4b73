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
pub fn command_line(program: &str, args: &[String], env: &[(String, String)], sudo: bool) -> Result<String, QuoteError> {
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
    // `exec` keeps aliases, keywords and builtins of the login shell out, and saves it a fork.
    if words.iter().enumerate().all(|(index, word)| is_plain(word, index == 0)) {
        return Ok(format!("exec {}", words.join(" ")));
    }
    Ok(format!("exec sh -c '{}'", script(&words)))
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
    is_plain_byte(byte) || matches!(byte, b' ' | b'=' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'|' | b'&' | b';' | b'#' | b'*' | b'?' | b'~' | b'^')
}

/// The word as a format of `printf`.
fn octal(word: &str) -> String {
    let mut format = String::with_capacity(word.len() * 2);
    for byte in word.bytes() {
        match byte {
            b'%' => format.push_str("%%"),
            byte if is_double_quotable(byte) => format.push(char::from(byte)),
            byte => format.push_str(&format!("\\{byte:03o}")),
        }
    }
    format
}
