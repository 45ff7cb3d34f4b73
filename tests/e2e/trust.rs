//! Operators vouch for host keys on the command line: `server trust`, for a server and everything on the way to it.

use std::fs;

use anyhow::{Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::{Options, Sshd};
use serde_json::json;

use crate::import::{said, verb};

/// A server behind another one, neither of them known, and a client that shares the daemon with the verbs.
struct Fleet {
    client: Client,
    gate: Sshd,
    inner: Sshd,
    _daemon: Daemon,
    place: Place,
}

async fn fleet() -> Result<Fleet> {
    let place = Place::new()?;
    let daemon = Daemon::of(&place);
    let (gate, inner) = (Sshd::start_with(Options::default()).await?, Sshd::start_with(Options::default()).await?);
    let client = Launch::new(&place).shared().start().await?;
    for (alias, sshd, jump) in [("gate", &gate, ""), ("inner", &inner, "gate")] {
        let arguments = json!({"alias": alias, "host": "127.0.0.1", "port": sshd.port(), "user": sshd.user,
            "keyPath": sshd.client_key.path, "jump": jump});
        client.call("server_add", arguments).await?.ok()?;
    }
    Ok(Fleet { client, gate, inner, _daemon: daemon, place })
}

#[tokio::test]
async fn every_server_on_the_way_is_asked_about_and_then_trusted() -> Result<()> {
    let fleet = fleet().await?;
    let problem = fleet.client.call("task_exec", json!({"alias": "inner", "cmd": "true"})).await?;
    problem.problem("HOST_KEY_UNKNOWN")?.names(&["mcp-orchestrator server trust inner"])?;
    let text = said(&verb(&fleet.place, &["server", "trust", "inner"], "yes\nyes\n").await?)?;
    ensure!(text.contains(fleet.gate.fingerprint()) && text.contains(fleet.inner.fingerprint()), "{text}");
    let done = fleet.client.call("task_exec", json!({"alias": "inner", "cmd": "echo in"})).await?.ok()?;
    assert_eq!(done.str("stdout"), "in\n");
    let lines = fs::read_to_string(fleet.place.data().join("known_hosts"))?;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let text = said(&verb(&fleet.place, &["server", "test", "inner"], "").await?)?;
    ensure!(text.contains("logged in") && text.contains(fleet.inner.fingerprint()), "{text}");
    fleet.client.close().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_trusted_without_a_yes_or_the_right_fingerprint() -> Result<()> {
    let fleet = fleet().await?;
    let (gate, other) = (fleet.gate.fingerprint(), fleet.inner.fingerprint());
    for (arguments, input) in [
        (vec!["server", "trust", "gate"], ""),
        (vec!["server", "trust", "gate"], "no\n"),
        (vec!["server", "trust", "gate"], "y\n"),
        (vec!["server", "trust", "gate", "--yes"], ""),
        (vec!["server", "trust", "gate", "--yes", "--fingerprint", other], ""),
        (vec!["server", "trust", "gate", "--fingerprint", other], "yes\n"),
        (vec!["server", "trust", "nobody"], "yes\n"),
    ] {
        let output = verb(&fleet.place, &arguments, input).await?;
        ensure!(!output.status.success(), "{arguments:?}: {output:?}");
        ensure!(!fleet.place.data().join("known_hosts").exists(), "{arguments:?} wrote something");
    }
    said(&verb(&fleet.place, &["server", "trust", "gate", "--yes", "--fingerprint", gate], "").await?)?;
    fleet.client.call("task_exec", json!({"alias": "gate", "cmd": "true"})).await?.ok()?;
    fleet.client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_key_is_never_written_over() -> Result<()> {
    let fleet = fleet().await?;
    let wrong = format!("[127.0.0.1]:{} {}\n", fleet.gate.port(), fleet.inner.host_keys[0].bare_public());
    fs::write(fleet.place.data().join("known_hosts"), &wrong)?;
    let output = verb(&fleet.place, &["server", "trust", "gate"], "yes\n").await?;
    ensure!(!output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(told.contains("not the expected one") && told.contains("known_hosts"), "{told}");
    assert_eq!(fs::read_to_string(fleet.place.data().join("known_hosts"))?, wrong);
    fleet.client.close().await?;
    Ok(())
}
