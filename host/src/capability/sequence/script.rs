//! The program that runs the steps: a POSIX shell script, also for zsh. Pure.
//!
//! Each step is a string of its own, evaluated in the shell itself: a quote left open ends with its step. `command` keeps a
//! syntax error in it from ending the shell (POSIX, 2.8.1); zsh has it otherwise and needs no help there. The assignment behind
//! it is a line of its own because bash reads a `{` there as a word after a syntax error.

use super::{Marks, Step};
use crate::capability::Quota;

/// Marks go to copies of both streams, so that a step may redirect the shell's own. Standard input is empty for every step.
/// Tracing (`set -x`) does not show the marks, and a function or an alias of a step does not replace what prints them.
const BEGIN: &str = r#"exec 8>&1 9>&2 </dev/null
if [ -n "${ZSH_VERSION-}" ]; then
__put() { builtin printf '\036%s %s %s %s\036' 'NONCE' "$@"; }
else
__put() { command printf '\036%s %s %s %s\036' 'NONCE' "$@"; }
fi
__mark() { __c=$3; __put "$@" >&8; __put "$@" >&9; }
"#;

pub(super) fn program(steps: &[Step], marks: &Marks) -> String {
    let mut program = BEGIN.replace("NONCE", marks.nonce());
    for (number, step) in (1..).zip(steps) {
        program.push_str(&format!("{{ __mark B {number} 0; }} 2>/dev/null\n__s={}\n", quoted(&step.cmd)));
        match step.share {
            None => program.push_str(&format!(
                "if [ -n \"${{ZSH_VERSION-}}\" ]; then eval \"$__s\"; else command eval \"$__s\"; fi\n\
                 __c=$?\n\
                 {{ __mark E {number} \"$__c\"; }} 2>/dev/null\n"
            )),
            Some(share) => program.push_str(&bounded(number, share)),
        }
        if !step.go_on {
            program.push_str("case $__c in 0) ;; *) exit \"$__c\" ;; esac\n");
        }
    }
    // What the last step returned has been told by its mark.
    program.push_str("exit 0\n");
    program
}

/// A step that never ends by itself, in a shell of its own: it sees directory and exported variables, and changes neither.
/// Ended by the clock its status is 124 or 137, by the count of lines that of a broken pipe.
fn bounded(number: usize, share: Quota) -> String {
    let (seconds, lines) = (share.time.as_secs().max(1), share.lines);
    format!(
        "__c=$({{ {{ timeout -k 2 {seconds} \"$0\" -c \"$__s\" 2>&9; command printf %s \"$?\" >&7; }} | head -n {lines} >&8; }} 7>&1)\n\
         {{ case $__c in 124 | 137 | 141) __mark S {number} 0 ;; *) __mark E {number} \"$__c\" ;; esac; }} 2>/dev/null\n"
    )
}

/// A word in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
