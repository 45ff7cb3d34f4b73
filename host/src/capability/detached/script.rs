//! The shell programs that start, follow, stop and clean up a detached command on its server. Pure.
//!
//! Every one is read whole from standard input before the first of it runs: it is a function that its last line calls, so a
//! connection that breaks while it is being sent runs nothing. No command, variable or input is in an argument list.
//!
//! A job has a directory of mode 0700 below `$XDG_STATE_HOME`, or `~/.cache`, with these files:
//! `cmd`, `stdin`, `setup` (variables and directory), `env` (the login's environment), `run` (the supervisor), `out` and `err`,
//! `pid` (with when it was born, the boot, how it was started, when, and its process group), `exit` (code and time).
//! The directory `taken` is made exactly once, by the supervisor or by whoever decides that there shall be none (`void`).
//! That is what keeps a command from running twice, however unclear it was whether its start arrived.
//!
//! The supervisor catches INT and TERM, so that it outlives the command that they are meant for and can note its exit code.
//! Without `setsid --fork` the shell starts it with INT ignored (POSIX, 2.11), and the command is stopped by TERM.

use std::time::Duration;

use super::{DetachedPlace, Launch};

const COMMON: &str = include_str!("common.sh");
const RUN: &str = include_str!("run.sh");
const START: &str = include_str!("start.sh");
const CLAIM: &str = include_str!("claim.sh");
const FOLLOW: &str = include_str!("follow.sh");
const STOP: &str = include_str!("stop.sh");
const CLEAN: &str = include_str!("clean.sh");

/// What a shell program is to do with the job's directory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    Start(&'a Launch),
    /// Decides that the command is not started any more, unless it was.
    Claim,
    Follow(Follow),
    Stop,
    Clean,
}

/// One round of following.
#[derive(Clone, Copy, Debug)]
pub struct Follow {
    /// Bytes of standard output and standard error that are here already.
    pub from: [u64; 2],
    /// Bytes of each stream that are wanted at all.
    pub limit: u64,
    /// How long the round lasts when the command does not end.
    pub life: Duration,
}

/// The program. `nonce` begins each frame of its answer.
pub(super) fn program(place: &DetachedPlace, nonce: &str, ask: Ask<'_>) -> String {
    let mut variables = vec![("name", place.name.clone()), ("nonce", nonce.to_owned())];
    let body = match ask {
        Ask::Start(launch) => {
            variables.push(("command", launch.cmd.clone()));
            variables.push(("input", launch.stdin.clone().unwrap_or_default()));
            variables.push(("setup", setup(launch)));
            variables.push(("supervisor", RUN.replace("COMMON", COMMON)));
            START
        }
        Ask::Claim => CLAIM,
        Ask::Follow(Follow { from: [out, err], limit, life }) => {
            let numbers = [("out", out), ("err", err), ("limit", limit), ("life", life.as_secs())];
            variables.extend(numbers.map(|(name, number)| (name, number.to_string())));
            FOLLOW
        }
        Ask::Stop => STOP,
        Ask::Clean => CLEAN,
    };
    let variables: String = variables.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    format!("{variables}__main() {{\n{COMMON}{body}}}\n__main\n")
}

/// Sourced in the shell that then becomes the command.
fn setup(launch: &Launch) -> String {
    let mut setup = String::new();
    for (name, value) in &launch.env {
        setup.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    match launch.workdir.as_deref() {
        None | Some("") => setup.push(':'),
        Some("~") => setup.push_str("cd -- \"$HOME\""),
        Some(path) => match path.strip_prefix("~/") {
            Some(rest) => setup.push_str(&format!("cd -- \"$HOME\"/{}", quoted(rest))),
            None => setup.push_str(&format!("cd -- {}", quoted(path))),
        },
    }
    setup
}

/// A word in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn place() -> DetachedPlace {
        DetachedPlace { name: "j0-00".to_owned(), sudo: false }
    }

    #[test]
    fn nothing_runs_of_a_program_that_arrived_in_part() {
        let launch = Launch { cmd: "it's".to_owned(), stdin: Some("a\nb'\n".to_owned()), ..Launch::default() };
        let whole = program(&place(), "x", Ask::Start(&launch));
        let home = tempfile::tempdir().unwrap();
        // Each cut of a program this long would take minutes; a prime step meets every kind of place.
        for cut in (0..whole.len() - 8).step_by(97).chain([whole.len() - 8]) {
            let mut shell = Command::new("sh")
                .args(["-c", "eval \"$(cat)\""])
                .env("HOME", home.path())
                .env_remove("XDG_STATE_HOME")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            shell.stdin.take().unwrap().write_all(&whole.as_bytes()[..cut]).unwrap();
            assert_eq!(shell.wait_with_output().unwrap().stdout, b"", "{cut}");
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "{cut}");
        }
    }

    #[test]
    fn variables_and_directory_are_quoted() {
        let check = |env: &[(&str, &str)], workdir: Option<&str>, expected: &str| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let launch = Launch { env, workdir: workdir.map(str::to_owned), ..Launch::default() };
            assert_eq!(setup(&launch), expected);
        };
        check(&[], None, ":");
        check(&[("A", "b'c $d")], Some("/srv/a b"), "export A='b'\\''c $d'\ncd -- '/srv/a b'");
        check(&[], Some("~"), "cd -- \"$HOME\"");
        check(&[], Some("~/$x"), "cd -- \"$HOME\"/'$x'");
    }
}
