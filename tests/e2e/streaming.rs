//! Commands that never end by themselves: their share of output is a result, and nothing is left running.

use std::fs;

use anyhow::{Result, ensure};
use orchestrator_tests::wait;
use serde_json::json;

use crate::support::{Rig, exec_arguments};

/// A file that no other test follows.
fn followed(rig: &Rig, text: &str) -> Result<String> {
    let path = rig.sshd.folder().join("followed.log");
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn nobody_follows(path: &str) -> Result<()> {
    let found = wait::processes_with(path);
    ensure!(found.is_empty(), "somebody still follows {path}: {found:?}");
    Ok(())
}

#[tokio::test]
async fn what_never_ends_is_stopped_after_its_lines_and_the_job_is_completed() -> Result<()> {
    let rig = Rig::start().await?;
    let lines: String = (1..=150).map(|number| format!("line {number}\n")).collect();
    let path = followed(&rig, &lines)?;
    let result = rig.exec(&format!("tail -n +1 -f {path}")).await?.ok()?;
    let expected: String = lines.lines().take(100).map(|line| format!("{line}\n")).collect();
    assert_eq!(result.str("stdout"), expected);
    assert!(result.str("stopped").starts_with("stopped after 100 lines (`tail -n +1 -f"), "{}", result.text);
    assert!(result.text.starts_with("stopped after 100 lines"), "{}", result.text);
    // The end was confirmed, so it is there at once.
    nobody_follows(&path)?;
    assert_eq!(rig.only_job("box").await?["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn what_never_ends_is_stopped_after_its_time() -> Result<()> {
    let rig = Rig::start().await?;
    let path = followed(&rig, "one\ntwo\n")?;
    let more = json!({"stream": {"seconds": 1}, "pty": false});
    let result = rig.exec_with(&format!("cd / && tail -f {path} | cat"), more).await?.ok()?;
    assert_eq!(result.str("stdout"), "one\ntwo\n");
    assert!(result.str("stopped").starts_with("stopped after 1 s"), "{}", result.text);
    nobody_follows(&path)
}

#[tokio::test]
async fn any_command_can_be_given_a_share() -> Result<()> {
    let rig = Rig::start().await?;
    let more = json!({"stream": {"lines": 5, "seconds": 60}, "timeout": 30});
    let result = rig.exec_with("i=0; while :; do i=$((i+1)); echo $i; done", more.clone()).await?.ok()?;
    assert_eq!(result.str("stdout"), "1\n2\n3\n4\n5\n");
    assert!(result.text.contains("as asked for"), "{}", result.text);
    // What ends before is a result like any other.
    let ended = rig.exec_with("echo a; exit 3", more).await?;
    assert!(ended.is_error && ended.structured.get("stopped").is_none(), "{:#}", ended.structured);
    assert_eq!(ended.structured["exit_code"], 3);
    Ok(())
}

#[tokio::test]
async fn a_following_command_that_fails_is_a_failure() -> Result<()> {
    let rig = Rig::start().await?;
    let result = rig.exec("tail -f /no/such/file").await?;
    assert!(result.is_error && result.structured["exit_code"] == 1, "{:#}", result.structured);
    Ok(())
}

#[tokio::test]
async fn each_of_many_servers_gives_its_share() -> Result<()> {
    let rig = Rig::start().await?;
    rig.client.call("server_add", rig.server("second")).await?.ok()?;
    let path = followed(&rig, "one\ntwo\nthree\n")?;
    let mut arguments = exec_arguments(&format!("tail -f {path}"), json!({"stream": {"lines": 2, "seconds": 30}}));
    arguments["alias"] = json!(["box", "second"]);
    let result = rig.client.call("task_exec", arguments).await?.ok()?;
    for part in [&result.structured["results"][0], &result.structured["results"][1]] {
        assert_eq!(part["stdout"], "one\ntwo\n", "{part:#}");
        assert!(part["stopped"].as_str().is_some_and(|note| note.contains("2 lines")), "{part:#}");
    }
    nobody_follows(&path)
}

#[tokio::test]
async fn a_share_of_nothing_is_refused_by_name() -> Result<()> {
    let rig = Rig::start().await?;
    for (share, name) in [(json!({"lines": 0}), "stream.lines"), (json!({"line": 5}), "line"), (json!(5), "stream")] {
        let result = rig.exec_with("tail -f x", json!({"stream": share})).await?;
        result.problem("INVALID_ARGUMENT")?.names(&[name])?;
    }
    Ok(())
}
