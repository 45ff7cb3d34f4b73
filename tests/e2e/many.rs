//! `task_exec` on many servers: who is meant, one result for each, and no failure that hides another result.

use std::net::TcpListener;

use anyhow::Result;
use orchestrator_tests::result::ToolResult;
use serde_json::{Value, json};

use crate::support::Rig;

/// Three more names for the sshd of the rig, two of them with the tag `web`, and one that nobody listens behind.
async fn fleet() -> Result<Rig> {
    let rig = Rig::start().await?;
    for (alias, tags) in [("web1", json!(["web"])), ("web2", json!(["web"])), ("db", json!(["prod"]))] {
        let mut server = rig.server(alias);
        server["tags"] = tags;
        rig.client.call("server_add", server).await?.ok()?;
    }
    let mut dead = rig.server("dead");
    dead["port"] = json!(1);
    rig.client.call("server_add", dead).await?.ok()?;
    Ok(rig)
}

async fn exec(rig: &Rig, alias: Value, cmd: &str) -> Result<ToolResult> {
    rig.client.call("task_exec", json!({"alias": alias, "cmd": cmd})).await
}

fn aliases(result: &ToolResult) -> Vec<&str> {
    let results = result.structured["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    results.iter().filter_map(|one| one["alias"].as_str()).collect()
}

#[tokio::test]
async fn a_list_and_a_tag_mean_every_server_once() -> Result<()> {
    let rig = fleet().await?;
    for (alias, expected) in [
        (json!(["db", "web1", "db"]), vec!["db", "web1"]),
        (json!("tag:web"), vec!["web1", "web2"]),
        (json!("group:web"), vec!["web1", "web2"]),
        (json!(["box"]), vec!["box"]),
        (json!(["db", "tag:web"]), vec!["db", "web1", "web2"]),
    ] {
        let result = exec(&rig, alias, "echo out; echo err >&2").await?.ok()?;
        assert_eq!(aliases(&result), expected);
        assert_eq!((&result.structured["ok"], &result.structured["failed"]), (&json!(expected.len()), &json!(0)));
        for one in result.structured["results"].as_array().into_iter().flatten() {
            assert_eq!(
                (&one["stdout"], &one["stderr"], &one["exit_code"]),
                (&json!("out\n"), &json!("err\n"), &json!(0))
            );
        }
    }
    let one = exec(&rig, json!("box"), "echo out").await?.ok()?;
    assert_eq!((one.str("alias"), one.str("stdout")), ("box", "out\n"));
    assert!(one.structured.get("results").is_none(), "one server has the shape of many: {:#}", one.structured);
    Ok(())
}

#[tokio::test]
async fn one_dead_server_does_not_hide_the_others() -> Result<()> {
    let rig = fleet().await?;
    let result = exec(&rig, json!("all"), "echo alive").await?;
    assert!(result.is_error);
    assert_eq!(aliases(&result), ["box", "db", "dead", "web1", "web2"]);
    assert_eq!((&result.structured["ok"], &result.structured["failed"]), (&json!(4), &json!(1)));
    let results = &result.structured["results"];
    assert_eq!(results[2]["error"]["code"], "CONNECTION_FAILED");
    assert_eq!(results[2]["error"]["details"]["alias"], "dead");
    assert_eq!(results[4]["stdout"], "alive\n");
    assert!(result.text.starts_with("failed on 1 of 5\n== dead ==\n"), "{}", result.text);
    assert_eq!(result.text.matches("alive").count(), 4, "{}", result.text);
    Ok(())
}

#[tokio::test]
async fn one_word_that_means_nobody_runs_nothing_anywhere() -> Result<()> {
    let rig = fleet().await?;
    let mark = rig.place.root().join("mark");
    let cmd = format!("touch {}", mark.display());
    exec(&rig, json!(["box", "web3"]), &cmd).await?.problem("SERVER_NOT_FOUND")?.names(&["web3"])?;
    exec(&rig, json!(["box", "tag:mail"]), &cmd).await?.problem("SERVER_NOT_FOUND")?.names(&["mail", "web", "prod"])?;
    exec(&rig, json!([]), &cmd).await?.problem("INVALID_ARGUMENT")?.names(&["alias"])?;
    exec(&rig, json!(7), &cmd).await?.problem("INVALID_ARGUMENT")?.names(&["alias", "string"])?;
    let history = rig.client.call("task_history", json!({})).await?.ok()?;
    assert_eq!(history.structured["jobs"], json!([]), "a refused call left a job");
    assert!(!mark.exists(), "a refused call ran");
    exec(&rig, json!(["box"]), &cmd).await?.ok()?;
    assert!(mark.exists(), "the command that must not run would not have left its mark");
    Ok(())
}

#[tokio::test]
async fn output_of_many_servers_stays_within_what_one_may_show() -> Result<()> {
    let rig = fleet().await?;
    let cmd = "echo BEGIN; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo END";
    let result = exec(&rig, json!(["box", "web1", "web2", "db"]), cmd).await?.ok()?;
    for one in result.structured["results"].as_array().into_iter().flatten() {
        let shown = one["stdout"].as_str().unwrap_or_default();
        assert!(shown.starts_with("BEGIN\n") && shown.ends_with("END\n"), "head and tail are not shown");
        assert!(shown.chars().count() < 5_100, "{} characters of one server", shown.chars().count());
        assert_eq!((&one["truncated"], &one["stdout_bytes"]), (&json!(true), &json!(3_000_000 + 6 + 1 + 4)));
    }
    assert!(result.text.len() < 21_000, "the text has {} bytes", result.text.len());
    Ok(())
}

#[tokio::test]
async fn servers_are_worked_on_at_the_same_time_and_counted() -> Result<()> {
    let rig = fleet().await?;
    // Each of the three waits for the marks of the two others: one after the other they would wait for ever.
    let folder = rig.place.root().join("marks");
    std::fs::create_dir(&folder)?;
    let cmd =
        format!("cd {} && touch $$ && while [ $(ls | wc -l) -lt 3 ]; do sleep 0.05; done; echo met", folder.display());
    let arguments = json!({"alias": ["web1", "web2", "db"], "cmd": cmd, "timeout": 20});
    let pending = rig.client.begin_call_with_token("task_exec", arguments, "many").await?;
    let result = rig.client.finish_call("task_exec", pending).await?.ok()?;
    assert_eq!(result.structured["ok"], 3);
    // Only the last report counts, so an earlier one may have been passed over.
    let told = |note: &Value| note["method"] == "notifications/progress" && note["params"]["total"] == json!(3.0);
    let note = rig.client.notification(told).await?;
    let message = note["params"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(" of 3 ("), "{note:#}");
    Ok(())
}

#[tokio::test]
async fn many_silent_servers_hold_up_nobody() -> Result<()> {
    const SILENT: usize = 100;
    let rig = Rig::start().await?;
    // The system takes connections for it, and nobody ever says a word on them.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let names: Vec<String> = (0..SILENT).map(|number| format!("a{number:02}")).collect();
    for name in &names {
        let mut server = rig.server(name);
        server["port"] = json!(silent.local_addr()?.port());
        rig.client.call("server_add", server).await?.ok()?;
    }
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["box"]).collect();
    let arguments = json!({"alias": all, "cmd": "echo hi"});
    let _pending = rig.client.begin_call_with_token("task_exec", arguments, "silent").await?;
    let told = |note: &Value| note["method"] == "notifications/progress" && note["params"]["progressToken"] == "silent";
    let note = rig.client.notification(told).await?;
    assert_eq!(note["params"]["message"], format!("1 of {} (box)", SILENT + 1), "{note:#}");
    Ok(())
}
