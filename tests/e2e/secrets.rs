//! Secrets: sealed where they are stored, and never shown, logged or handed on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use orchestrator_tests::client::{Client, Launch};
use orchestrator_tests::embedded::{Accounts, Embedded};
use orchestrator_tests::place::Place;
use serde_json::json;

const SECRET: &str = "hunter2-Xq7-unmistakable";
const PASSPHRASE: &str = "sesame-Vb3-unmistakable";

async fn server() -> Result<Embedded> {
    Embedded::start(Accounts { user: "ada".into(), password: Some(SECRET.into()), keys: vec![] }).await
}

async fn add(client: &Client, server: &Embedded) -> Result<String> {
    let arguments = json!({
        "alias": "vault", "host": "127.0.0.1", "port": server.port(), "user": "ada", "password": SECRET,
        "keyPath": "/nonexistent/key", "passphrase": PASSPHRASE, "hostKey": server.fingerprint,
    });
    let added = client.call("server_add", arguments).await?.ok()?;
    Ok(format!("{}{}", added.text, added.structured))
}

/// The places below the data directory in which a secret can be read.
fn leaks(place: &Place) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in place.data_files()? {
        let bytes = fs::read(&file)?;
        for secret in [SECRET, PASSPHRASE] {
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(format!("{secret} in {}", file.display()));
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_stored_secret_is_nowhere_to_be_read() -> Result<()> {
    let server = server().await?;
    let place = Place::new()?;
    let client = Launch::new(&place).env("MCP_DEBUG", "true").start().await?;
    let mut said = add(&client, &server).await?;
    // The key file is missing, so the password must carry the login; a failing command leaves its traces too.
    for (tool, arguments) in [
        ("task_exec", json!({"alias": "vault", "cmd": "exit 3"})),
        ("server_list", json!({})),
        ("task_history", json!({})),
        ("task_logs", json!({"limit": 500})),
        ("system_diagnostics", json!({"verbose": true})),
        ("pool_stats", json!({})),
        ("get_system_resources", json!({"alias": "vault"})),
    ] {
        let result = client.call(tool, arguments).await?;
        said.push_str(&format!("{}{}", result.text, result.structured));
    }
    said.push_str(&client.stderr());
    client.close().await?;
    for secret in [SECRET, PASSPHRASE] {
        assert!(!said.contains(secret), "{secret} was told");
    }
    assert_eq!(leaks(&place)?, Vec::<String>::new());
    assert!(server.seen().logins.contains(&("password", true)), "the sealed password did not log in");
    Ok(())
}

#[tokio::test]
async fn a_sealed_secret_opens_after_a_restart() -> Result<()> {
    let server = server().await?;
    let place = Place::new()?;
    let client = Launch::new(&place).start().await?;
    add(&client, &server).await?;
    client.close().await?;
    let key = fs::metadata(place.data().join("secret.key")).context("no key file")?;
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let client = Launch::new(&place).start().await?;
    let result = client.call("task_exec", json!({"alias": "vault", "cmd": "echo in"})).await?.ok()?;
    assert_eq!(result.str("stdout"), "in\n");
    Ok(())
}

#[tokio::test]
async fn a_key_file_that_others_may_read_is_refused() -> Result<()> {
    let place = Place::new()?;
    Launch::new(&place).start().await?.close().await?;
    let key = place.data().join("secret.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let output = Launch::new(&place).run().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("secret.key") && said.contains("chmod 600"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_master_key_takes_the_place_of_the_key_file() -> Result<()> {
    let server = server().await?;
    let place = Place::new()?;
    let with = |key: &str| Launch::new(&place).env("MCP_MASTER_KEY", key);
    let client = with("correct horse battery staple").start().await?;
    add(&client, &server).await?;
    client.close().await?;
    assert!(!place.data().join("secret.key").exists());
    let client = with("correct horse battery staple").start().await?;
    client.call("task_exec", json!({"alias": "vault", "cmd": "true"})).await?.ok()?;
    client.close().await?;
    let output = with("wrong horse").run().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("MCP_MASTER_KEY"), "{said}");
    assert!(!said.contains("wrong horse"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_removed_server_takes_its_secrets_along() -> Result<()> {
    let server = server().await?;
    let place = Place::new()?;
    let client = Launch::new(&place).start().await?;
    add(&client, &server).await?;
    client.call("server_remove", json!({"alias": "vault"})).await?.ok()?;
    let arguments = json!({"alias": "vault", "host": "127.0.0.1", "port": server.port(), "user": "ada"});
    let added = client.call("server_add", arguments).await?;
    added.problem("INVALID_ARGUMENT")?.names(&["password"])
}
