//! Logging in: key files as users have them, passwords, the agent; and what is said when it does not work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::embedded::{Accounts, Embedded, Faults};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use orchestrator_tests::wait;
use serde_json::{Value, json};

use crate::support::Rig;

/// Adds the sshd of the rig as `door` with this way to log in, and runs a command there.
async fn through(rig: &Rig, login: Value) -> Result<ToolResult> {
    let mut arguments = json!({
        "alias": "door", "host": "127.0.0.1", "port": rig.sshd.port(), "user": rig.sshd.user,
        "hostKey": rig.sshd.fingerprint(),
    });
    if let (Some(arguments), Value::Object(login)) = (arguments.as_object_mut(), login) {
        arguments.extend(login);
    }
    rig.client.call("server_add", arguments).await?.ok()?;
    rig.client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await
}

fn is_in(result: ToolResult) -> Result<()> {
    ensure!(result.ok()?.str("stdout") == "in\n");
    Ok(())
}

#[tokio::test]
async fn keys_of_every_kind_log_in() -> Result<()> {
    let rig = Rig::start().await?;
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        let key = KeyPair::generate(rig.place.root(), &format!("{kind:?}"), kind)?;
        rig.sshd.authorize(&key)?;
        is_in(through(&rig, json!({"keyPath": key.path})).await?).with_context(|| format!("{kind:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_in_the_old_pem_form_logs_in() -> Result<()> {
    let rig = Rig::start().await?;
    let key = KeyPair::generate(rig.place.root(), "pem", Kind::Rsa)?;
    let rewritten =
        Command::new("ssh-keygen").args(["-p", "-q", "-m", "PEM", "-N", "", "-f"]).arg(&key.path).status()?;
    ensure!(rewritten.success());
    ensure!(fs::read_to_string(&key.path)?.contains("BEGIN RSA PRIVATE KEY"));
    rig.sshd.authorize(&key)?;
    is_in(through(&rig, json!({"keyPath": key.path})).await?)
}

#[tokio::test]
async fn a_key_below_the_home_is_found_by_its_tilde() -> Result<()> {
    let rig = Rig::start().await?;
    fs::copy(&rig.sshd.client_key.path, rig.place.ssh_dir().join("id_box"))?;
    is_in(through(&rig, json!({"keyPath": "~/.ssh/id_box"})).await?)
}

#[tokio::test]
async fn a_sealed_key_opens_with_its_passphrase_only() -> Result<()> {
    let rig = Rig::start().await?;
    let key = KeyPair::generate_sealed(rig.place.root(), "sealed", Kind::Ed25519, "open sesame")?;
    rig.sshd.authorize(&key)?;
    let without = through(&rig, json!({"keyPath": key.path})).await?.problem("AUTH_FAILED")?;
    without.names(&["passphrase", key.path_str()])?;
    let wrong = through(&rig, json!({"keyPath": key.path, "passphrase": "open barley"})).await?;
    wrong.problem("AUTH_FAILED")?.names(&["passphrase", key.path_str()])?;
    assert!(!format!("{}{}", wrong.text, wrong.structured).contains("barley"), "the passphrase is told");
    is_in(through(&rig, json!({"keyPath": key.path, "passphrase": "open sesame"})).await?)
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_refused() -> Result<()> {
    let rig = Rig::start().await?;
    let key = KeyPair::generate(rig.place.root(), "stranger", Kind::Ed25519)?;
    let problem = through(&rig, json!({"keyPath": key.path})).await?.problem("AUTH_FAILED")?;
    problem.names(&["door", &rig.sshd.user])?;
    problem.at("login")?;
    assert!(!problem.retryable, "the same login will be refused again");
    Ok(())
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_is_named_with_the_reason() -> Result<()> {
    let rig = Rig::start().await?;
    let missing = rig.place.root().join("no_such_key");
    through(&rig, json!({"keyPath": missing})).await?.problem("AUTH_FAILED")?.names(&["no_such_key"])?;

    let open = KeyPair::generate(rig.place.root(), "open", Kind::Ed25519)?;
    rig.sshd.authorize(&open)?;
    fs::set_permissions(&open.path, fs::Permissions::from_mode(0o644))?;
    let problem = through(&rig, json!({"keyPath": open.path})).await?.problem("AUTH_FAILED")?;
    problem.names(&[open.path_str(), "chmod 600"])?;

    let text = rig.place.root().join("poem");
    fs::write(&text, "Shall I compare thee to a summer's day?\n")?;
    fs::set_permissions(&text, fs::Permissions::from_mode(0o600))?;
    through(&rig, json!({"keyPath": text})).await?.problem("AUTH_FAILED")?.names(&["poem"])?;

    let public = rig.sshd.client_key.path.with_extension("pub");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o600))?;
    through(&rig, json!({"keyPath": public})).await?.problem("AUTH_FAILED")?.names(&["client.pub", "public"])?;

    let folder = rig.place.ssh_dir();
    through(&rig, json!({"keyPath": folder})).await?.problem("AUTH_FAILED")?.names(&[".ssh"])?;
    assert_eq!(rig.sshd.logins(), 0);
    Ok(())
}

/// A program and an embedded server that it knows as `door`.
async fn by_password(password: &str) -> Result<(Client, Embedded, Place, ToolResult)> {
    let accounts = Accounts { user: "ada".into(), password: Some("pass wörd '\"$x".into()), keys: vec![] };
    let server = Embedded::start(accounts).await?;
    let place = Place::new()?;
    let client = Launch::new(&place).start().await?;
    let arguments = json!({
        "alias": "door", "host": "127.0.0.1", "port": server.port(), "user": "ada", "password": password,
        "hostKey": server.fingerprint,
    });
    client.call("server_add", arguments).await?.ok()?;
    let result = client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await?;
    Ok((client, server, place, result))
}

#[tokio::test]
async fn a_password_logs_in() -> Result<()> {
    let (_client, server, _place, result) = by_password("pass wörd '\"$x").await?;
    is_in(result)?;
    assert!(server.seen().logins.contains(&("password", true)));
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_told() -> Result<()> {
    let (client, server, _place, result) = by_password("mistaken-secret").await?;
    result.problem("AUTH_FAILED")?.names(&["door", "ada"])?;
    assert_eq!(server.seen().logins, [("password", false)], "a wrong password was tried again");
    assert!(!format!("{}{}{}", result.text, result.structured, client.stderr()).contains("mistaken-secret"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_everybody_is_not_asked_again_and_again() -> Result<()> {
    let (client, server, _place, result) = by_password("pass wörd '\"$x").await?;
    is_in(result)?;
    server.set_faults(Faults { refuse_logins: true, ..Faults::default() });
    // A new connection is made for the changed entry.
    client.call("server_add", json!({"alias": "door", "password": "another"})).await?.ok()?;
    let refused = client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await?;
    refused.problem("AUTH_FAILED")?;
    assert_eq!(server.seen().logins.iter().filter(|(_, accepted)| !accepted).count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_password_comes_from_where_a_reference_points() -> Result<()> {
    let accounts = Accounts { user: "ada".into(), password: Some("by reference".into()), keys: vec![] };
    let server = Embedded::start(accounts).await?;
    let place = Place::new()?;
    let file = place.root().join("password");
    fs::write(&file, "by reference\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let client = Launch::new(&place).env("DOOR_PASSWORD", "by reference").start().await?;
    for reference in
        ["env:DOOR_PASSWORD".to_owned(), format!("file:{}", file.display()), "cmd:echo by reference".into()]
    {
        let arguments = json!({
            "alias": "door", "host": "127.0.0.1", "port": server.port(), "user": "ada", "password": reference,
            "hostKey": server.fingerprint,
        });
        client.call("server_add", arguments).await?.ok()?;
        let result = client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await?;
        is_in(result).with_context(|| reference.clone())?;
    }
    client.call("server_add", json!({"alias": "door", "password": "env:NOT_SET_HERE"})).await?.ok()?;
    let result = client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await?;
    result.problem("AUTH_FAILED")?.names(&["NOT_SET_HERE"])
}

/// An `ssh-agent` of our own.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    async fn start(folder: &Path) -> Result<Agent> {
        let socket = folder.join("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .context("starting ssh-agent")?;
        let agent = Agent { child, socket };
        wait::until("the agent's socket", Duration::from_secs(10), || agent.socket.exists()).await?;
        Ok(agent)
    }

    fn add(&self, key: &KeyPair) -> Result<()> {
        let added = Command::new("ssh-add").arg("-q").arg(&key.path).env("SSH_AUTH_SOCK", &self.socket).output()?;
        ensure!(added.status.success(), "ssh-add: {}", String::from_utf8_lossy(&added.stderr));
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It fails only when the agent has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_agent_logs_in_with_the_key_that_fits() -> Result<()> {
    let place = Place::new()?;
    let agent = Agent::start(place.root()).await?;
    agent.add(&KeyPair::generate(place.root(), "other", Kind::Ed25519)?)?;
    let socket = agent.socket.clone();
    let rig = Rig::in_place(place, Options::default(), |launch| launch.env("SSH_AUTH_SOCK", socket)).await?;
    let refused = through(&rig, json!({"agent": true})).await?;
    refused.problem("AUTH_FAILED")?.names(&["agent"])?;
    agent.add(&rig.sshd.client_key)?;
    is_in(through(&rig, json!({"agent": true})).await?)
}

#[tokio::test]
async fn the_agent_signs_with_an_rsa_key() -> Result<()> {
    let place = Place::new()?;
    let agent = Agent::start(place.root()).await?;
    let key = KeyPair::generate(place.root(), "rsa", Kind::Rsa)?;
    agent.add(&key)?;
    let socket = agent.socket.clone();
    let rig = Rig::in_place(place, Options::default(), |launch| launch.env("SSH_AUTH_SOCK", socket)).await?;
    rig.sshd.authorize(&key)?;
    is_in(through(&rig, json!({"agent": true})).await?)
}

#[tokio::test]
async fn a_missing_agent_is_named() -> Result<()> {
    let rig = Rig::start().await?;
    through(&rig, json!({"agent": true})).await?.problem("AUTH_FAILED")?.names(&["SSH_AUTH_SOCK"])
}
