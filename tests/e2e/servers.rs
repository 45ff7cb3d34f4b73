//! The inventory: servers are added, changed field by field, listed without secrets, and removed.

use anyhow::{Context, Result};
use orchestrator_tests::client::Client;
use serde_json::{Value, json};

use crate::support::{Rig, Sleep, alone, exec_arguments};

async fn list(client: &Client, arguments: Value) -> Result<Vec<Value>> {
    let listed = client.call("server_list", arguments).await?.ok()?;
    Ok(listed.structured["servers"].as_array().context("no servers")?.clone())
}

fn aliases(servers: &[Value]) -> Vec<&str> {
    servers.iter().filter_map(|server| server["alias"].as_str()).collect()
}

fn remote(alias: &str) -> Value {
    json!({"alias": alias, "host": "192.0.2.7", "user": "ops", "password": "correct horse"})
}

#[tokio::test]
async fn a_server_is_added_listed_and_removed() -> Result<()> {
    let (client, _place) = alone().await?;
    assert!(list(&client, json!({})).await?.is_empty());
    client.call("server_add", remote("beta")).await?.ok()?;
    client.call("server_add", remote("alpha")).await?.ok()?;
    let servers = list(&client, json!({})).await?;
    assert_eq!(aliases(&servers), ["alpha", "beta"]);
    let alpha = servers.first().context("no server")?;
    assert_eq!(alpha["host"], "192.0.2.7");
    assert_eq!(alpha["port"], 22);
    assert_eq!(alpha["user"], "ops");
    assert_eq!(alpha["connected"], false);
    assert_eq!(alpha["auth"], json!(["password"]));
    client.call("server_remove", json!({"alias": "alpha"})).await?.ok()?;
    assert_eq!(aliases(&list(&client, json!({})).await?), ["beta"]);
    Ok(())
}

#[tokio::test]
async fn an_update_changes_only_the_given_fields() -> Result<()> {
    let (client, _place) = alone().await?;
    let mut first = remote("web");
    first["port"] = json!(2222);
    first["tags"] = json!(["prod", "eu"]);
    first["description"] = json!("the front");
    client.call("server_add", first).await?.ok()?;
    client.call("server_add", json!({"alias": "web", "host": "192.0.2.8", "user": "ops"})).await?.ok()?;
    let servers = list(&client, json!({})).await?;
    assert_eq!(servers.len(), 1);
    let web = servers.first().context("no server")?;
    assert_eq!(web["host"], "192.0.2.8");
    assert_eq!(web["port"], 2222, "the port was lost: {web:#}");
    assert_eq!(web["tags"], json!(["eu", "prod"]), "tags are kept sorted: {web:#}");
    assert_eq!(web["description"], "the front");
    assert_eq!(web["auth"], json!(["password"]), "the password was lost: {web:#}");
    Ok(())
}

#[tokio::test]
async fn servers_are_filtered_by_tag() -> Result<()> {
    let (client, _place) = alone().await?;
    for (alias, tag) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let mut server = remote(alias);
        server["tags"] = json!([tag]);
        client.call("server_add", server).await?.ok()?;
    }
    assert_eq!(aliases(&list(&client, json!({"tag": "web"})).await?), ["a", "c"]);
    assert!(list(&client, json!({"tag": "none"})).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn servers_survive_a_restart() -> Result<()> {
    let rig = Rig::start().await?.restart().await?;
    assert_eq!(aliases(&list(&rig.client, json!({})).await?), ["box"]);
    assert_eq!(rig.exec("echo still here").await?.ok()?.str("stdout"), "still here\n");
    Ok(())
}

#[tokio::test]
async fn a_connected_server_is_shown_as_connected() -> Result<()> {
    let rig = Rig::start().await?;
    rig.exec("true").await?.ok()?;
    let servers = list(&rig.client, json!({})).await?;
    assert_eq!(servers.first().context("no server")?["connected"], true);
    let pool = rig.client.call("pool_stats", json!({})).await?.ok()?;
    assert!(pool.structured.to_string().contains("box"), "{:#}", pool.structured);
    Ok(())
}

#[tokio::test]
async fn verify_connects_and_tells_key_and_login() -> Result<()> {
    let rig = Rig::start().await?;
    let mut server = rig.server("checked");
    server["verify"] = json!(true);
    let added = rig.client.call("server_add", server).await?.ok()?;
    let told = format!("{}\n{}", added.text, added.structured);
    assert!(told.contains(rig.sshd.fingerprint()), "{told}");
    assert_eq!(rig.sshd.logins(), 1, "{}", rig.sshd.log());
    Ok(())
}

#[tokio::test]
async fn without_verify_no_login_is_tried() -> Result<()> {
    let rig = Rig::start().await?;
    assert_eq!(rig.sshd.logins(), 0);
    Ok(())
}

#[tokio::test]
async fn a_server_without_a_way_to_log_in_is_refused() -> Result<()> {
    let (client, _place) = alone().await?;
    let added = client.call("server_add", json!({"alias": "x", "host": "192.0.2.7", "user": "ops"})).await?;
    added.problem("INVALID_ARGUMENT")?.names(&["keyPath", "password", "agent"])?;
    assert!(list(&client, json!({})).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn fields_that_cannot_be_right_are_refused_by_name() -> Result<()> {
    let (client, _place) = alone().await?;
    let wrong = [
        ("alias", json!("")),
        ("alias", json!("a b/c\n")),
        ("host", json!("")),
        ("host", json!("-oProxyCommand=evil")),
        ("user", json!("")),
        ("port", json!(0)),
        ("port", json!(70000)),
        ("hostKey", json!("SHA256:short")),
        ("hostKey", json!("MD5:00:11")),
    ];
    for (field, value) in wrong {
        let mut server = remote("fine");
        server[field] = value.clone();
        let added = client.call("server_add", server).await?;
        added
            .problem("INVALID_ARGUMENT")
            .and_then(|problem| problem.names(&[field]))
            .with_context(|| format!("{value}"))?;
    }
    assert!(list(&client, json!({})).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn removing_an_unknown_server_names_the_nearest() -> Result<()> {
    let (client, _place) = alone().await?;
    client.call("server_add", remote("production")).await?.ok()?;
    let removed = client.call("server_remove", json!({"alias": "prodction"})).await?;
    removed.problem("SERVER_NOT_FOUND")?.names(&["prodction", "production"])
}

#[tokio::test]
async fn a_server_is_not_removed_under_a_running_job() -> Result<()> {
    let rig = Rig::start().await?;
    let sleep = Sleep::new();
    let running = rig.client.begin_call("task_exec", exec_arguments(&sleep.command, json!({}))).await?;
    sleep.runs().await?;
    let refused = rig.client.call("server_remove", json!({"alias": "box"})).await?;
    assert!(refused.is_error, "{}", refused.text);
    assert!(refused.text.contains("force"), "{}", refused.text);
    rig.client.call("server_remove", json!({"alias": "box", "force": true})).await?.ok()?;
    assert!(list(&rig.client, json!({})).await?.is_empty());
    // Its connections go with it: who waits for the command learns that, and does not wait for ever.
    let lost = rig.client.finish_call("task_exec", running).await?;
    assert!(lost.is_error, "{}", lost.text);
    Ok(())
}
