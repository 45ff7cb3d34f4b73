//! Several commands in one shell on a server, so that a directory or a variable that one sets is there for the next.
//!
//! The shell gets them on its standard input, all before the first one runs: none of them can eat the next, and they are not in
//! the server's process list. Between them it prints marks (`marks`), by which the output is told apart.

mod marks;
mod script;

use std::time::Duration;

use super::command::{Wire, as_root};
use super::{Finished, OutputSink, Quota, Servers};
use crate::call::Call;
use crate::error::Problem;
use crate::secrets::Secret;
use crate::ssh;

pub use marks::{Mark, Marks, Piece, Splitter};

/// One of the commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub cmd: String,
    /// The next one runs whether this one succeeds or not.
    pub go_on: bool,
    /// It never ends by itself: it runs as a child of the shell and is ended once it had this.
    pub share: Option<Quota>,
}

/// Commands for one shell, in order.
#[derive(Clone, Debug)]
pub struct Sequence {
    pub steps: Vec<Step>,
    /// What the shell prints between them.
    pub marks: Marks,
    /// Through `sudo -n`.
    pub sudo: bool,
    /// For all of them together.
    pub timeout: Option<Duration>,
}

/// Becomes the user's own shell where that is one of the POSIX family, since commands written for bash must not meet dash; else
/// `/bin/sh`, also for ksh 93, which ends at a failed subshell in an `eval` within another. The program is read whole before
/// the first of it runs.
const BEGIN: &str = r#"case ${SHELL##*/} in
bash | zsh | mksh | yash | dash | ash) s=$SHELL ;;
*) s=/bin/sh ;;
esac
exec "$s" -c 'eval "$(cat)"' "$s""#;

impl Sequence {
    fn wire(self, password: Option<&Secret>) -> Result<Wire, Problem> {
        let commands: Vec<&str> = self.steps.iter().map(|step| step.cmd.as_str()).collect();
        let asked = format!("{}{}", if self.sudo { "sudo: " } else { "" }, commands.join("\n"));
        let words = vec!["-c".to_owned(), BEGIN.to_owned()];
        let program = Some(script::program(&self.steps, &self.marks).into_bytes());
        let (line, stdin) = if self.sudo {
            as_root(words, program, password)?
        } else {
            (ssh::command_line("sh", &words, &[], false)?, program)
        };
        Ok(Wire { line, asked, stdin, pty: false, timeout: self.timeout, quota: None, typed: None, watched: None })
    }
}

impl Servers {
    /// Runs the commands one after the other; what they print goes to `sink` with the marks in it.
    pub async fn sequence<S: OutputSink>(
        &self,
        call: &Call,
        alias: &str,
        sequence: Sequence,
        sink: &mut S,
    ) -> Result<Finished, Problem> {
        let password = self.sudo_password(alias, sequence.sudo).await?;
        self.run(call, alias, sequence.wire(password.as_ref())?, sink).await
    }
}

#[cfg(test)]
mod tests;
