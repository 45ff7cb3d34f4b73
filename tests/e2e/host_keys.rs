//! Host keys: nothing is sent to a server that nobody has vouched for, and a changed key is never accepted.

use std::process::Command;

use anyhow::{Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::{Problem, ToolResult};
use orchestrator_tests::sshd::{Options, Sshd};
use serde_json::{Value, json};

/// A server, and a program that knows it as `box` without a pinned key, with these lines in `~/.ssh/known_hosts`.
struct Unpinned {
    client: Client,
    sshd: Sshd,
    place: Place,
}

impl Unpinned {
    async fn start(options: Options, known: impl FnOnce(&Sshd) -> Result<String>) -> Result<Unpinned> {
        let sshd = Sshd::start_with(options).await?;
        let place = Place::new()?;
        let known = known(&sshd)?;
        if !known.is_empty() {
            place.know_hosts(&known)?;
        }
        let client = Launch::new(&place).start().await?;
        let rig = Unpinned { client, sshd, place };
        rig.add(json!({})).await?.ok()?;
        Ok(rig)
    }

    async fn add(&self, more: Value) -> Result<ToolResult> {
        let mut arguments = json!({
            "alias": "box", "host": "127.0.0.1", "port": self.sshd.port(), "user": self.sshd.user,
            "keyPath": self.sshd.client_key.path,
        });
        if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
            arguments.extend(more);
        }
        self.client.call("server_add", arguments).await
    }

    async fn exec(&self) -> Result<ToolResult> {
        self.client.call("task_exec", json!({"alias": "box", "cmd": "echo hello"})).await
    }

    async fn works(&self) -> Result<()> {
        let result = self.exec().await?.ok()?;
        ensure!(result.str("stdout") == "hello\n");
        Ok(())
    }

    async fn refused(&self, code: &str) -> Result<Problem> {
        let problem = self.exec().await?.problem(code)?;
        problem.at("host_key")?;
        problem.names(&["box"])?;
        ensure!(self.sshd.logins() == 0, "a login was tried: {}", self.sshd.log());
        Ok(problem)
    }
}

fn ed25519() -> Options {
    Options::default()
}

fn line(sshd: &Sshd, marker: &str, hosts: &str, key: &KeyPair) -> String {
    format!("{marker}{} {}\n", hosts.replace("PORT", &sshd.port().to_string()), key.bare_public())
}

fn stranger(place: &std::path::Path, kind: Kind) -> Result<KeyPair> {
    KeyPair::generate(place, &format!("stranger_{kind:?}"), kind)
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_fingerprint_and_the_way_to_trust_it() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |_| Ok(String::new())).await?;
    let problem = rig.refused("HOST_KEY_UNKNOWN").await?;
    problem.names(&[rig.sshd.fingerprint(), "hostKey"])?;
    assert!(problem.details.to_string().contains(rig.sshd.fingerprint()), "{}", problem.details);
    rig.add(json!({"hostKey": rig.sshd.fingerprint()})).await?.ok()?;
    rig.works().await
}

#[tokio::test]
async fn verify_reports_an_unknown_key() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |_| Ok(String::new())).await?;
    let added = rig.add(json!({"verify": true})).await?;
    let told = format!("{}\n{}", added.text, added.structured);
    assert!(told.contains("HOST_KEY_UNKNOWN") && told.contains(rig.sshd.fingerprint()), "{told}");
    assert_eq!(rig.sshd.logins(), 0);
    Ok(())
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_refused() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |_| Ok(String::new())).await?;
    let other = stranger(rig.place.root(), Kind::Ed25519)?;
    rig.add(json!({"hostKey": other.fingerprint})).await?.ok()?;
    rig.refused("HOST_KEY_CHANGED").await?.names(&[rig.sshd.fingerprint(), &other.fingerprint])
}

#[tokio::test]
async fn a_pin_outweighs_known_hosts() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| Ok(sshd.known_hosts())).await?;
    let other = stranger(rig.place.root(), Kind::Ed25519)?;
    rig.add(json!({"hostKey": other.fingerprint})).await?.ok()?;
    rig.refused("HOST_KEY_CHANGED").await?;
    Ok(())
}

#[tokio::test]
async fn a_new_pin_holds_for_the_connection_that_is_already_open() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| Ok(sshd.known_hosts())).await?;
    rig.works().await?;
    let other = stranger(rig.place.root(), Kind::Ed25519)?;
    rig.add(json!({"hostKey": other.fingerprint})).await?.ok()?;
    rig.exec().await?.problem("HOST_KEY_CHANGED")?;
    Ok(())
}

#[tokio::test]
async fn a_key_of_known_hosts_is_accepted() -> Result<()> {
    Unpinned::start(ed25519(), |sshd| Ok(sshd.known_hosts())).await?.works().await
}

#[tokio::test]
async fn a_hashed_entry_is_found() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| {
        let file = sshd.folder().join("plain");
        std::fs::write(&file, sshd.known_hosts())?;
        let hashed = Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output()?;
        ensure!(hashed.status.success());
        let lines = std::fs::read_to_string(&file)?;
        ensure!(lines.starts_with("|1|"), "not hashed: {lines}");
        Ok(lines)
    })
    .await?;
    rig.works().await
}

#[tokio::test]
async fn a_changed_key_is_refused() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| {
        Ok(line(sshd, "", "[127.0.0.1]:PORT", &stranger(sshd.folder(), Kind::Ed25519)?))
    })
    .await?;
    rig.refused("HOST_KEY_CHANGED").await?.names(&[rig.sshd.fingerprint(), "known_hosts"])
}

#[tokio::test]
async fn a_key_of_another_algorithm_does_not_pass_as_a_new_host() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| {
        Ok(line(sshd, "", "[127.0.0.1]:PORT", &stranger(sshd.folder(), Kind::Ecdsa)?))
    })
    .await?;
    rig.refused("HOST_KEY_CHANGED").await?;
    Ok(())
}

#[tokio::test]
async fn the_algorithm_that_is_known_is_asked_for() -> Result<()> {
    let both = Options { host_keys: vec![Kind::Ed25519, Kind::Ecdsa], ..Options::default() };
    let rig = Unpinned::start(both, |sshd| {
        let ecdsa = sshd.host_keys.last().map(KeyPair::bare_public).unwrap_or_default();
        Ok(format!("[127.0.0.1]:{} {ecdsa}\n", sshd.port()))
    })
    .await?;
    rig.works().await
}

#[tokio::test]
async fn wildcards_and_negation_are_understood() -> Result<()> {
    let own = |sshd: &Sshd, hosts: &str| -> Result<String> {
        Ok(format!("{} {}\n", hosts.replace("PORT", &sshd.port().to_string()), sshd.host_keys[0].bare_public()))
    };
    Unpinned::start(ed25519(), |sshd| own(sshd, "other,[127.0.0.*]:PORT")).await?.works().await?;
    let negated = Unpinned::start(ed25519(), |sshd| own(sshd, "[127.0.0.*]:PORT,![127.0.0.1]:PORT")).await?;
    negated.refused("HOST_KEY_UNKNOWN").await?;
    Ok(())
}

#[tokio::test]
async fn an_entry_for_another_port_does_not_count() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| Ok(format!("127.0.0.1 {}\n", sshd.host_keys[0].bare_public()))).await?;
    rig.refused("HOST_KEY_UNKNOWN").await?;
    Ok(())
}

#[tokio::test]
async fn a_revoked_key_is_refused_although_it_is_known() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| {
        let revoked = line(sshd, "@revoked ", "*", &sshd.host_keys[0]);
        Ok(sshd.known_hosts() + &revoked)
    })
    .await?;
    rig.refused("HOST_KEY_CHANGED").await?.names(&["revoked"])
}

#[tokio::test]
async fn a_certificate_authority_is_no_host_key() -> Result<()> {
    let rig =
        Unpinned::start(ed25519(), |sshd| Ok(line(sshd, "@cert-authority ", "[127.0.0.1]:PORT", &sshd.host_keys[0])))
            .await?;
    rig.refused("HOST_KEY_UNKNOWN").await?;
    Ok(())
}

#[tokio::test]
async fn lines_that_cannot_be_read_hide_nothing() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| {
        Ok(format!("# comment\n\nnonsense\n[127.0.0.1]:{} ssh-ed25519 AAAA!!!\n{}", sshd.port(), sshd.known_hosts()))
    })
    .await?;
    rig.works().await
}
