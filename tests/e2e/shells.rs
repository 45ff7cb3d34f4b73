//! Login shells of every family: what a command means is the shell's own, and what we put around it works in all of them.

use std::path::Path;

use anyhow::{Context, Result};
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::Rig;

/// The line of `sshd_config` that makes `shell`, called as `call`, the login shell; `cargo xtask test` says which are not here.
pub fn forced(shell: &str, call: &str) -> Option<String> {
    if !Path::new(shell).exists() {
        eprintln!("SKIPPED: {shell} is not installed, so it was not tried as a login shell");
        return None;
    }
    Some(format!("ForceCommand SHELL={shell} exec {call} -c \"$SSH_ORIGINAL_COMMAND\""))
}

/// A server whose login shell is `shell`, called as `call`.
async fn rig(shell: &str, call: &str) -> Result<Option<Rig>> {
    let Some(force) = forced(shell, call) else { return Ok(None) };
    Ok(Some(Rig::with(Options { config: vec![force], ..Options::default() }, |launch| launch).await?))
}

pub const SHELLS: [(&str, &str); 7] = [
    ("/bin/dash", "dash"),
    ("/bin/bash", "bash"),
    ("/usr/bin/zsh", "zsh"),
    ("/usr/bin/fish", "fish"),
    ("/usr/bin/tcsh", "tcsh"),
    ("/usr/bin/ksh", "ksh"),
    ("/usr/bin/busybox", "busybox sh"),
];

#[tokio::test]
async fn a_command_is_read_by_the_login_shell_whatever_surrounds_it() -> Result<()> {
    for (shell, call) in SHELLS {
        let Some(rig) = rig(shell, call).await? else { continue };
        let plain = rig.exec("echo 'a  b' | tr a-z A-Z; exit 3").await?;
        assert_eq!(
            (plain.str("stdout"), &plain.structured["exit_code"]),
            ("A  B\n", &json!(3)),
            "{shell}: {}",
            plain.text
        );
        if call.contains(' ') {
            // What follows takes the shell for a program, as it stands in the list of users.
            continue;
        }
        let more = json!({"env": {"GREETING": "it's \"me\"!\n$HOME"}, "workdir": "/usr", "stdin": "in\n"});
        let set = rig.exec_with("printenv GREETING; pwd; cat", more).await?.ok().with_context(|| shell.to_owned())?;
        assert_eq!(set.str("stdout"), "it's \"me\"!\n$HOME\n/usr\nin\n", "{shell}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sequence_runs_in_a_shell_that_can_read_it() -> Result<()> {
    for (shell, call) in SHELLS {
        let Some(rig) = rig(shell, call).await? else { continue };
        let commands = json!(["cd /usr", "X='a b'; export X", "(exit 4)", "echo \"$PWD $X\""]);
        let arguments = json!({"alias": "box", "commands": commands, "continueOnError": true});
        let result = rig.client.call("task_exec_sequence", arguments).await?;
        let steps = &result.structured["steps"];
        assert_eq!(steps[3]["stdout"], "/usr a b\n", "{shell}: {:#}", result.structured);
        assert_eq!(steps[2]["exit_code"], 4, "{shell}: {:#}", result.structured);
    }
    Ok(())
}

#[tokio::test]
async fn a_terminal_works_in_every_shell() -> Result<()> {
    for (shell, call) in SHELLS {
        let Some(rig) = rig(shell, call).await? else { continue };
        let cmd = "sh -c 'printf \"Name: \"; read n; echo \"hello $n\"'";
        let arguments = json!({"alias": "box", "cmd": cmd, "responses": {"Name": "ada"}});
        let result =
            rig.client.call("task_exec_interactive", arguments).await?.ok().with_context(|| shell.to_owned())?;
        assert_eq!(result.str("transcript"), "Name: ada\nhello ada\n", "{shell}");
    }
    Ok(())
}

#[tokio::test]
async fn a_noisy_login_does_not_get_between_the_steps() -> Result<()> {
    let force = "ForceCommand echo welcome; echo warning >&2; exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"".to_owned();
    let rig = Rig::with(Options { config: vec![force], ..Options::default() }, |launch| launch).await?;
    let arguments = json!({"alias": "box", "commands": ["echo a", "echo b >&2"]});
    let result = rig.client.call("task_exec_sequence", arguments).await?.ok()?;
    let steps = &result.structured["steps"];
    assert_eq!((&steps[0]["stdout"], &steps[0]["stderr"]), (&json!("a\n"), &json!("")), "{steps:#}");
    assert_eq!((&steps[1]["stdout"], &steps[1]["stderr"]), (&json!(""), &json!("b\n")), "{steps:#}");
    // A login that lets nothing run is told with what it said.
    let closed = "ForceCommand echo 'This account is closed.' >&2; exit 1".to_owned();
    let rig = Rig::with(Options { config: vec![closed], ..Options::default() }, |launch| launch).await?;
    let arguments = json!({"alias": "box", "commands": ["echo a", "echo b"]});
    let refused = rig.client.call("task_exec_sequence", arguments).await?;
    assert!(refused.is_error && refused.structured["not_run"] == 2, "{:#}", refused.structured);
    assert!(
        refused.text.contains("no step of 2 was run") && refused.text.contains("account is closed"),
        "{}",
        refused.text
    );
    Ok(())
}
