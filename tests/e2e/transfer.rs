//! Files, as a client has them copied: every tree arrives as it was, whatever stands in its way is said, and nothing
//! unfinished stays behind.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use orchestrator_tests::result::ToolResult;
use orchestrator_tests::sshd::Options;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::Rig;

/// What a tree holds, by path: kind, mode, and content or where it leads.
type Tree = BTreeMap<PathBuf, (char, u32, Vec<u8>)>;

pub fn read_tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            let below = path.strip_prefix(root)?.to_owned();
            let mode = meta.mode() & 0o777;
            if meta.is_symlink() {
                tree.insert(below, ('l', 0, fs::read_link(&path)?.as_os_str().as_bytes().to_owned()));
            } else if meta.is_dir() {
                tree.insert(below, ('d', mode, Vec::new()));
                folders.push(path);
            } else {
                tree.insert(below, ('f', mode, fs::read(&path)?));
            }
        }
    }
    Ok(tree)
}

/// A tree as a hostile person would make it.
pub fn grow(root: &Path, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let names: [&[u8]; 10] = [
        b"plain",
        b"two words",
        b"quo'te\"s",
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b"$HOME",
        b"*",
        b".hidden",
        "ü😀".as_bytes(),
    ];
    fs::create_dir(root)?;
    let mut folders = vec![root.to_owned()];
    for number in 0..60 {
        let folder = folders[random.random_range(0..folders.len())].clone();
        let mut name = names[random.random_range(0..names.len())].to_vec();
        name.extend_from_slice(number.to_string().as_bytes());
        let path = folder.join(OsStr::from_bytes(&name));
        match random.random_range(0..10) {
            0..2 => {
                fs::create_dir(&path)?;
                folders.push(path);
                continue;
            }
            2 => {
                symlink(if number % 2 == 0 { "../nowhere" } else { "/etc/passwd" }, &path)?;
                continue;
            }
            3 => fs::write(&path, b"")?,
            4 => fs::write(&path, bytes(&mut random, 700_000))?,
            5 => fs::write(&path, bytes(&mut random, 255 << 10))?,
            _ => {
                let length = random.random_range(1..9000);
                fs::write(&path, bytes(&mut random, length))?;
            }
        }
        let mode = [0o644, 0o600, 0o755, 0o444, 0o400][random.random_range(0..5)];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.random::<u8>()).collect()
}

pub async fn copy(rig: &Rig, direction: &str, local: &Path, remote: &Path, more: Value) -> Result<ToolResult> {
    let mut arguments = json!({"alias": "box", "direction": direction, "local": local, "remote": remote});
    if let (Some(arguments), Value::Object(more)) = (arguments.as_object_mut(), more) {
        arguments.extend(more);
    }
    rig.client.call("task_transfer", arguments).await
}

/// Unfinished files anywhere below.
pub fn leftovers(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(read_tree(root)?.into_keys().filter(|path| path.as_os_str().as_bytes().ends_with(b".part")).collect())
}

fn number(result: &ToolResult, name: &str) -> u64 {
    result.structured[name].as_u64().unwrap_or_default()
}

async fn trees_arrive(options: Options, seeds: std::ops::Range<u64>) -> Result<()> {
    let rig = Rig::with(options, |launch| launch).await?;
    let root = rig.place.root().join("trees");
    fs::create_dir(&root)?;
    for seed in seeds {
        let at = |name: &str| root.join(format!("{name}{seed}"));
        grow(&at("source"), seed)?;
        let expected = read_tree(&at("source"))?;
        let up = copy(&rig, "upload", &at("source"), &at("up"), json!({"preserve": seed % 2 == 0})).await?.ok()?;
        ensure!(read_tree(&at("up"))? == expected, "seed {seed}: the upload differs: {}", up.text);
        let down = copy(&rig, "download", &at("down"), &at("up"), json!({"verify": seed % 2 == 0})).await?.ok()?;
        ensure!(read_tree(&at("down"))? == expected, "seed {seed}: the download differs: {}", down.text);
        let files = expected.values().filter(|entry| entry.0 == 'f').count() as u64;
        assert_eq!((number(&up, "files"), number(&down, "files")), (files, files));
        // Once more: everything is there, and nothing is moved.
        let again = copy(&rig, "upload", &at("source"), &at("up"), json!({})).await?.ok()?;
        assert_eq!((number(&again, "files"), number(&again, "bytes")), (0, 0), "{}", again.text);
    }
    Ok(())
}

#[tokio::test]
async fn random_trees_arrive_as_they_were() -> Result<()> {
    trees_arrive(Options::default(), 0..3).await
}

#[tokio::test]
async fn they_do_without_any_extension_of_the_server() -> Result<()> {
    let less = "Subsystem sftp internal-sftp -P posix-rename,limits,fsync,statvfs,copy-data";
    trees_arrive(Options { config: vec![less.to_owned()], ..Options::default() }, 10..12).await
}

#[tokio::test]
async fn they_do_through_a_server_that_answers_out_of_order_and_reads_too_little() -> Result<()> {
    let odd = Path::new(env!("CARGO_BIN_EXE_odd-sftp"));
    let config = vec![format!("Subsystem sftp {}", odd.display())];
    trees_arrive(Options { config, ..Options::default() }, 20..22).await
}

#[tokio::test]
async fn a_directory_of_many_names_is_listed_whole_by_every_server() -> Result<()> {
    let odd = env!("CARGO_BIN_EXE_odd-sftp");
    for server in ["internal-sftp", "/usr/lib/openssh/sftp-server", odd] {
        let options = Options { config: vec![format!("Subsystem sftp {server}")], ..Options::default() };
        let rig = Rig::with(options, |launch| launch).await?;
        let (local, remote) = (rig.place.root().join("local"), rig.place.root().join("remote"));
        // An answer holds a hundred names.
        for folder in ["empty", "one", "many"] {
            fs::create_dir_all(remote.join(folder))?;
        }
        fs::write(remote.join("one/file"), "1")?;
        for number in 0..730 {
            fs::write(remote.join("many").join(number.to_string()), number.to_string())?;
        }
        let done = copy(&rig, "download", &local, &remote, json!({})).await?.ok()?;
        assert_eq!(number(&done, "files"), 731, "{server}: {}", done.text);
        assert!(read_tree(&local)? == read_tree(&remote)?, "{server}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tree_goes_from_server_to_server() -> Result<()> {
    let rig = Rig::start().await?;
    let mut other = rig.server("other");
    other["tags"] = json!(["far"]);
    rig.client.call("server_add", other).await?.ok()?;
    let root = rig.place.root();
    grow(&root.join("source"), 7)?;
    let more = json!({"source_alias": "other"});
    let done = copy(&rig, "server_to_server", &root.join("source"), &root.join("deep/er/target"), more).await?.ok()?;
    assert_eq!(read_tree(&root.join("deep/er/target"))?, read_tree(&root.join("source"))?);
    assert!(done.text.contains("from other:") && done.text.contains("to box:"), "{}", done.text);
    for (direction, more) in [("server_to_server", json!({})), ("upload", json!({"source_alias": "other"}))] {
        let wrong = copy(&rig, direction, root, root, more).await?;
        wrong.problem("INVALID_ARGUMENT")?.names(&["source_alias"])?;
    }
    Ok(())
}

#[tokio::test]
async fn only_what_differs_is_replaced() -> Result<()> {
    let rig = Rig::start().await?;
    let (local, remote) = (rig.place.root().join("local"), rig.place.root().join("remote"));
    fs::write(&local, "one")?;
    let first = copy(&rig, "upload", &local, &remote, json!({})).await?.ok()?;
    assert_eq!(number(&first, "files"), 1);
    let inode = || fs::metadata(&remote).map(|meta| meta.ino());
    let before = inode()?;
    // The same content, whatever the times say.
    let same = copy(&rig, "upload", &local, &remote, json!({})).await?.ok()?;
    assert_eq!((number(&same, "files"), number(&same, "skipped")), (0, 1), "{}", same.text);
    assert_eq!(inode()?, before);
    let forced = copy(&rig, "upload", &local, &remote, json!({"force": true})).await?.ok()?;
    assert_eq!(number(&forced, "files"), 1);
    assert_ne!(inode()?, before);
    // The same size.
    fs::write(&local, "two")?;
    let plan = copy(&rig, "upload", &local, &remote, json!({"dryRun": true})).await?.ok()?;
    assert_eq!((number(&plan, "files"), number(&plan, "planned_total")), (0, 1), "{}", plan.text);
    assert_eq!(fs::read(&remote)?, b"one");
    copy(&rig, "upload", &local, &remote, json!({})).await?.ok()?;
    assert_eq!(fs::read(&remote)?, b"two");
    fs::write(&local, "three")?;
    copy(&rig, "upload", &local, &remote, json!({"preserve": true, "durable": true})).await?.ok()?;
    assert_eq!(fs::read(&remote)?, b"three");
    assert_eq!(fs::metadata(&remote)?.mtime(), fs::metadata(&local)?.mtime());
    Ok(())
}

#[tokio::test]
async fn what_stands_in_the_way_is_said_and_the_rest_arrives() -> Result<()> {
    let rig = Rig::start().await?;
    let root = rig.place.root();
    let (source, target) = (root.join("source"), root.join("target"));
    fs::create_dir_all(source.join("linked"))?;
    fs::create_dir_all(source.join("dir"))?;
    fs::create_dir_all(target.join("file"))?;
    fs::create_dir_all(root.join("outside"))?;
    for name in ["good", "file", "dir/in", "linked/secret", "link"] {
        fs::write(source.join(name), name)?;
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, source.join("fifo"), rustix::fs::Mode::RUSR)?;
    fs::write(target.join("dir"), "a file where a directory belongs")?;
    symlink(root.join("outside"), target.join("linked"))?;
    symlink("good", target.join("link"))?;
    let done = copy(&rig, "upload", &source, &target, json!({})).await?;
    assert!(done.is_error, "{}", done.text);
    assert!(done.text.starts_with("4 failed:"), "{}", done.text);
    for name in ["/file:", "/dir:", "/linked:", "/link:", "source/fifo"] {
        assert!(done.text.contains(name), "{name}: {}", done.text);
    }
    assert_eq!(fs::read(target.join("good"))?, b"good");
    // No link was followed out of the tree.
    assert_eq!(fs::read_dir(root.join("outside"))?.count(), 0);
    let forced = copy(&rig, "upload", &source, &target, json!({"force": true})).await?;
    assert!(forced.text.starts_with("3 failed:"), "{}", forced.text);
    assert_eq!(fs::read(target.join("link"))?, b"link");
    assert_eq!(fs::read(target.join("good"))?, b"good");
    Ok(())
}

#[tokio::test]
async fn one_file_goes_where_a_person_means_it() -> Result<()> {
    let rig = Rig::start().await?;
    let root = rig.place.root();
    let local = root.join("local.txt");
    fs::write(&local, "text")?;
    fs::create_dir(root.join("there"))?;
    // Into a directory that is there, or that is said to be one.
    copy(&rig, "upload", &local, &root.join("there"), json!({})).await?.ok()?;
    assert_eq!(fs::read(root.join("there/local.txt"))?, b"text");
    copy(&rig, "upload", &local, &root.join("new/dir/"), json!({})).await?.ok()?;
    assert_eq!(fs::read(root.join("new/dir/local.txt"))?, b"text");
    // Relative to the home of the login user.
    copy(&rig, "upload", &local, Path::new("in-home"), json!({})).await?.ok()?;
    copy(&rig, "upload", &local, Path::new("~/deep/in-home"), json!({})).await?.ok()?;
    let home = rig.exec("cd; pwd").await?.ok()?.str("stdout").trim().to_owned();
    let sftp_home = home_of_sftp(&rig).await?;
    for name in ["in-home", "deep/in-home"] {
        let path = Path::new(&sftp_home).join(name);
        assert_eq!(fs::read(&path).with_context(|| format!("{} ({home})", path.display()))?, b"text");
        fs::remove_file(&path)?;
    }
    fs::remove_dir(Path::new(&sftp_home).join("deep"))?;
    // A link at the end of a path is followed: the file that it leads to is meant.
    symlink(root.join("real"), root.join("link"))?;
    fs::write(root.join("real"), "old")?;
    copy(&rig, "upload", &local, &root.join("link"), json!({})).await?.ok()?;
    assert!(fs::symlink_metadata(root.join("link"))?.is_symlink());
    assert_eq!(fs::read(root.join("real"))?, b"text");
    // Its owner's rights stay as they were made.
    let missing = copy(&rig, "upload", &root.join("missing"), &root.join("x"), json!({})).await?;
    missing.problem("TRANSFER_FAILED")?.names(&["this machine", "missing", "no such file"])?;
    let missing = copy(&rig, "download", &root.join("x"), &root.join("missing"), json!({})).await?;
    missing.problem("TRANSFER_FAILED")?.names(&["box", "missing", "no such file"])?;
    let relative = copy(&rig, "download", Path::new("here"), &root.join("real"), json!({})).await?;
    relative.problem("INVALID_ARGUMENT")?.names(&["local", "absolute"])?;
    Ok(())
}

/// Where SFTP begins: sshd's own idea of the home, which is not the tests'.
async fn home_of_sftp(rig: &Rig) -> Result<String> {
    let home = rig.exec("getent passwd \"$(id -un)\" | cut -d: -f6").await?.ok()?;
    Ok(home.str("stdout").trim().to_owned())
}

#[tokio::test]
async fn nothing_outside_of_the_allowed_roots_is_touched() -> Result<()> {
    let place = orchestrator_tests::place::Place::new()?;
    let allowed = place.root().join("allowed");
    let outside = place.root().join("outside");
    for folder in [&allowed, &outside] {
        fs::create_dir(folder)?;
        fs::write(folder.join("file"), "content")?;
    }
    symlink(&outside, allowed.join("way-out"))?;
    let roots = allowed.display().to_string();
    let rig = Rig::in_place(place, Options::default(), |launch| launch.env("MCP_ALLOWED_ROOTS", roots)).await?;
    let inside = |name: &str| allowed.join(name);
    copy(&rig, "upload", &inside("file"), &inside("copy"), json!({})).await?.ok()?;
    let refused = [
        ("upload", outside.join("file"), inside("x")),
        ("upload", inside("way-out/file"), inside("x")),
        ("upload", inside("file"), outside.join("x")),
        ("upload", inside("file"), inside("way-out/x")),
        ("upload", inside("file"), inside("../outside/x")),
        ("download", outside.join("x"), inside("file")),
        ("download", inside("x"), outside.join("file")),
        ("download", inside("way-out/new/x"), inside("file")),
    ];
    for (direction, local, remote) in refused {
        let denied = copy(&rig, direction, &local, &remote, json!({})).await?;
        denied.problem("POLICY_DENIED")?.names(&["MCP_ALLOWED_ROOTS"])?;
    }
    assert_eq!(fs::read_dir(&outside)?.count(), 1);
    assert_eq!(fs::read_dir(&allowed)?.count(), 3);
    Ok(())
}

#[tokio::test]
async fn our_own_secrets_are_not_copied() -> Result<()> {
    let rig = Rig::start().await?;
    let data = rig.place.data();
    for local in [data.join("orchestrator.redb"), data.clone()] {
        let denied = copy(&rig, "upload", &local, Path::new("/tmp/never"), json!({})).await?;
        denied.problem("POLICY_DENIED")?.names(&["secrets"])?;
    }
    let denied = copy(&rig, "download", &data.join("orchestrator.toml"), Path::new("/etc/hostname"), json!({})).await?;
    denied.problem("POLICY_DENIED")?;
    // Nor with a tree that they lie in.
    let copied = rig.sshd.folder().join("copied");
    fs::write(rig.place.root().join("own"), "mine")?;
    copy(&rig, "upload", rig.place.root(), &copied, json!({})).await?.ok()?;
    assert!(copied.join("own").exists() && !copied.join("data").exists());
    Ok(())
}

#[tokio::test]
async fn a_list_of_patterns_is_copied_item_by_item() -> Result<()> {
    let rig = Rig::start().await?;
    let root = rig.place.root();
    for name in ["a.log", "b.txt", "sub/c.log", "sub/deep/d.log", "wei[rd]"] {
        fs::create_dir_all(root.join("src").join(name).parent().context("no parent")?)?;
        fs::write(root.join("src").join(name), name)?;
    }
    let item = |local: &str, remote: &str| json!({"local": root.join(local), "remote": root.join(remote)});
    let up = json!({"alias": "box", "direction": "upload", "files": [
        item("src/**/*.log", "logs"), item("src/{b,x}.txt", "text"), item("src/sub", "whole"),
        item("src/wei[rd]", "literal"), item("src/none*", "none"), item("gone", "gone2"),
    ]});
    let done = rig.client.call("task_transfer_multi", up).await?;
    assert!(done.is_error);
    assert!(done.text.starts_with("FAILED") && done.text.contains("nothing matches"), "{}", done.text);
    let results = done.structured["results"].as_array().context("no results")?;
    let files: Vec<u64> = results.iter().map(|result| result["files"].as_u64().unwrap_or_default()).collect();
    assert_eq!(files, [3, 1, 2, 1, 0, 0], "{}", done.text);
    assert_eq!((number(&done, "failed"), number(&done, "files")), (2, 7));
    for name in ["logs/a.log", "logs/sub/deep/d.log", "text/b.txt", "whole/c.log", "literal"] {
        assert!(root.join(name).is_file(), "{name}");
    }
    assert!(!root.join("none").exists());
    let down = json!({"alias": "box", "direction": "download", "files": [item("back", "src/s*/*.log")]});
    rig.client.call("task_transfer_multi", down).await?.ok()?;
    assert_eq!(fs::read(root.join("back/sub/c.log"))?, b"sub/c.log");
    let empty = json!({"alias": "box", "direction": "upload", "files": []});
    rig.client.call("task_transfer_multi", empty).await?.problem("INVALID_ARGUMENT")?.names(&["files"])?;
    Ok(())
}
