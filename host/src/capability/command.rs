//! Commands as tools and plugins ask for them, and what comes back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::error::Problem;
use crate::secrets::Secret;
use crate::ssh::{self, OutputSink, Quota, Stopped, Stream};

/// A program and its arguments: quoted here, so that nothing in them can be read as shell syntax.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Argv {
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Option<Vec<u8>>,
    /// Through `sudo -n`.
    pub sudo: bool,
    pub timeout: Option<Duration>,
}

/// A line for the login shell, as the user wrote it. Only core tools may ask for one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shell {
    pub cmd: String,
    pub stdin: Option<Vec<u8>>,
    pub env: Vec<(String, String)>,
    pub workdir: Option<String>,
    /// Through `sudo -n`.
    pub sudo: bool,
    /// In a pseudo-terminal (RFC 4254, 6.2).
    pub pty: bool,
    pub timeout: Option<Duration>,
    /// It is stopped once this much of it is there, which is no error.
    pub quota: Option<Quota>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    pub exit_code: Option<u32>,
    /// The signal's name without SIG (RFC 4254, 6.10).
    pub exit_signal: Option<String>,
    /// From the request to the end, without connecting.
    pub duration: Duration,
    /// It was stopped because its quota was used up.
    pub stopped: Option<Stopped>,
}

/// A command's whole output, up to a limit, in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    pub finished: Finished,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub stdout_truncated: bool,
    pub stderr_truncated: bool,
}

/// Keeps the beginning of each stream in memory.
pub(super) struct Buffer {
    /// Bytes of each stream.
    limit: usize,
    stdout: (Vec<u8>, bool),
    stderr: (Vec<u8>, bool),
}

impl Buffer {
    pub(super) fn new(limit: usize) -> Self {
        Buffer { limit, stdout: Default::default(), stderr: Default::default() }
    }

    pub(super) fn into_captured(self, finished: Finished) -> Captured {
        let ((stdout, stdout_truncated), (stderr, stderr_truncated)) = (self.stdout, self.stderr);
        Captured { finished, stdout, stderr, stdout_truncated, stderr_truncated }
    }
}

impl OutputSink for Buffer {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        let (kept, truncated) = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = self.limit.saturating_sub(kept.len());
        *truncated |= bytes.len() > room;
        kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(())
    }
}

/// Where keys come from that are pressed while a command runs.
pub(super) type Keyboard = mpsc::Receiver<Zeroizing<Vec<u8>>>;

/// A command as it goes over the wire.
pub(super) struct Wire {
    pub line: String,
    /// The command in the words of whoever asked for it, for the audit line.
    pub asked: String,
    pub stdin: Option<Vec<u8>>,
    pub pty: bool,
    pub timeout: Option<Duration>,
    pub quota: Option<Quota>,
    /// What is typed while it runs.
    pub typed: Option<Keyboard>,
    /// It is a process that somebody watches.
    pub watched: Option<Watched>,
}

/// What makes a command a process that somebody watches.
pub(super) struct Watched {
    pub signals: mpsc::Receiver<ssh::Signal>,
    /// Filled once it is known.
    pub pid: Arc<OnceLock<u32>>,
}

/// Changes the directory and sets the environment, then runs the command in the user's own shell: what was written for
/// bash must not meet dash only because a directory was given.
const PRELUDE: &str = r#"d=$1; c=$2; shift 2
case $d in "~") d=$HOME;; "~/"*) d=$HOME/${d#"~/"};; esac
if [ -n "$d" ]; then cd -- "$d" || exit 1; fi
exec env "$@" "${SHELL:-/bin/sh}" -c "$c""#;

/// Runs its arguments as root with a password that is the first line of standard input: `sudo -n` first, which needs none.
///
/// The password is in no argument list: where `printf` is no builtin it is not used. `-k` makes sudo read it also when it
/// would trust an earlier login, since it would be the command's first line of input otherwise.
const SUDO: &str = r#"IFS= read -r p || exit 1
if sudo -n true </dev/null 2>/dev/null; then exec sudo -n -- "$@"; fi
case $(command -v printf) in /*) exec sudo -n -- "$@" ;; esac
{ printf "%s\n" "$p"; exec cat; } | sudo -k -S -p "" -- "$@""#;

/// Says the number of its process and becomes the program, which keeps it.
const SAYS_WHO: &str = r#"echo "$1 $$"; shift; exec "$@""#;

/// The line that runs `sh` with `args`, and its standard input. With a password sudo may ask for one.
pub(super) fn as_root(
    args: Vec<String>,
    stdin: Option<Vec<u8>>,
    password: Option<&Secret>,
) -> Result<(String, Option<Vec<u8>>), Problem> {
    // A line end in it would make it two, of which the second one is the command's.
    let Some(password) = password.filter(|password| !password.expose().contains(['\n', '\0'])) else {
        return Ok((ssh::command_line("sh", &args, &[], true)?, stdin));
    };
    let mut words = ["-c", SUDO, "sh", "sh"].map(str::to_owned).to_vec();
    words.extend(args);
    let input = [password.expose().as_bytes(), b"\n", &stdin.unwrap_or_default()].concat();
    Ok((ssh::command_line("sh", &words, &[], false)?, Some(input)))
}

impl Shell {
    /// `password` is what sudo may be told, which takes standard input and not a terminal.
    pub(super) fn wire(self, password: Option<&Secret>) -> Result<Wire, Problem> {
        let asked = if self.sudo { format!("sudo: {}", self.cmd) } else { self.cmd.clone() };
        let (line, stdin) = if self.env.is_empty() && self.workdir.is_none() && !self.sudo {
            (self.cmd, self.stdin)
        } else {
            for (name, _) in &self.env {
                check_name(name)?;
            }
            let mut args = vec!["-c".to_owned(), PRELUDE.to_owned(), "sh".to_owned()];
            args.push(self.workdir.unwrap_or_default());
            args.push(self.cmd);
            args.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
            if self.sudo {
                as_root(args, self.stdin, password.filter(|_| !self.pty))?
            } else {
                (ssh::command_line("sh", &args, &[], false)?, self.stdin)
            }
        };
        Ok(Wire {
            line,
            asked,
            stdin,
            pty: self.pty,
            timeout: self.timeout,
            quota: self.quota,
            typed: None,
            watched: None,
        })
    }
}

impl Argv {
    pub(super) fn wire(self) -> Result<Wire, Problem> {
        for (name, _) in &self.env {
            check_name(name)?;
        }
        let line = ssh::command_line(&self.program, &self.args, &self.env, self.sudo)?;
        // Without the environment, whose values are nobody's business.
        let asked = match self.env.is_empty() {
            true => line.clone(),
            false => ssh::command_line(&self.program, &self.args, &[], self.sudo)?,
        };
        let (stdin, timeout) = (self.stdin, self.timeout);
        Ok(Wire { line, asked, stdin, pty: false, timeout, quota: None, typed: None, watched: None })
    }

    /// The same for a process that is to say which one it is before it is the program: `MARK PID`, on a line of its own.
    pub(super) fn watched(self, mark: &str, watched: Watched) -> Result<Wire, Problem> {
        let wire = self.clone().wire()?;
        let mut words = ["-c", SAYS_WHO, "sh", mark].map(str::to_owned).to_vec();
        words.extend(ssh::command_words(&self.program, &self.args, &self.env, self.sudo)?);
        let line = ssh::command_line("sh", &words, &[], false)?;
        Ok(Wire { line, watched: Some(watched), ..wire })
    }
}

/// The names that POSIX lets a program rely on.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let mut letters = name.chars();
    let starts_well = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if starts_well && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Ok(());
    }
    Err(Problem::invalid(format!("{name:?} is no name for an environment variable"))
        .detail("argument", "env")
        .hint("Use letters, digits and underscores, and no digit first."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_command_goes_to_the_login_shell_as_it_is() {
        let shell = Shell { cmd: "echo 'a b' | wc -c".to_owned(), ..Shell::default() };
        assert_eq!(shell.wire(None).unwrap().line, "echo 'a b' | wc -c");
    }

    #[tokio::test]
    async fn memory_keeps_the_beginning_of_a_stream_and_says_so() {
        let mut buffer = Buffer::new(4);
        buffer.write(Stream::Stdout, b"abc").await.unwrap();
        buffer.write(Stream::Stdout, b"def").await.unwrap();
        buffer.write(Stream::Stderr, b"1234").await.unwrap();
        let finished = Finished { exit_code: Some(0), exit_signal: None, duration: Duration::ZERO, stopped: None };
        let captured = buffer.into_captured(finished);
        assert_eq!((captured.stdout.as_slice(), captured.stdout_truncated), (b"abcd".as_slice(), true));
        assert_eq!((captured.stderr.as_slice(), captured.stderr_truncated), (b"1234".as_slice(), false));
    }

    #[test]
    fn a_bad_variable_name_is_refused_before_anything_runs() {
        for (name, good) in [("A_1", true), ("_", true), ("1A", false), ("", false), ("A=B", false), ("A;rm", false)] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }
}
