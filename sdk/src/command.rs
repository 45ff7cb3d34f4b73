//! A command on a server: a program and its arguments, never a shell string. What the host does with it is in `wit/ssh.wit`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub program: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Option<Vec<u8>>,
    pub sudo: bool,
    pub timeout: Option<Duration>,
}

impl Command {
    /// `program` is looked up in the login user's PATH unless it has a slash.
    pub fn new(program: impl Into<String>) -> Self {
        Command { program: program.into(), ..Command::default() }
    }

    /// Adds one argument. It arrives byte for byte, whatever it holds.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What is written to standard input, which is then closed.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Runs it as root through `sudo -n`.
    pub fn sudo(mut self) -> Self {
        self.sudo = true;
        self
    }

    /// How long it may take, connecting included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same in seconds.
    pub fn timeout_seconds(self, seconds: u64) -> Self {
        self.timeout(Duration::from_secs(seconds))
    }
}

/// As one would type it, for messages and for [`Mock`](crate::mock::Mock).
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sudo {
            f.write_str("sudo -n ")?;
        }
        if !self.env.is_empty() {
            f.write_str("env ")?;
            for (name, value) in &self.env {
                write!(f, "{name}={} ", quoted(value))?;
            }
        }
        f.write_str(&quoted(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

/// A command that ran to its end. Exiting non-zero is no error of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Absent when a signal ended it or the server did not tell.
    pub exit_code: Option<u32>,
    /// The signal's name without SIG, when one ended it.
    pub exit_signal: Option<String>,
    /// At most the first 1 MiB.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub stdout_truncated: bool,
    pub stderr_truncated: bool,
    pub duration: Duration,
}

/// Bytes as text; what is not UTF-8 becomes U+FFFD. What is UTF-8, as nearly everything is, is not gone through letter by letter.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

impl Finished {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// Standard output as text; what is not UTF-8 becomes U+FFFD.
    pub fn stdout_text(&self) -> Cow<'_, str> {
        text(&self.stdout)
    }

    /// Standard error as text; what is not UTF-8 becomes U+FFFD.
    pub fn stderr_text(&self) -> Cow<'_, str> {
        text(&self.stderr)
    }

    /// How it ended, with the first line of standard error: `exited with 1: no such file`.
    pub fn ending(&self) -> String {
        let how = match (self.exit_code, &self.exit_signal) {
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => format!("was ended by the signal {signal}"),
            (None, None) => "ended without telling its exit status".to_owned(),
        };
        let stderr = self.stderr_text();
        match stderr.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let check = |command: Command, shown: &str| assert_eq!(command.to_string(), shown);
        check(Command::new("df").arg("-P").args(["-k", "/srv/my files"]), "df -P -k '/srv/my files'");
        check(Command::new("ls").env("LC_ALL", "C").sudo(), "sudo -n env LC_ALL=C ls");
        check(Command::new("echo").arg("it's").arg(""), r"echo 'it'\''s' ''");
    }

    #[test]
    fn the_ending_names_the_status_and_the_first_line_of_the_error() {
        let mut finished =
            Finished { exit_code: Some(2), stderr: b"\n  df: no such file\nmore".to_vec(), ..Finished::default() };
        assert_eq!(finished.ending(), "exited with 2: df: no such file");
        finished = Finished { exit_signal: Some("KILL".to_owned()), ..Finished::default() };
        assert_eq!(finished.ending(), "was ended by the signal KILL");
    }
}
