//! Transfers that are cut off: by the network, by the caller, by kill -9, by a full disk. Under the real name stands the old
//! file or the whole new one, and what was begun goes away or is continued.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orchestrator_tests::client::{Launch, Pending};
use orchestrator_tests::far::Far;
use orchestrator_tests::place::Place;
use orchestrator_tests::sshd::{Options, Sshd};
use orchestrator_tests::wait;
use serde_json::{Value, json};

use crate::support::Rig;
use crate::transfer::{copy, leftovers};

/// Bytes that don't repeat, so that a block in the wrong place shows.
fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .take(length)
        .collect()
}

/// A server that is far away, so that a transfer of some megabytes takes a while.
async fn far_away() -> Result<(Rig, Far)> {
    far_away_with(|launch| launch).await
}

async fn far_away_with(adapt: impl FnOnce(Launch) -> Launch) -> Result<(Rig, Far)> {
    let place = Place::new()?;
    let sshd = Sshd::start_with(Options::default()).await?;
    let far = Far::start(sshd.address, Duration::from_millis(60)).await?;
    let client = adapt(Launch::new(&place)).start().await?;
    let rig = Rig { client, sshd, place };
    let mut server = rig.server("box");
    server["port"] = json!(far.address.port());
    rig.client.call("server_add", server).await?.ok()?;
    Ok((rig, far))
}

fn arguments(direction: &str, local: &Path, remote: &Path) -> Value {
    json!({"alias": "box", "direction": direction, "local": local, "remote": remote})
}

/// Begins a transfer and returns when its first bytes have been written on the other side.
async fn begin(rig: &Rig, direction: &str, local: &Path, remote: &Path) -> Result<Pending> {
    let pending = rig.client.begin_call("task_transfer", arguments(direction, local, remote)).await?;
    let target = if direction == "upload" { remote } else { local };
    let folder = target.parent().context("no folder")?.to_owned();
    wait::until("the first bytes", Duration::from_secs(60), || part_of(&folder).is_some_and(|(_, size)| size > 0))
        .await?;
    Ok(pending)
}

fn part_of(folder: &Path) -> Option<(PathBuf, u64)> {
    let path = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".part")))?;
    let size = fs::metadata(&path).ok()?.len();
    Some((path, size))
}

#[tokio::test]
async fn many_transfers_at_once_never_wait_for_each_other_in_a_circle() -> Result<()> {
    // Four channels for everybody, of which a big file over a long line would like several for itself.
    let (rig, far) = far_away_with(|launch| launch.env("MAX_CONNECTIONS_PER_SERVER", "1")).await?;
    let mut other = rig.server("other");
    other["port"] = json!(far.address.port());
    rig.client.call("server_add", other).await?.ok()?;
    let root = rig.place.root().join("files");
    fs::create_dir(&root)?;
    let local = root.join("local");
    let expected = content(5_000_000);
    fs::write(&local, &expected)?;
    let targets: Vec<PathBuf> = (0..18).map(|number| root.join(format!("copy{number}"))).collect();
    let mut pending = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let mut call = arguments("server_to_server", &local, target);
        match number % 4 {
            0 => call["direction"] = json!("upload"),
            1 => call["source_alias"] = json!("box"),
            2 => call["source_alias"] = json!("other"),
            _ => (call["source_alias"], call["alias"]) = (json!("box"), json!("other")),
        }
        pending.push(rig.client.begin_call("task_transfer", call).await?);
    }
    for pending in pending {
        let mut state = rig.client.finish_call("task_transfer", pending).await?.ok()?;
        while state.str("state") == "running" {
            state = rig.client.call("task_wait", json!({"id": state.str("id")})).await?.ok()?;
        }
    }
    for target in targets {
        ensure!(fs::read(&target)? == expected, "{} is not what was sent", target.display());
    }
    Ok(())
}

#[tokio::test]
async fn hundreds_of_small_files_arrive_whole_over_a_long_line() -> Result<()> {
    let (rig, _far) = far_away().await?;
    let root = rig.place.root().join("files");
    let (local, remote, back) = (root.join("local"), root.join("remote"), root.join("back"));
    fs::create_dir_all(&local)?;
    // More than the server takes before it has answered, so that requests wait for each other.
    for number in 0..600 {
        fs::write(local.join(number.to_string()), content(number * 29 % 20_000))?;
    }
    for (direction, here, there) in [("upload", &local, &remote), ("download", &back, &remote)] {
        let done = rig.client.call("task_transfer", arguments(direction, here, there)).await?.ok()?;
        assert_eq!(done.structured["files"], 600, "{}", done.text);
    }
    for number in 0..600 {
        ensure!(fs::read(back.join(number.to_string()))? == content(number * 29 % 20_000), "{number} has changed");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_costs_nothing_but_time() -> Result<()> {
    let (rig, _far) = far_away().await?;
    let root = rig.place.root().join("files");
    fs::create_dir(&root)?;
    let (local, remote) = (root.join("local"), root.join("remote"));
    let expected = content(60_000_000);
    fs::write(&local, &expected)?;
    let pending = begin(&rig, "upload", &local, &remote).await?;
    rig.sshd.sever();
    let done = rig.client.finish_call("task_transfer", pending).await?.ok()?;
    assert!(fs::read(&remote)? == expected, "the content differs: {}", done.text);
    assert_eq!(leftovers(&root)?, Vec::<PathBuf>::new());
    let back = root.join("back");
    let pending = begin(&rig, "download", &back, &remote).await?;
    rig.sshd.sever();
    rig.client.finish_call("task_transfer", pending).await?.ok()?;
    assert!(fs::read(&back)? == expected, "the content differs");
    assert_eq!(leftovers(&root)?, Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn what_changes_while_it_is_copied_is_read_again_and_what_vanishes_is_said() -> Result<()> {
    let (rig, _far) = far_away().await?;
    for direction in ["upload", "download"] {
        let root = rig.place.root().join(direction);
        let (local, remote) = (root.join("local"), root.join("remote"));
        let (source, target) = if direction == "upload" { (&local, &remote) } else { (&remote, &local) };
        fs::create_dir_all(source)?;
        // Four of that size at a time: the last ones wait until the first is through.
        for name in ["a", "b", "c", "d", "y", "z"] {
            fs::write(source.join(name), content(20_000_000))?;
        }
        let pending = rig.client.begin_call("task_transfer", arguments(direction, &local, &remote)).await?;
        wait::until("the first bytes", Duration::from_secs(60), || part_of(target).is_some_and(|(_, size)| size > 0))
            .await?;
        let mut changed = content(20_000_000);
        changed.extend_from_slice(b"more");
        for name in ["a", "b", "c", "d"] {
            fs::write(source.join(name), &changed)?;
        }
        fs::remove_file(source.join("z"))?;
        let done = rig.client.finish_call("task_transfer", pending).await?;
        assert!(done.is_error && done.text.starts_with("1 failed:"), "{}", done.text);
        assert!(done.text.contains("/z: there is no such file"), "{}", done.text);
        for name in ["a", "b", "c", "d"] {
            assert!(fs::read(target.join(name))? == changed, "{direction} of {name}: {}", done.text);
        }
        assert!(fs::read(target.join("y"))? == content(20_000_000), "{direction}");
        assert!(!target.join("z").exists());
        assert_eq!(leftovers(target)?, Vec::<PathBuf>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_transfer_leaves_nothing_behind() -> Result<()> {
    let (rig, _far) = far_away().await?;
    for direction in ["upload", "download"] {
        let root = rig.place.root().join(direction);
        fs::create_dir(&root)?;
        let (local, remote) = (root.join("local"), root.join("remote"));
        let (source, target) = if direction == "upload" { (&local, &remote) } else { (&remote, &local) };
        fs::write(source, content(60_000_000))?;
        fs::write(target, "old")?;
        let pending = begin(&rig, direction, &local, &remote).await?;
        let id = rig.client.call("task_queue", json!({"status": "running"})).await?.ok()?.structured["jobs"][0]["id"]
            .clone();
        rig.client.call("task_cancel", json!({"id": id})).await?.ok()?;
        rig.client.finish_call("task_transfer", pending).await?.problem("CANCELLED")?;
        assert_eq!(fs::read(target)?, b"old");
        assert_eq!(leftovers(&root)?, Vec::<PathBuf>::new(), "{direction}");
    }
    Ok(())
}

#[tokio::test]
async fn after_kill_9_the_old_file_or_the_whole_new_one_is_there() -> Result<()> {
    let (mut rig, _far) = far_away().await?;
    for direction in ["upload", "download"] {
        let root = rig.place.root().join(direction);
        fs::create_dir(&root)?;
        let (local, remote) = (root.join("local"), root.join("remote"));
        let (source, target) = if direction == "upload" { (&local, &remote) } else { (&remote, &local) };
        let expected = content(30_000_000);
        fs::write(source, &expected)?;
        fs::write(target, "old")?;
        let _pending = begin(&rig, direction, &local, &remote).await?;
        rig = rig.crash().await?;
        assert_eq!(fs::read(target)?, b"old", "{direction}");
        ensure!(part_of(&root).is_some(), "kill -9 cannot have cleaned up");
        rig.client.call("task_transfer", arguments(direction, &local, &remote)).await?.ok()?;
        assert!(fs::read(target)? == expected, "{direction}");
        assert_eq!(leftovers(&root)?, Vec::<PathBuf>::new(), "{direction}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_killed_transfer_of_a_tree_has_left_is_cleared_by_the_next() -> Result<()> {
    let (rig, _far) = far_away().await?;
    let root = rig.place.root().join("tree");
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir_all(&source)?;
    fs::create_dir_all(&target)?;
    fs::write(source.join("big"), content(30_000_000))?;
    fs::write(source.join("small"), "small")?;
    let _pending = rig.client.begin_call("task_transfer", arguments("upload", &source, &target)).await?;
    wait::until("the first bytes", Duration::from_secs(60), || part_of(&target).is_some_and(|(_, size)| size > 0))
        .await?;
    let rig = rig.crash().await?;
    // What it was for is not wanted any more, and somebody else's unfinished file is not ours to remove.
    fs::remove_file(source.join("big"))?;
    fs::write(target.join(".other.00000000.part"), "")?;
    rig.client.call("task_transfer", arguments("upload", &source, &target)).await?.ok()?;
    assert_eq!(leftovers(&target)?, [PathBuf::from(".other.00000000.part")]);
    Ok(())
}

#[tokio::test]
async fn a_partial_file_is_continued_only_when_it_is_the_same() -> Result<()> {
    let rig = Rig::start().await?;
    let expected = content(3_000_000);
    for direction in ["upload", "download"] {
        let root = rig.place.root().join(direction);
        fs::create_dir(&root)?;
        let (local, remote) = (root.join("local"), root.join("remote"));
        let (source, target) = if direction == "upload" { (&local, &remote) } else { (&remote, &local) };
        fs::write(source, &expected)?;
        // Another program has left it under the real name.
        fs::write(target, &expected[..2_000_000])?;
        let done = copy(&rig, direction, &local, &remote, json!({"resume": true})).await?.ok()?;
        assert!(fs::read(target)? == expected, "{direction}: {}", done.text);
        assert_eq!(done.structured["bytes"], 1_000_000, "{direction}: {}", done.text);
        assert_eq!(done.structured["resumed_bytes"], 2_000_000, "{direction}: {}", done.text);
        // It begins differently.
        let mut other = expected[..2_000_000].to_vec();
        other[1_000_000] ^= 1;
        fs::write(target, &other)?;
        let done = copy(&rig, direction, &local, &remote, json!({"resume": true, "verify": true})).await?.ok()?;
        assert!(fs::read(target)? == expected, "{direction}: {}", done.text);
        assert_eq!(done.structured["bytes"], 3_000_000, "{direction}: {}", done.text);
        assert_eq!(leftovers(&root)?, Vec::<PathBuf>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_the_old_file() -> Result<()> {
    let rig = Rig::start().await?;
    let root = rig.place.root();
    let small = root.join("small");
    fs::create_dir(&small)?;
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&small).output()?;
    if !mounted.status.success() {
        eprintln!("NOT TESTED: a full disk, since this user may not mount a small one");
        return Ok(());
    }
    let checked = async {
        fs::write(root.join("big"), content(8_000_000))?;
        fs::write(small.join("file"), "old")?;
        for direction in ["upload", "download"] {
            let (local, remote) = if direction == "upload" {
                (root.join("big"), small.join("file"))
            } else {
                (small.join("file"), root.join("big"))
            };
            let full = copy(&rig, direction, &local, &remote, json!({})).await?;
            full.problem("TRANSFER_FAILED")?.names(&["space"])?;
            assert_eq!(fs::read(small.join("file"))?, b"old", "{direction}");
            assert_eq!(leftovers(&small)?, Vec::<PathBuf>::new(), "{direction}");
        }
        Ok(())
    };
    let checked: Result<()> = checked.await;
    std::process::Command::new("umount").arg("-l").arg(&small).status()?;
    checked
}

#[tokio::test]
async fn a_login_that_may_not_transfer_files_is_told_so() -> Result<()> {
    let options = Options { config: vec!["ForceCommand echo Welcome".to_owned()], ..Options::default() };
    let rig = Rig::with(options, |launch| launch).await?;
    let refused = copy(&rig, "upload", Path::new("/etc/hostname"), Path::new("/tmp/never"), json!({})).await?;
    refused.problem("TRANSFER_FAILED")?.names(&["Welcome", "SFTP"])?;
    let options = Options { config: vec!["Subsystem other internal-sftp".to_owned()], ..Options::default() };
    let rig = Rig::with(options, |launch| launch).await?;
    let refused = copy(&rig, "upload", Path::new("/etc/hostname"), Path::new("/tmp/never"), json!({})).await?;
    refused.problem("TRANSFER_FAILED")?.names(&["Subsystem sftp"])?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_replaced_keeps_its_readers_out_until_it_is_whole() -> Result<()> {
    let (rig, _far) = far_away().await?;
    let root = rig.place.root().join("secret");
    fs::create_dir(&root)?;
    let (local, remote) = (root.join("local"), root.join("remote"));
    fs::write(&local, content(30_000_000))?;
    fs::set_permissions(&local, fs::Permissions::from_mode(0o644))?;
    let pending = begin(&rig, "upload", &local, &remote).await?;
    let (part, _) = part_of(&root).context("no unfinished file")?;
    let mode = fs::metadata(&part)?.permissions().mode() & 0o777;
    // Commands have a connection of their own and don't wait behind the file.
    rig.exec("true").await?.ok()?;
    let pool = rig.client.call("pool_stats", json!({})).await?.ok()?;
    assert!(pool.text.contains("box (commands)") && pool.text.contains("box (transfers)"), "{}", pool.text);
    rig.client.finish_call("task_transfer", pending).await?.ok()?;
    assert_eq!(mode, 0o600);
    assert_eq!(fs::metadata(&remote)?.permissions().mode() & 0o777, 0o644);
    Ok(())
}
