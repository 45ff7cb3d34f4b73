//! Starts that must fail: the program ends with a non-zero code, says on standard error what is wrong and what to do, and
//! writes nothing on standard output.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use orchestrator_tests::client::Launch;
use orchestrator_tests::place::Place;
use serde_json::json;

use crate::support::{Rig, alone};

/// Checks a start that failed; returns what was said.
fn refused(output: &Output, words: &[&str]) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "the program started:\n{said}");
    ensure!(output.status.code().is_some(), "the program was killed: {}", output.status);
    ensure!(output.stdout.is_empty(), "standard output: {}", String::from_utf8_lossy(&output.stdout));
    ensure!(!said.contains("panicked"), "a panic is no message:\n{said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not named:\n{said}");
    }
    Ok(said)
}

fn launch(place: &Place) -> Launch {
    Launch::new(place).patience(Duration::from_secs(30))
}

/// Starts on a database that cannot be read: it must be kept as it is under another name, which is told at the start and
/// by the diagnostics, and work must go on with a new one.
async fn kept_aside(place: &Place, damaged: &[u8]) -> Result<()> {
    let path = place.data().join("orchestrator.redb");
    fs::write(&path, damaged)?;
    let before = place.data_files()?;
    let client = launch(place).start().await?;
    let is_new = |file: &PathBuf| file.to_string_lossy().contains(".corrupt") && !before.contains(file);
    let Some(aside) = place.data_files()?.into_iter().find(is_new) else {
        bail!("the damaged file was not kept:\n{}", client.stderr())
    };
    ensure!(fs::read(&aside)? == damaged, "the damaged file was changed");
    let name = aside.display().to_string();
    ensure!(client.stderr().contains(&name), "{}", client.stderr());
    let told = client.call("system_diagnostics", json!({})).await?;
    ensure!(told.text.contains(&name), "the diagnostics do not say so: {}", told.text);
    client.call("server_list", json!({})).await?.ok()?;
    client.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_none_is_kept_aside_and_that_is_said() -> Result<()> {
    let place = Place::new()?;
    place.make_data()?;
    for garbage in [&b"this is not a database\n"[..], &[0; 8192], &[0xff; 4096]] {
        kept_aside(&place, garbage).await?;
    }
    Ok(())
}

#[tokio::test]
async fn half_a_database_is_kept_aside_and_that_is_said() -> Result<()> {
    let rig = Rig::start().await?;
    rig.exec("true").await?.ok()?;
    rig.client.close().await?;
    let mut bytes = fs::read(rig.place.data().join("orchestrator.redb"))?;
    bytes.truncate(bytes.len() / 2);
    kept_aside(&rig.place, &bytes).await
}

#[tokio::test]
async fn a_database_of_an_older_schema_is_migrated_with_all_that_is_in_it() -> Result<()> {
    let place = Place::new()?;
    place.make_data()?;
    let path = place.data().join("orchestrator.redb");
    let old = Command::new("gzip")
        .arg("-dc")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/schema-1.redb.gz"))
        .output()?;
    ensure!(old.status.success(), "{}", String::from_utf8_lossy(&old.stderr));
    fs::write(&path, &old.stdout)?;
    // The second start finds what the first one left.
    for _ in 0..2 {
        let client = launch(&place).start().await?;
        let stats = client.call("queue_stats", json!({})).await?.ok()?.structured;
        assert_eq!((&stats["total"], &stats["byStatus"]["failed"]), (&json!(7), &json!(2)), "{stats:#}");
        for (filter, count) in [("failed", 2), ("cancelled", 1), ("crashed", 0), ("completed", 4)] {
            let found = client.call("task_history", json!({"status": filter})).await?.ok()?.structured;
            let jobs = found["jobs"].as_array().cloned().unwrap_or_default();
            assert_eq!(jobs.len(), count, "{filter}: {found:#}");
            assert!(jobs.iter().all(|job| job["status"] == filter), "{found:#}");
            if filter == "completed" {
                let id = &jobs.last().unwrap_or(&json!(null))["id"];
                let output = client.call("task_output", json!({"id": id})).await?.ok()?;
                assert_eq!(output.str("text"), "old\n");
            }
        }
        client.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_program_on_the_same_data_is_turned_away() -> Result<()> {
    let (client, place) = alone().await?;
    let said = refused(&launch(&place).run().await?, &["orchestrator.redb"])?;
    assert!(said.contains("another") || said.contains("in use"), "{said}");
    client.call("queue_stats", json!({})).await?.ok()?;
    assert!(client.close().await?.success());
    let again = launch(&place).start().await?;
    assert!(again.close().await?.success(), "the lock was left behind");
    Ok(())
}

#[tokio::test]
async fn a_file_where_the_data_directory_should_be_is_named() -> Result<()> {
    let place = Place::new()?;
    fs::write(place.data(), "in the way")?;
    refused(&launch(&place).run().await?, &[&place.data().display().to_string()])?;
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() -> Result<()> {
    // Nobody can make a folder here, not even root, whom no mode binds.
    let data = PathBuf::from("/sys/kernel/mcp-orchestrator");
    let place = Place::new()?;
    refused(&launch(&place).data(&data).run().await?, &["/sys/kernel/mcp-orchestrator"])?;
    Ok(())
}

#[tokio::test]
async fn a_setting_that_does_not_parse_is_named() -> Result<()> {
    for (name, value) in [
        ("MCP_SYNC_TIMEOUT_S", "soon"),
        ("MAX_CONNECTIONS_PER_SERVER", "-1"),
        ("MAX_CONNECTIONS_PER_SERVER", "0"),
        ("MCP_DEFAULT_CMD_TIMEOUT_MS", "5s"),
        ("LOG_LEVEL", "=="),
    ] {
        let place = Place::new()?;
        refused(&launch(&place).env(name, value).run().await?, &[name, value])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_of_the_file_that_nobody_knows_is_named_with_the_nearest() -> Result<()> {
    let place = Place::new()?;
    place.configure("[plugins.monitoring]\nenabeld = false\n")?;
    refused(&launch(&place).run().await?, &["orchestrator.toml", "enabeld", "enabled"])?;
    place.configure("sync_timeout = = 5\n")?;
    refused(&launch(&place).run().await?, &["orchestrator.toml"])?;
    Ok(())
}

#[tokio::test]
async fn an_empty_standard_input_is_an_orderly_end() -> Result<()> {
    let place = Place::new()?;
    let output = launch(&place).run().await?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(output.stdout.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_data_directory_is_for_its_owner_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::start().await?;
    rig.exec("true").await?.ok()?;
    assert_eq!(fs::metadata(rig.place.data())?.permissions().mode() & 0o777, 0o700);
    for file in rig.place.data_files()? {
        // What lies in a folder of its own is behind that folder's mode and the data directory's.
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        assert_eq!(mode & 0o022, 0, "{} can be written by others: {mode:o}", file.display());
    }
    Ok(())
}
