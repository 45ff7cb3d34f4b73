//! Logging in with several keys, and with keys that are in a device behind an ssh-agent.

use std::fs;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::device::{DeviceAgent, Token};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::import::{said, verb};
use crate::support::Rig;

#[tokio::test]
async fn of_several_keys_the_one_that_fits_logs_in() -> Result<()> {
    let rig = Rig::start().await?;
    let stranger = KeyPair::generate(rig.place.root(), "stranger", Kind::Ed25519)?;
    let sealed = KeyPair::generate_sealed(rig.place.root(), "sealed", Kind::Ecdsa, "open sesame")?;
    rig.sshd.authorize(&sealed)?;
    let mut server = rig.server("door");
    // The passphrase is for whichever is encrypted; a file that is not there spoils nothing.
    server["keyPath"] = json!(["/nonexistent/key", stranger.path, sealed.path]);
    server["passphrase"] = json!("open sesame");
    rig.client.call("server_add", server).await?.ok()?;
    let done = rig.client.call("task_exec", json!({"alias": "door", "cmd": "echo in"})).await?.ok()?;
    assert_eq!(done.str("stdout"), "in\n");
    let listed = rig.client.call("server_list", json!({})).await?.ok()?;
    let keys = format!("/nonexistent/key, {}, {}", stranger.path_str(), sealed.path_str());
    ensure!(listed.text.contains(&keys), "{}", listed.text);
    // One key is a text, as it always was.
    let one = json!({"alias": "door", "keyPath": rig.sshd.client_key.path, "verify": true});
    let changed = rig.client.call("server_add", one).await?.ok()?;
    assert_eq!(changed.structured["server"]["keyPath"], json!([rig.sshd.client_key.path]));
    Ok(())
}

#[tokio::test]
async fn keys_that_a_server_counts_against_us_are_told() -> Result<()> {
    let rig = Rig::start().await?;
    let mut paths = Vec::new();
    for number in 0..6 {
        paths.push(KeyPair::generate(rig.place.root(), &format!("stranger{number}"), Kind::Ed25519)?.path);
    }
    paths.push(rig.sshd.client_key.path.clone());
    let mut server = rig.server("door");
    server["keyPath"] = json!(paths);
    rig.client.call("server_add", server).await?.ok()?;
    let refused = rig.client.call("task_exec", json!({"alias": "door", "cmd": "true"})).await?;
    let problem = refused.problem("AUTH_FAILED")?;
    problem.names(&["after 6 keys", "Too many authentication failures", "MaxAuthTries", "stranger0"])?;
    problem.at("login")?;
    assert!(!problem.retryable);
    assert_eq!(rig.sshd.log().matches("Failed publickey").count(), 6, "it was tried again:\n{}", rig.sshd.log());
    Ok(())
}

#[tokio::test]
async fn two_keys_log_in_where_the_server_wants_two() -> Result<()> {
    let options =
        Options { config: vec!["AuthenticationMethods publickey,publickey".to_owned()], ..Options::default() };
    let rig = Rig::with(options, |launch| launch).await?;
    let second = KeyPair::generate(rig.place.root(), "second", Kind::Ecdsa)?;
    rig.sshd.authorize(&second)?;
    let alone = rig.client.call("task_exec", json!({"alias": "box", "cmd": "true"})).await?;
    alone.problem("AUTH_FAILED")?.names(&["wants more"])?;
    let both = json!({"alias": "box", "keyPath": [rig.sshd.client_key.path, second.path]});
    rig.client.call("server_add", both).await?.ok()?;
    rig.exec("true").await?.ok()?;
    Ok(())
}

#[tokio::test]
async fn an_import_takes_all_keys_of_a_host_and_those_that_ssh_tries_by_itself() -> Result<()> {
    let rig = Rig::start().await?;
    let stranger = KeyPair::generate(&rig.place.ssh_dir(), "id_rsa", Kind::Rsa)?;
    fs::copy(&rig.sshd.client_key.path, rig.place.ssh_dir().join("id_ed25519"))?;
    let named = rig.place.ssh_dir().join("id_named");
    fs::copy(&stranger.path, &named)?;
    let config = format!(
        "Host usual\nHost named\n  IdentityFile ~/.ssh/id_named\n  IdentityFile ~/.ssh/id_ed25519\n  IdentityFile ~/.ssh/gone\n\
         Host *\n  HostName 127.0.0.1\n  Port {}\n  User {}\n",
        rig.sshd.port(),
        rig.sshd.user,
    );
    fs::write(rig.place.ssh_dir().join("config"), config)?;
    rig.place.know_hosts(&rig.sshd.known_hosts())?;
    let Rig { client, sshd, place } = rig;
    client.close().await?;
    let _daemon = orchestrator_tests::daemon::Daemon::of(&place);
    let text = said(&verb(&place, &["server", "import", "--ssh-config"], "").await?)?;
    ensure!(text.contains("key ~/.ssh/id_rsa, ~/.ssh/id_ed25519"), "{text}");
    ensure!(text.contains("key ~/.ssh/id_named, ~/.ssh/id_ed25519") && text.contains("gone is not there"), "{text}");
    for alias in ["usual", "named"] {
        said(&verb(&place, &["server", "test", alias], "").await?).with_context(|| sshd.log())?;
    }
    let listed = said(&verb(&place, &["server", "list"], "").await?)?;
    ensure!(listed.contains("keys: ~/.ssh/id_named, ~/.ssh/id_ed25519"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn keys_in_a_device_log_in_through_the_agent() -> Result<()> {
    for token in [Token::Ed25519, Token::Ecdsa] {
        let place = Place::new()?;
        let agent = DeviceAgent::start(place.root(), token, true)?;
        let socket = agent.socket.clone();
        let rig = Rig::in_place(place, Options::default(), |launch| launch.env("SSH_AUTH_SOCK", socket)).await?;
        rig.sshd.authorize_line(&agent.public)?;
        let update = json!({"alias": "box", "keyPath": "", "agent": true});
        rig.client.call("server_add", update).await?.ok()?;
        rig.exec("true").await?.ok().with_context(|| format!("{token:?}\n{}", rig.sshd.log()))?;
        assert_eq!(agent.asked(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_nobody_touches_is_named_as_what_was_waited_for() -> Result<()> {
    let place = Place::new()?;
    let agent = DeviceAgent::start(place.root(), Token::Ed25519, false)?;
    let socket = agent.socket.clone();
    let rig = Rig::in_place(place, Options::default(), |launch| {
        launch.env("SSH_AUTH_SOCK", socket).env("MCP_CONNECT_TIMEOUT_S", "2")
    })
    .await?;
    rig.sshd.authorize_line(&agent.public)?;
    rig.client.call("server_add", json!({"alias": "box", "keyPath": "", "agent": true})).await?.ok()?;
    let problem = rig.exec("true").await?.problem("CONNECTION_FAILED")?;
    problem.names(&["waiting for the ssh-agent", "touched", "MCP_CONNECT_TIMEOUT_S"])?;
    problem.at("login")?;
    assert_eq!(agent.asked(), 1, "it is asked once and not again");
    Ok(())
}
