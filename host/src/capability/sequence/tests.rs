//! The program in every shell that is here, run locally: what a server's shell makes of it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::capability::Stream;

/// Shells that may become the one that runs the steps; those that are not here are left out.
const SHELLS: &[&str] = &["/bin/sh", "/bin/bash", "/bin/dash", "/bin/zsh", "/bin/mksh", "/bin/yash"];
/// Login shells that are not of that family, and the family again: each must hand over to the right one.
const LOGIN_SHELLS: &[&str] =
    &["/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/ksh", "/usr/bin/fish", "/usr/bin/tcsh"];

fn here(shells: &[&'static str]) -> Vec<&'static str> {
    shells.iter().copied().filter(|shell| std::path::Path::new(shell).exists()).collect()
}

/// What became of each step, in the order of the marks: `number:code` and the output of both streams.
struct Ran {
    ends: String,
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// The shell's own end.
    code: Option<i32>,
}

fn run_in(login: &str, shell: &str, steps: &[Step]) -> Ran {
    let marks = Marks::default();
    let sequence = Sequence { steps: steps.to_vec(), marks: marks.clone(), sudo: false, timeout: None };
    let wire = sequence.wire(None).unwrap();
    let mut command = Command::new(login);
    command.args(["-c", &wire.line]).env("SHELL", shell).env("PS4", "+ ");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&wire.stdin.unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let mut splitter = marks.splitter();
    let mut ends = Vec::new();
    let mut texts = [Stream::Stdout, Stream::Stderr].map(|stream| {
        let bytes = if stream == Stream::Stdout { &output.stdout } else { &output.stderr };
        let mut texts = vec![String::new()];
        for piece in splitter.push(stream, bytes) {
            match piece {
                Piece::Bytes(bytes) => texts.last_mut().unwrap().push_str(std::str::from_utf8(&bytes).unwrap()),
                Piece::Mark(Mark::Begin(_)) => texts.push(String::new()),
                Piece::Mark(Mark::End { step, code, stopped }) if stream == Stream::Stdout => {
                    ends.push(format!(
                        "{}:{}",
                        step + 1,
                        if stopped { "stopped".to_owned() } else { code.to_string() }
                    ));
                }
                Piece::Mark(_) => {}
            }
        }
        texts.remove(0);
        texts
    });
    Ran {
        ends: ends.join(" "),
        stderr: std::mem::take(&mut texts[1]),
        stdout: std::mem::take(&mut texts[0]),
        code: output.status.code(),
    }
}

fn steps(commands: &[&str]) -> Vec<Step> {
    commands.iter().map(|cmd| Step { cmd: (*cmd).to_owned(), ..Step::default() }).collect()
}

fn going_on(commands: &[&str]) -> Vec<Step> {
    steps(commands).into_iter().map(|step| Step { go_on: true, ..step }).collect()
}

/// The same in every shell: the ends and what each step printed.
fn check(steps: &[Step], ends: &str, stdout: &[&str]) {
    for shell in here(SHELLS) {
        let ran = run_in("/bin/sh", shell, steps);
        assert_eq!(
            (ran.ends.as_str(), &ran.stdout),
            (ends, &stdout.iter().map(|text| (*text).to_owned()).collect()),
            "{shell}: {:?}",
            ran.stderr
        );
    }
}

#[test]
fn what_one_step_sets_the_next_one_has() {
    check(
        &steps(&["cd /usr", "export A='x  y'; b=1", "f() { echo \"$PWD|$A|$b\"; }", "f", "sh -c 'echo \"$A|$b\"'"]),
        "1:0 2:0 3:0 4:0 5:0",
        &["", "", "", "/usr|x  y|1\n", "x  y|\n"],
    );
}

#[test]
fn the_first_failure_ends_it_unless_told_otherwise() {
    check(&steps(&["echo a", "(exit 7)", "echo c"]), "1:0 2:7", &["a\n", ""]);
    check(&going_on(&["echo a", "(exit 7)", "echo c"]), "1:0 2:7 3:0", &["a\n", "", "c\n"]);
}

#[test]
fn a_step_cannot_swallow_the_next_one() {
    for broken in ["echo \"open", "echo 'open", "if true; then", "cat <<END\nx", "echo $(", "f() {", ")", "echo `x"] {
        let steps = going_on(&["echo a", broken, "echo c"]);
        for shell in here(SHELLS) {
            let ran = run_in("/bin/sh", shell, &steps);
            assert_eq!(
                ran.stdout.last().map(String::as_str),
                Some("c\n"),
                "{shell} {broken:?}: {} {:?}",
                ran.ends,
                ran.stderr
            );
            assert!(ran.ends.starts_with("1:0 2:") && ran.ends.ends_with(" 3:0"), "{shell} {broken:?}: {}", ran.ends);
        }
    }
    check(&steps(&["cat; read x; echo \"[$x]\"", "echo b"]), "1:0 2:0", &["[]\n", "b\n"]);
    check(&steps(&["echo a # comment", "echo c;"]), "1:0 2:0", &["a\n", "c\n"]);
    // What a trailing backslash means is the shell's own business, but only of its step.
    for shell in here(SHELLS) {
        assert_eq!(run_in("/bin/sh", shell, &steps(&["echo b \\", "echo c"])).stdout[1], "c\n", "{shell}");
    }
}

#[test]
fn an_exit_ends_the_shell_with_its_code() {
    for shell in here(SHELLS) {
        for (cmd, code) in [("exit 3", 3), ("set -e; false; echo no", 1)] {
            let ran = run_in("/bin/sh", shell, &going_on(&["echo a", cmd, "echo c"]));
            assert_eq!((ran.ends.as_str(), ran.code), ("1:0", Some(code)), "{shell} {cmd}: {:?}", ran.stderr);
            assert_eq!(ran.stdout, ["a\n", ""], "{shell} {cmd}");
        }
    }
}

#[test]
fn options_and_names_of_a_step_do_not_reach_what_is_between() {
    for options in [
        "set -eu",
        "set -f",
        "IFS=0123456789abcdef",
        "printf() { echo no; }",
        "alias printf=no",
        "PATH=/nonexistent",
        "exec 3>&-",
        "set -- a b c",
    ] {
        let stdout = ["", "b\n"];
        for shell in here(SHELLS) {
            let ran = run_in("/bin/sh", shell, &steps(&[options, "echo b"]));
            assert_eq!(
                (ran.ends.as_str(), ran.stdout),
                ("1:0 2:0", stdout.map(str::to_owned).to_vec()),
                "{shell} {options}: {:?}",
                ran.stderr
            );
        }
    }
}

#[test]
fn printing_everything_prints_no_mark() {
    for shell in here(SHELLS) {
        let ran = run_in("/bin/sh", shell, &steps(&["set; set -x; echo b; env", "echo c"]));
        assert_eq!(ran.ends, "1:0 2:0", "{shell}");
        assert!(ran.stdout[0].contains("__s="), "{shell}: nothing was tried");
        assert_eq!(ran.stdout[1], "c\n", "{shell}");
        assert!(!ran.stderr[1].contains("__put"), "{shell}: {:?}", ran.stderr);
    }
}

#[test]
fn both_streams_are_told_apart_without_line_ends() {
    for shell in here(SHELLS) {
        let ran = run_in("/bin/sh", shell, &steps(&["printf a; printf b >&2", "exec 2>&1; echo c >&2", "echo d"]));
        assert_eq!(ran.stdout, ["a", "c\n", "d\n"], "{shell}");
        assert_eq!(ran.stderr[0], "b", "{shell}");
    }
}

#[test]
fn what_never_ends_has_its_share_and_the_next_step_runs() {
    use std::time::Duration;
    let share = |seconds, lines| Some(Quota { time: Duration::from_secs(seconds), lines });
    let bounded = |cmd: &str, share| Step { cmd: cmd.to_owned(), share, ..Step::default() };
    for shell in here(SHELLS) {
        let steps = [
            bounded("cd /usr; export A=1", None),
            bounded("echo \"$A\"; pwd; tail -f /dev/null", share(1, 100)),
            bounded("while :; do echo x; done", share(30, 3)),
            bounded("pwd", None),
            bounded("echo gone; (exit 4)", share(30, 100)),
            bounded("echo never", None),
        ];
        let ran = run_in("/bin/sh", shell, &steps);
        assert_eq!(ran.ends, "1:0 2:stopped 3:stopped 4:0 5:4", "{shell}: {:?}", ran.stderr);
        assert_eq!(ran.stdout, ["", "1\n/usr\n", "x\nx\nx\n", "/usr\n", "gone\n"], "{shell}");
    }
}

#[test]
fn every_login_shell_hands_over_to_one_that_can_read_it() {
    let hostile = "echo 'it'\\''s' \"$((1+1))\" '!' `echo x`\nprintf '%s\\n' \"é ü\"";
    for login in here(LOGIN_SHELLS) {
        let ran = run_in(login, login, &going_on(&[hostile, "A=1; (exit 7)", "echo $A"]));
        assert_eq!(
            (ran.ends.as_str(), ran.stdout[0].as_str()),
            ("1:0 2:7 3:0", "it's 2 ! x\né ü\n"),
            "{login}: {:?}",
            ran.stderr
        );
        assert_eq!(ran.stdout[2], "1\n", "{login}");
    }
}
