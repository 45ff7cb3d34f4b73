//! `get_services_status` over a real sshd. What is asked there are scripts that print what the real programs printed, so that
//! no test needs systemd, Docker or PM2.

use std::fs;

use anyhow::Result;
use orchestrator_tests::sshd::Options;
use serde_json::json;

use crate::support::{Rig, repository};

/// A captured file.
fn captured(file: &str) -> String {
    repository().join("plugins/monitoring/testdata/services").join(file).display().to_string()
}

/// A script that prints a captured file if its first word is `verb`.
fn prints(verb: &str, file: &str) -> String {
    format!("[ \"$1\" = {verb} ] || exit 9; cat '{}'", captured(file))
}

async fn rig(programs: Vec<(&'static str, String)>) -> Result<Rig> {
    Rig::with(Options { programs: Some(programs), ..Options::default() }, |launch| launch).await
}

#[tokio::test]
async fn services_containers_and_apps_are_told_with_what_failed_first() -> Result<()> {
    let rig = rig(vec![
        (
            "systemctl",
            format!(
                "case $1 in --user) cat '{}' ;; list-units) cat '{}' ;; *) exit 9 ;; esac",
                captured("systemctl-user-252.txt"),
                captured("systemctl-252.txt")
            ),
        ),
        ("docker", prints("ps", "docker-28.2.2.txt")),
        ("podman", prints("ps", "podman-4.3.1.txt")),
        ("pm2", "[ \"$1\" = jlist ] && echo '[]'".to_owned()),
        // PM2's Node.js, which picks out of its list what the answer needs.
        ("node", prints("-e", "pm2-7.0.4.jsonl")),
    ])
    .await?;
    let home = rig.sshd.folder().join(".pm2");
    fs::create_dir(&home)?;
    fs::write(home.join("pm2.pid"), std::process::id().to_string())?;
    let result = rig.client.call("get_services_status", json!({"alias": "box"})).await?.ok()?;
    let start = "box: 9 things failed\n! broken.service failed (failed)\n";
    assert!(result.text.starts_with(start), "{}", result.text);
    assert_eq!(result.structured["docker"]["items"][5]["health"], "unhealthy");
    assert_eq!(result.structured["pm2"]["total"], 4);
    assert!(result.text.contains("\n! user unit sync.service failed (failed)\n"), "{}", result.text);
    assert_eq!(result.structured["podman"]["total"], 9);

    let failed = json!({"alias": "box", "failed_only": true});
    let result = rig.client.call("get_services_status", failed).await?.ok()?;
    assert_eq!(result.structured["pm2"]["items"][0]["name"], "crasher");
    assert_eq!(result.structured["systemd"]["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_server_with_nothing_installed_is_no_error() -> Result<()> {
    let rig = rig(vec![]).await?;
    let result = rig.client.call("get_services_status", json!({"alias": "box"})).await?.ok()?;
    assert!(result.text.starts_with("box: nothing failed\nsystemd: not installed\n"), "{}", result.text);
    for part in ["systemd", "docker", "podman", "pm2"] {
        assert_eq!(result.structured[part]["state"], "absent", "{part}: {}", result.text);
    }
    Ok(())
}
