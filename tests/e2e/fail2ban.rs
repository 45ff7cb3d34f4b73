//! `get_fail2ban_status` over a real sshd. The server's `fail2ban-client` and `sudo` are scripts that print what the real
//! ones printed, since a test must not ban anybody; what they print is tested word by word in the plugin.

use anyhow::Result;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, repository};

/// `sudo -n -- PROGRAM …` runs it with a mark that the client below looks for.
const SUDO: &str = r#"[ "$1 $2" = "-n --" ] || exit 9; shift 2; ROOT=1 exec "$@""#;
const NO_PASSWORD: &str = "echo 'sudo: a password is required' >&2; exit 1";

/// A client that answers only root, as the real one does.
fn client() -> String {
    let captured = repository().join("plugins/fail2ban/testdata/1.0.2");
    format!(
        r#"cd '{}' || exit 9
if [ -z "$ROOT" ]; then cat no-permission.stderr.txt >&2; exit 255; fi
case $#:$1:$2 in
1:status:) cat status.txt;;
2:status:nope) cat unknown-jail.stdout.txt; cat unknown-jail.stderr.txt >&2; exit 255;;
2:status:*) cat "jail-$2.txt";;
*) exit 9;;
esac"#,
        captured.display()
    )
}

async fn rig(programs: Vec<(&'static str, String)>) -> Result<Rig> {
    Rig::with(Options { programs: Some(programs), ..Options::default() }, |launch| launch).await
}

#[tokio::test]
async fn the_jails_of_a_server_are_told_through_sudo() -> Result<()> {
    let rig = rig(vec![("fail2ban-client", client()), ("sudo", SUDO.to_owned())]).await?;
    let result = rig.client.call("get_fail2ban_status", json!({"alias": "box"})).await?.ok()?;
    assert!(
        result.text.starts_with("box: fail2ban runs, 3 jails, 5 banned now\nsshd: banned 5 now"),
        "{}",
        result.text
    );
    assert_eq!(result.structured["sudo"], true);
    assert_eq!(result.structured["jails"][0]["banned"][0], "203.0.113.9");

    let one = json!({"alias": "box", "jail": "ssh-journal"});
    let result = rig.client.call("get_fail2ban_status", one).await?.ok()?;
    assert_eq!(result.structured["jails"][0]["journal_matches"], "_SYSTEMD_UNIT=sshd.service + _COMM=sshd");
    let unknown = json!({"alias": "box", "jail": "nope"});
    let problem = rig.client.call("get_fail2ban_status", unknown).await?.problem("INVALID_ARGUMENT")?;
    problem.names(&["nope", "nginx-http-auth, ssh-journal, sshd"])
}

#[tokio::test]
async fn why_fail2ban_cannot_be_asked_is_told_apart() -> Result<()> {
    let silent = r#"echo "ERROR Failed to access socket path: /run/fail2ban.sock. Is fail2ban running?" >&2; exit 255"#;
    let refused = || ("sudo", NO_PASSWORD.to_owned());
    let cases = [
        (vec![], "not_installed"),
        (vec![("fail2ban-client", client()), refused()], "no_permission"),
        (vec![("fail2ban-client", silent.to_owned()), ("sudo", SUDO.to_owned())], "not_running"),
        (vec![("fail2ban-client", silent.to_owned()), refused()], "no_socket_seen"),
    ];
    for (programs, reason) in cases {
        let rig = rig(programs).await?;
        let result = rig.client.call("get_fail2ban_status", json!({"alias": "box"})).await?;
        let problem = result.problem("PLUGIN_FAILED")?;
        assert_eq!(problem.details["reason"], reason, "{}", result.text);
    }
    Ok(())
}
