//! Moving over: what the Node project and OpenSSH's client configuration know becomes servers, through the daemon.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::Launch;
use orchestrator_tests::daemon::Daemon;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::{Options, Sshd};
use serde_json::{Value, json};

/// Runs a verb of the program to its end, with this on its standard input.
pub async fn verb(place: &Place, arguments: &[&str], input: &str) -> Result<Output> {
    let launch = Launch::new(place).shared();
    let mut command = launch.command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting the verb")?;
    let mut stdin = child.stdin.take().context("no pipe to standard input")?;
    // A verb that needs no input may have ended already.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
    drop(stdin);
    tokio::time::timeout(Duration::from_secs(120), child.wait_with_output())
        .await
        .context("the verb does not end")?
        .map_err(Into::into)
}

/// What a verb that ended well has said.
pub fn said(output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    Ok(text)
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    fs::create_dir_all(folder)?;
    Ok(fs::write(folder.join(name), serde_json::to_vec_pretty(value)?)?)
}

const PASSWORD: &str = "correct-horse-battery";

#[tokio::test]
async fn the_node_projects_servers_and_apis_are_taken_over_while_another_client_is_there() -> Result<()> {
    let place = Place::new()?;
    let _daemon = Daemon::of(&place);
    let sshd = Sshd::start_with(Options::default()).await?;
    place.know_hosts(&sshd.known_hosts())?;
    let client = Launch::new(&place).shared().start().await?;
    client
        .call("server_add", json!({"alias": "mine", "host": "192.0.2.1", "user": "me", "agent": true}))
        .await?
        .ok()?;
    let node = place.root().join("node");
    let servers = json!({
        "box": {"host": "127.0.0.1", "port": sshd.port(), "user": sshd.user, "keyPath": sshd.client_key.path},
        "db": {"host": "192.0.2.9", "user": "root", "password": PASSWORD, "readonly": true},
        "mine": {"host": "192.0.2.2", "user": "other", "password": PASSWORD},
        "bad alias": {"host": "192.0.2.3", "user": "root", "password": PASSWORD},
        "trap": {"host": "192.0.2.4", "user": "root", "password": "cmd:touch /tmp/never"},
        "empty": {"host": "192.0.2.5"},
    });
    write(&node, "servers.json", &servers)?;
    write(&node, "server_groups.json", &json!({"prod": ["box", "db"]}))?;
    let apis = json!({
        "shop": {"url": "https://shop.example", "auth_method": "api_key", "api_key": PASSWORD, "auth_scheme": "Bearer"},
        "odd": {"url": "ftp://shop.example"},
    });
    write(&node, "apis.json", &apis)?;
    let folder = node.to_str().context("a path")?;

    let dry = verb(&place, &["import", folder, "--dry-run"], "").await?;
    ensure!(String::from_utf8_lossy(&dry.stdout).contains("would import box"), "{dry:?}");
    let listed = client.call("server_list", json!({})).await?.ok()?;
    assert_eq!(listed.structured["servers"].as_array().map(Vec::len), Some(1));

    let output = verb(&place, &["import", folder], "").await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "some entries failed: {text}");
    for line in [
        "imported     box: ",
        "imported     db: root@192.0.2.9:22 (password)",
        "note: it was marked read-only there",
        "kept         mine: ",
        "FAILED       bad alias: ",
        "FAILED       trap: its password begins like a reference",
        "FAILED       empty: has no user",
        "imported     shop: https://shop.example, authentication: api_key",
        "FAILED       odd: `url` must begin with http",
        "Imported: 3; kept as they are: 1; skipped: 0; failed: 4.",
    ] {
        ensure!(text.contains(line), "{line:?} is not in\n{text}");
    }
    ensure!(!text.contains(PASSWORD), "{text}");
    let done = client.call("task_exec", json!({"alias": "tag:prod", "cmd": "echo hi", "timeout": 5})).await?;
    ensure!(done.text.contains("hi"), "{}", done.text);
    let mine = client.call("server_list", json!({})).await?.ok()?.text;
    ensure!(mine.contains("me@192.0.2.1") && !mine.contains("192.0.2.2"), "{mine}");
    let forced = verb(&place, &["import", folder, "--force"], "").await?;
    ensure!(String::from_utf8_lossy(&forced.stdout).contains("(update)"), "{forced:?}");
    let mine = client.call("server_list", json!({})).await?.ok()?.text;
    ensure!(mine.contains("other@192.0.2.2"), "{mine}");
    client.close().await?;
    for file in place.data_files()? {
        let bytes = fs::read(&file).unwrap_or_default();
        ensure!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "{} holds it", file.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_broken_file_is_replaced_by_its_good_copy_and_a_folder_without_any_is_refused() -> Result<()> {
    let place = Place::new()?;
    let _daemon = Daemon::of(&place);
    let node = place.root().join("node");
    let folder = node.to_str().context("a path")?;
    write(&node, "servers.json.bak", &json!({"db": {"host": "192.0.2.9", "user": "root", "password": "p"}}))?;
    let refused = verb(&place, &["import", folder], "").await?;
    ensure!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("neither servers.json nor"));
    fs::write(node.join("servers.json"), "{\"db\": ")?;
    let text = said(&verb(&place, &["import", folder], "").await?)?;
    ensure!(text.contains("servers.json.bak was read instead") && text.contains("imported     db"), "{text}");
    Ok(())
}

#[tokio::test]
async fn hosts_of_ssh_config_work_after_the_import_jumps_included() -> Result<()> {
    let place = Place::new()?;
    let _daemon = Daemon::of(&place);
    let sshd = Sshd::start_with(Options::default()).await?;
    place.know_hosts(&sshd.known_hosts())?;
    fs::copy(&sshd.client_key.path, place.ssh_dir().join("id_fleet"))?;
    let config = format!(
        "Include fleet.d/*\nHost gate\n  Port {port}\nHost inner\n  ProxyJump gate\n  Port {port}\nHost odd\n  ProxyCommand nc %h %p\n\
         Host *.lab\n  User lab\nHost *\n  HostName 127.0.0.1\n  User {user}\n  IdentityFile ~/.ssh/id_fleet\n",
        port = sshd.port(),
        user = sshd.user,
    );
    fs::write(place.ssh_dir().join("config"), config)?;
    fs::create_dir(place.ssh_dir().join("fleet.d"))?;
    fs::write(place.ssh_dir().join("fleet.d/more"), format!("Host extra\n  Port {}\n", sshd.port()))?;
    let output = verb(&place, &["server", "import", "--ssh-config"], "").await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "imported     extra",
        "imported     gate",
        "via gate",
        "FAILED       odd: its ProxyCommand",
        "skipped      *.lab",
    ] {
        ensure!(text.contains(line), "{line:?} is not in\n{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let client = Launch::new(&place).shared().start().await?;
    for alias in ["extra", "inner"] {
        let done = client.call("task_exec", json!({"alias": alias, "cmd": "echo through"})).await?.ok()?;
        assert_eq!(done.str("stdout"), "through\n", "{alias}");
    }
    let text = said(&verb(&place, &["server", "list"], "").await?)?;
    ensure!(text.contains("inner  ") && text.contains("via: gate"), "{text}");
    client.close().await?;
    Ok(())
}
