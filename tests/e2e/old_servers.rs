//! Servers that can do no better than algorithms which are switched off: refused with what they offer, and reached where the
//! operator allows it.

use anyhow::{Result, ensure};
use orchestrator_tests::keys::Kind;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::Options;

use crate::support::Rig;

const OLD: [&str; 4] =
    ["KexAlgorithms diffie-hellman-group14-sha1", "Ciphers aes256-cbc", "MACs hmac-sha1", "HostKeyAlgorithms ssh-rsa"];

/// A server that has only these lines of [`OLD`], and a program with this configuration.
async fn old(lines: &[&str], toml: &str) -> Result<Rig> {
    let place = Place::new()?;
    place.configure(toml)?;
    let config = lines.iter().map(|line| (*line).to_owned()).collect();
    Rig::in_place(place, Options { host_keys: vec![Kind::Rsa], config, ..Options::default() }, |launch| launch).await
}

#[tokio::test]
async fn an_old_server_is_refused_with_the_name_of_what_could_be_allowed() -> Result<()> {
    for line in OLD {
        let algorithm = line.split(' ').next_back().unwrap_or_default();
        // The usual ciphers need no MAC, so that nothing would have to be agreed on.
        let rig = old(&[line, "Ciphers aes256-ctr"], "").await?;
        let problem = rig.exec("true").await?.problem("CONNECTION_FAILED")?;
        problem.names(&[algorithm, "[legacy]", "box"])?;
        problem.at("handshake")?;
        ensure!(problem.details["reason"] == "NO_COMMON_ALGORITHM" && !problem.retryable, "{}", problem.details);
    }
    Ok(())
}

#[tokio::test]
async fn an_old_server_is_reached_where_the_operator_allows_it_and_no_other_is() -> Result<()> {
    let toml = |server: &str| {
        format!(
            "[legacy]\nservers = [\"{server}\"]\n\
             algorithms = [\"diffie-hellman-group14-sha1\", \"aes256-cbc\", \"hmac-sha1\", \"ssh-rsa\"]\n"
        )
    };
    let rig = old(&OLD, &toml("bo*")).await?;
    rig.exec("echo in").await?.ok()?;
    let rig = old(&OLD, &toml("another")).await?;
    rig.exec("true").await?.problem("CONNECTION_FAILED")?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_knows_only_the_curves_of_nist_is_not_an_old_one() -> Result<()> {
    let place = Place::new()?;
    let config = vec!["KexAlgorithms ecdh-sha2-nistp384".to_owned()];
    let rig = Rig::in_place(place, Options { config, ..Options::default() }, |launch| launch).await?;
    rig.exec("true").await?.ok()?;
    Ok(())
}
