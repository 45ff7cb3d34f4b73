//! `sudo: true` on a real sshd with a real sudo: without a password, with one, and where it is not to be had.
//!
//! Commands run as users made for the test, each with a password by chance, and removed with it. That takes root; elsewhere the
//! tests say that they tried nothing.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use serde_json::{Value, json};

use crate::support::{Rig, exec_arguments};

/// An account that may use sudo as `rule` says.
struct Account {
    name: String,
    password: String,
    sudoers: PathBuf,
}

impl Account {
    /// `None` where there can be none.
    fn new(rule: &str) -> Result<Option<Account>> {
        let usable =
            rustix::process::geteuid().is_root() && ["sudo", "useradd", "setpriv"].iter().all(|name| is_here(name));
        if !usable {
            eprintln!("SKIPPED: needs root, sudo, useradd and setpriv, so nothing was tried with sudo");
            return Ok(None);
        }
        let name = format!("orchtest{:08x}", rand::random::<u32>());
        let password = format!("pw-{:032x}", rand::random::<u128>());
        let sudoers = PathBuf::from("/etc/sudoers.d").join(&name);
        // From here on a drop takes everything away again.
        let account = Account { name, password, sudoers };
        ran(Command::new("useradd").args(["-M", "-s", "/usr/sbin/nologin", &account.name]))?;
        let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn()?;
        chpasswd
            .stdin
            .take()
            .context("no input")?
            .write_all(format!("{}:{}\n", account.name, account.password).as_bytes())?;
        ensure!(chpasswd.wait()?.success(), "chpasswd failed");
        if !rule.is_empty() {
            // sudo reads no file with a dot in its name, so never half of one.
            let draft = account.sudoers.with_extension("new");
            fs::write(&draft, format!("{} {rule}\n", account.name))?;
            fs::rename(&draft, &account.sudoers)?;
        }
        Ok(Some(account))
    }

    /// A server on which everything runs as this account, though root logs in.
    async fn rig(&self, password: Option<&str>) -> Result<Rig> {
        let run = format!(
            "ForceCommand exec setpriv --reuid={0} --regid={0} --init-groups -- /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"",
            self.name
        );
        let rig = Rig::with(Options { config: vec![run], ..Options::default() }, |launch| launch).await?;
        if let Some(password) = password {
            rig.client.call("server_add", json!({"alias": "box", "password": password})).await?.ok()?;
        }
        Ok(rig)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.sudoers);
        let _ = Command::new("userdel").arg(&self.name).stderr(Stdio::null()).status();
    }
}

fn is_here(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').any(|folder| PathBuf::from(folder).join(program).exists())
}

fn ran(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}

async fn sudo(rig: &Rig, cmd: &str, more: Value) -> Result<ToolResult> {
    let mut arguments = exec_arguments(cmd, more);
    arguments["sudo"] = json!(true);
    rig.client.call("task_exec", arguments).await
}

/// Root, with input, environment and folder as they were given.
async fn works(rig: &Rig) -> Result<()> {
    let plain = rig.exec("id -un").await?.ok()?;
    assert!(plain.str("stdout").starts_with("orchtest"), "{}", plain.text);
    let more = json!({"stdin": "a\nb\n", "env": {"GREETING": "it's  me"}, "workdir": "/usr"});
    let result = sudo(rig, "id -un; pwd; echo \"$GREETING\"; cat", more).await?.ok()?;
    assert_eq!(result.str("stdout"), "root\n/usr\nit's  me\na\nb\n", "{:#}", result.structured);
    let empty = sudo(rig, "cat; echo $((6*7))", json!({})).await?.ok()?;
    assert_eq!(empty.str("stdout"), "42\n");
    assert_eq!(sudo(rig, "exit 7", json!({})).await?.structured["exit_code"], 7);
    let commands = json!(["cd /root", "id -un; pwd; cat"]);
    let arguments = json!({"alias": "box", "commands": commands, "sudo": true});
    let sequence = rig.client.call("task_exec_sequence", arguments).await?.ok()?;
    assert_eq!(sequence.structured["steps"][1]["stdout"], "root\n/root\n", "{:#}", sequence.structured);
    Ok(())
}

#[tokio::test]
async fn without_a_password_nothing_else_is_needed() -> Result<()> {
    let Some(account) = Account::new("ALL=(ALL) NOPASSWD: ALL")? else { return Ok(()) };
    works(&account.rig(None).await?).await?;
    // One that is known is not needed, and does not become the command's input.
    works(&account.rig(Some("not-the-password")).await?).await
}

#[tokio::test]
async fn the_servers_password_is_told_over_standard_input() -> Result<()> {
    let Some(account) = Account::new("ALL=(ALL) ALL")? else { return Ok(()) };
    let rig = account.rig(Some(&account.password)).await?;
    works(&rig).await?;
    let seen = sudo(&rig, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '", json!({})).await?.ok()?;
    assert!(!seen.str("stdout").contains(&account.password), "the password is in the process list");
    assert!(seen.str("stdout").contains("sudo"), "the process list is empty");
    rig.client.close().await?;
    for path in rig.place.data_files()? {
        let found = String::from_utf8_lossy(&fs::read(&path)?).contains(&account.password);
        assert!(!found, "the password is in {}", path.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_a_plain_failure() -> Result<()> {
    let Some(account) = Account::new("ALL=(ALL) ALL")? else { return Ok(()) };
    let rig = account.rig(None).await?;
    let missing = sudo(&rig, "id", json!({"timeout": 60})).await?;
    assert!(missing.is_error && missing.structured["exit_code"] == 1, "{:#}", missing.structured);
    assert!(missing.str("stderr").contains("password is required"), "{}", missing.text);
    assert!(missing.text.contains("server_add"), "{}", missing.text);
    rig.client.call("server_add", json!({"alias": "box", "password": "wrong"})).await?.ok()?;
    let wrong = sudo(&rig, "id", json!({"timeout": 60})).await?;
    assert!(wrong.is_error && !wrong.str("stdout").contains("uid=0"), "{:#}", wrong.structured);
    Ok(())
}

#[tokio::test]
async fn a_password_can_be_typed_at_the_prompt() -> Result<()> {
    let Some(account) = Account::new("ALL=(ALL) ALL")? else { return Ok(()) };
    let rig = account.rig(None).await?;
    let more = json!({"responses": {"[sudo] password for": account.password}, "timeout": 100});
    let result = rig.client.call("task_exec_interactive", exec_arguments("sudo id -un", more)).await?.ok()?;
    assert!(result.str("transcript").ends_with("root\n"), "{}", result.text);
    assert!(!format!("{}{}", result.text, result.structured).contains(&account.password));
    let wrong = json!({"responses": {"password for": "wrong-password"}, "timeout": 100});
    let wrong = rig.client.call("task_exec_interactive", exec_arguments("sudo -k id -un", wrong)).await?;
    wrong.problem("COMMAND_TIMEOUT")?.names(&["was refused", "[sudo] password for"])
}
