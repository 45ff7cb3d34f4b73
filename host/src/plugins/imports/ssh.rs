//! `ssh`: commands on servers for a guest. It checks what the guest asks for and hands it to the capability layer; how a
//! command is quoted, sent, timed and audited is decided there, for plugins and core tools alike.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::{process, servers};
use crate::call::Call;
use crate::capability::{Argv, Captured, Process, Processes, Servers};
use crate::error::Problem;
use crate::plugins::bindings::orchestrator::plugin::{ssh as wit, types};
use crate::plugins::error::Stopped;
use crate::plugins::grants::Granted;
use crate::plugins::ticker::Stopwatch;

/// Kept of each output stream, as the contract says.
const OUTPUT_LIMIT: usize = 1 << 20;
/// Commands of one `exec-all`.
const MAX_COMMANDS: usize = 32;
/// Program, arguments and environment together: what Linux takes for a single argument (MAX_ARG_STRLEN).
const MAX_LINE: usize = 128 << 10;
const MAX_WORDS: usize = 4096;
const MAX_STDIN: usize = 1 << 20;
/// A longer time is as good as none, and later arithmetic with it cannot overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub struct Context {
    pub runner: Runner,
    pub held: process::Held,
}

/// What runs commands for a guest.
pub struct Runner {
    pub granted: Arc<Granted>,
    /// None while a plugin describes itself.
    pub servers: Option<Servers>,
    pub call: Call,
    /// Told while a server is waited for.
    pub watch: Stopwatch,
    /// Whoever ends the call waits for them.
    pub processes: Processes,
}

impl Runner {
    async fn run(&self, alias: &str, command: wit::Command) -> Result<wit::Finished, types::Problem> {
        Ok(self.capture(alias, command).await?.into())
    }

    async fn capture(&self, alias: &str, command: wit::Command) -> Result<Captured, Problem> {
        let (servers, argv) = self.allowed(alias, command)?;
        servers.capture(&self.call, alias, argv, OUTPUT_LIMIT).await
    }

    async fn start(&self, alias: &str, command: wit::Command) -> Result<Process, Problem> {
        let (servers, argv) = self.allowed(alias, command)?;
        servers.spawn(&self.call, alias, argv, &self.processes).await
    }

    /// The command, if it is one and granted, and what runs it.
    fn allowed(&self, alias: &str, command: wit::Command) -> Result<(&Servers, Argv), Problem> {
        let argv = argv(command)?;
        servers::find(&self.granted, self.servers.as_ref(), alias)?;
        self.granted.check_command(&argv.program, &argv.args, &argv.env, argv.sudo)?;
        // Without servers none was found, so this is not reached.
        let described = || Problem::internal("a plugin asked for a server while it described itself");
        Ok((self.servers.as_ref().ok_or_else(described)?, argv))
    }

    /// A guest whose call was cancelled does not go on: it could not do anything useful with the answer.
    pub fn go_on(&self) -> wasmtime::Result<()> {
        if self.call.cancel.is_cancelled() { Err(Stopped::Cancelled.into()) } else { Ok(()) }
    }
}

/// The command, if it is one. What a POSIX process or a sane budget cannot take is refused with the reason.
fn argv(command: wit::Command) -> Result<Argv, Problem> {
    let wit::Command { program, args, env, stdin, sudo, timeout_ms } = command;
    if program.is_empty() {
        return Err(Problem::invalid("the program to run is empty"));
    }
    if args.len() + env.len() > MAX_WORDS {
        return Err(Problem::invalid(format!("a command may have at most {MAX_WORDS} arguments and variables")));
    }
    let words = || std::iter::once(&program).chain(&args).chain(env.iter().flat_map(|(name, value)| [name, value]));
    if words().any(|word| word.contains('\0')) {
        return Err(Problem::invalid("an argument holds a NUL character, which no process can be given"));
    }
    if words().map(String::len).sum::<usize>() > MAX_LINE {
        return Err(Problem::invalid(format!("a command line may have at most {MAX_LINE} bytes")));
    }
    if stdin.as_ref().is_some_and(|bytes| bytes.len() > MAX_STDIN) {
        return Err(Problem::invalid(format!("a command's standard input may have at most {MAX_STDIN} bytes")));
    }
    if let Some((name, _)) = env.iter().find(|(name, _)| !is_variable_name(name)) {
        let name: String = name.chars().take(64).collect();
        return Err(Problem::invalid(format!(
            "{name:?} is no name for an environment variable (^[A-Za-z_][A-Za-z0-9_]*$)"
        )));
    }
    let timeout = timeout_ms.map(|ms| Duration::from_millis(ms).min(MAX_TIMEOUT));
    Ok(Argv { program, args, env, stdin, sudo, timeout })
}

fn is_variable_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl From<Captured> for wit::Finished {
    fn from(captured: Captured) -> Self {
        wit::Finished {
            exit_code: captured.finished.exit_code,
            exit_signal: captured.finished.exit_signal,
            stdout: captured.stdout,
            stderr: captured.stderr,
            stdout_truncated: captured.stdout_truncated,
            stderr_truncated: captured.stderr_truncated,
            duration_ms: u64::try_from(captured.finished.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

type Answer = Result<wit::Finished, types::Problem>;

impl wit::Host for Context {
    async fn exec(&mut self, server: String, command: wit::Command) -> wasmtime::Result<Answer> {
        self.runner.go_on()?;
        let waiting = self.runner.watch.wait();
        let answer = self.runner.run(&server, command).await;
        drop(waiting);
        self.runner.go_on()?;
        Ok(answer)
    }

    async fn exec_all(&mut self, server: String, commands: Vec<wit::Command>) -> wasmtime::Result<Vec<Answer>> {
        self.runner.go_on()?;
        if commands.len() > MAX_COMMANDS {
            let problem = Problem::invalid(format!(
                "exec-all takes at most {MAX_COMMANDS} commands, not {}: none of them was run",
                commands.len()
            ));
            return Ok(commands.iter().map(|_| Err(problem.clone().into())).collect());
        }
        let waiting = self.runner.watch.wait();
        let runner = &self.runner;
        let answers = join_all(commands.into_iter().map(|command| runner.run(&server, command))).await;
        drop(waiting);
        self.runner.go_on()?;
        Ok(answers)
    }

    async fn spawn(
        &mut self,
        server: String,
        command: wit::Command,
    ) -> wasmtime::Result<Result<Resource<Process>, types::Problem>> {
        self.runner.go_on()?;
        let waiting = self.runner.watch.wait();
        let started = self.runner.start(&server, command).await;
        drop(waiting);
        self.runner.go_on()?;
        Ok(match started {
            Ok(process) => Ok(self.held.table.push(process)?),
            Err(problem) => Err(problem.into()),
        })
    }
}

pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut Context,
) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn command(program: &str, args: &[&str]) -> wit::Command {
        wit::Command {
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            stdin: None,
            sudo: false,
            timeout_ms: None,
        }
    }

    #[test]
    fn a_command_that_no_process_could_be_given_is_refused_with_the_reason() {
        let refused = |command: wit::Command, expected: &str| {
            let problem = argv(command).unwrap_err();
            assert_eq!(problem.code, Code::InvalidArgument);
            assert!(problem.message.contains(expected), "{}", problem.message);
        };
        refused(command("", &[]), "empty");
        refused(command("df", &["a\0b"]), "NUL");
        refused(command("df", &["x".repeat(MAX_LINE).as_str()]), "at most 131072 bytes");
        refused(command("df", &vec!["x"; MAX_WORDS + 1]), "at most 4096");
        refused(wit::Command { stdin: Some(vec![0; MAX_STDIN + 1]), ..command("cat", &[]) }, "standard input");
        for name in ["", "1A", "A-B", "A=B", "Ä"] {
            let env = vec![(name.to_owned(), String::new())];
            refused(wit::Command { env, ..command("df", &[]) }, "no name for an environment variable");
        }
    }

    #[test]
    fn a_command_arrives_as_it_was_given_and_its_time_is_bounded() {
        let given = wit::Command {
            env: vec![("_A1".to_owned(), "b c".to_owned())],
            stdin: Some(vec![0, 255]),
            sudo: true,
            timeout_ms: Some(u64::MAX),
            ..command("/bin/echo", &["", "a b", "'\"$x\n"])
        };
        let expected = Argv {
            program: "/bin/echo".into(),
            args: vec!["".into(), "a b".into(), "'\"$x\n".into()],
            env: vec![("_A1".into(), "b c".into())],
            stdin: Some(vec![0, 255]),
            sudo: true,
            timeout: Some(MAX_TIMEOUT),
        };
        assert_eq!(argv(given), Ok(expected));
    }
}
