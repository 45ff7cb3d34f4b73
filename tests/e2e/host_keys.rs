//! Host keys: nothing is sent to a server that nobody has vouched for, and a changed key is never accepted.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::keys::{KeyPair, Kind};
use orchestrator_tests::place::Place;
use orchestrator_tests::result::{Problem, ToolResult};
use orchestrator_tests::sshd::{Options, Sshd};
use orchestrator_tests::wait;
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
        Unpinned::on(sshd, place, |launch| launch).await
    }

    /// With a server and a place that are ready.
    async fn on(sshd: Sshd, place: Place, adapt: impl FnOnce(Launch) -> Launch) -> Result<Unpinned> {
        let client = adapt(Launch::new(&place)).start().await?;
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

/// A server that shows a certificate for its key, made with these options of `ssh-keygen -s`, and the authority's key.
/// The keys lie in the place: sshd reads them for every connection.
async fn certified(options: &[&str]) -> Result<(Sshd, KeyPair, Place)> {
    let place = Place::new()?;
    let authority = KeyPair::generate(place.root(), "authority", Kind::Ed25519)?;
    let key = KeyPair::generate(place.root(), "certified", Kind::Ecdsa)?;
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-s", authority.path_str(), "-I", "host", "-h"]).args(options).arg(key.path.with_extension("pub"));
    ensure!(sign.status()?.success());
    let certificate = place.root().join("certified-cert.pub");
    let config = vec![format!("HostKey {}", key.path.display()), format!("HostCertificate {}", certificate.display())];
    let sshd = Sshd::start_with(Options { config, ..Options::default() }).await?;
    Ok((sshd, authority, place))
}

#[tokio::test]
async fn a_host_certificate_of_a_known_authority_is_accepted() -> Result<()> {
    let (sshd, authority, place) = certified(&["-n", "127.0.0.1"]).await?;
    place.know_hosts(&format!("@cert-authority [127.0.0.*]:* {}\n", authority.bare_public()))?;
    let rig = Unpinned::on(sshd, place, |launch| launch).await?;
    let verified = rig.add(json!({"verify": true})).await?.ok()?;
    assert_eq!(verified.structured["verified"]["trusted_by"], "certificate authority");
    rig.works().await
}

#[tokio::test]
async fn a_host_certificate_that_does_not_hold_is_refused_with_the_reason() -> Result<()> {
    for (options, reason) in [
        (&["-n", "another.example.org"][..], "another.example.org and not for 127.0.0.1"),
        (&["-n", "127.0.0.1", "-V", "20200101:20200201"][..], "not valid at this time"),
    ] {
        let (sshd, authority, place) = certified(options).await?;
        place.know_hosts(&format!("@cert-authority * {}\n", authority.bare_public()))?;
        let rig = Unpinned::on(sshd, place, |launch| launch).await?;
        rig.refused("HOST_KEY_CHANGED").await?.names(&[reason, &authority.fingerprint])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_host_certificate_of_a_revoked_or_unknown_authority_is_refused() -> Result<()> {
    let (sshd, authority, place) = certified(&["-n", "127.0.0.1"]).await?;
    let other = stranger(place.root(), Kind::Ed25519)?;
    place.know_hosts(&format!("@cert-authority * {}\n", other.bare_public()))?;
    let rig = Unpinned::on(sshd, place, |launch| launch).await?;
    rig.refused("HOST_KEY_UNKNOWN").await?;
    let key = authority.bare_public();
    rig.place.know_hosts(&format!("@cert-authority * {key}\n@revoked * {key}\n"))?;
    rig.refused("HOST_KEY_CHANGED").await?.names(&["revoked"])
}

#[tokio::test]
async fn accept_new_trusts_the_first_key_of_a_server_and_no_other_after_it() -> Result<()> {
    let (sshd, place) = (Sshd::start().await?, Place::new()?);
    let rig = Unpinned::on(sshd, place, |launch| launch.env("MCP_HOST_KEYS", "accept-new")).await?;
    rig.works().await?;
    let written = std::fs::read_to_string(rig.place.data().join("known_hosts"))?;
    assert_eq!(written, rig.sshd.known_hosts());
    // The server of another day at the same place.
    let other = stranger(rig.place.root(), Kind::Ed25519)?;
    std::fs::write(rig.place.data().join("known_hosts"), line(&rig.sshd, "", "[127.0.0.1]:PORT", &other))?;
    rig.add(json!({"description": "to connect anew"})).await?.ok()?;
    rig.exec().await?.problem("HOST_KEY_CHANGED")?;
    Ok(())
}

#[tokio::test]
async fn accept_new_does_not_take_a_key_of_another_type_for_new() -> Result<()> {
    let (sshd, place) = (Sshd::start().await?, Place::new()?);
    let ecdsa = stranger(place.root(), Kind::Ecdsa)?;
    place.know_hosts(&line(&sshd, "", "[127.0.0.1]:PORT", &ecdsa))?;
    let rig = Unpinned::on(sshd, place, |launch| launch.env("MCP_HOST_KEYS", "accept-new")).await?;
    rig.refused("HOST_KEY_CHANGED").await?;
    ensure!(!rig.place.data().join("known_hosts").exists(), "a key was written down");
    Ok(())
}

#[tokio::test]
async fn an_update_that_changes_nothing_leaves_running_commands_alone() -> Result<()> {
    let rig = Unpinned::start(ed25519(), |sshd| Ok(sshd.known_hosts())).await?;
    let running = rig.client.call("task_exec", json!({"alias": "box", "cmd": "sleep 2; echo done"}));
    let verified = async {
        wait::until("the command's login", Duration::from_secs(60), || rig.sshd.logins() > 0).await?;
        rig.add(json!({"verify": true})).await?.ok()
    };
    let (ran, verified) = tokio::join!(running, verified);
    verified?;
    ensure!(ran?.ok()?.str("stdout") == "done\n");
    Ok(())
}

#[tokio::test]
async fn further_files_of_the_operator_count_as_known_hosts_and_must_be_there() -> Result<()> {
    let (sshd, place) = (Sshd::start_with(ed25519()).await?, Place::new()?);
    let (fleet, revoked) = (place.home().join("fleet_hosts"), place.root().join("revoked"));
    std::fs::write(&fleet, sshd.known_hosts())?;
    std::fs::write(&revoked, "")?;
    let both = format!("~/fleet_hosts:{}", revoked.display());
    let rig = Unpinned::on(sshd, place, |launch| launch.env("MCP_KNOWN_HOSTS", both)).await?;
    rig.works().await?;
    // Read afresh for each connection: what is written there in the meantime counts.
    std::fs::write(&revoked, line(&rig.sshd, "@revoked ", "*", &rig.sshd.host_keys[0]))?;
    rig.add(json!({"description": "connects anew"})).await?.ok()?;
    rig.exec().await?.problem("HOST_KEY_CHANGED")?.names(&["@revoked", "revoked:1"])?;
    std::fs::remove_file(&revoked)?;
    rig.exec().await?.problem("CONNECTION_FAILED")?.names(&["cannot read", &revoked.display().to_string()])
}
