//! `cargo xtask lab up | down | status`: three real hosts on this machine, for the tests that compare what the tools say with
//! what a host says itself.
//!
//! They are containers of systemd-nspawn that share this machine's loopback: a full Debian host, one with busybox and dropbear,
//! and one on which nothing is installed. Each is built once, by its script in `tests/lab`, and kept outside of `target`.

mod host;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::process::{self, output_of, say};
use crate::setup;
use host::HOSTS;

/// Where the tests read how the hosts are reached.
pub const INVENTORY: &str = "lab.json";

#[derive(clap::Subcommand)]
pub enum Verb {
    /// Build the hosts that are not built yet, and start those that do not run
    Up,
    /// Stop the hosts; what was built stays
    Down,
    /// Tell which hosts are built and which run; ends with code 3 unless all run
    Status,
}

pub fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Up => up().map(|path| say(&format!("the lab is up: {}", path.display()))),
        Verb::Down => down(),
        Verb::Status => status(),
    }
}

/// The folder of everything of the lab's.
pub fn folder() -> Result<PathBuf> {
    process::cache("mcp-orchestrator-lab")
}

/// Why there can be no lab on this machine.
pub fn impossible() -> Option<&'static str> {
    if output_of("id", &["-u"]).as_deref() != Some("0") {
        return Some("it needs root, to make file systems and containers");
    }
    if !cfg!(target_os = "linux") {
        return Some("it needs Linux");
    }
    if !Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status().is_ok_and(|end| end.success()) {
        return Some("it needs namespaces, which this machine does not let us make");
    }
    None
}

/// The lab, or why there is none: not every machine has the packages and the rights that it needs, and the other tests count
/// without it. With `ORCHESTRATOR_LAB=off` there shall be none.
pub fn for_tests() -> Result<PathBuf, String> {
    if std::env::var("ORCHESTRATOR_LAB").is_ok_and(|word| word == "off") {
        return Err("ORCHESTRATOR_LAB is off".to_owned());
    }
    match impossible() {
        Some(why) => Err(why.to_owned()),
        None => up().map_err(|error| format!("it did not come up: {error:#}")),
    }
}

/// Brings every host up. Returns where the tests read how they are reached.
pub fn up() -> Result<PathBuf> {
    if let Some(why) = impossible() {
        bail!("the lab cannot run here: {why}");
    }
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Two of us at once would build and boot into each other's files. The kernel drops the lock with the process.
    let lock = fs::File::create(folder.join("lock"))?;
    lock.lock().context("waiting for another lab up or down")?;
    setup::lab_tools()?;
    let key = key(&folder)?;
    let started = Instant::now();
    // Building is mostly waiting for packages and the disk.
    thread::scope(|scope| {
        let builds: Vec<_> = HOSTS.iter().map(|host| (host, scope.spawn(|| host.build(&folder)))).collect();
        for (host, build) in builds {
            build.join().map_err(|_| anyhow::anyhow!("building {} panicked", host.name))??;
        }
        anyhow::Ok(())
    })?;
    for host in &HOSTS {
        host.boot(&folder, &key)?;
    }
    let mut inventory = serde_json::Map::new();
    for host in &HOSTS {
        host.wait(&folder)?;
        inventory.insert(host.name.to_owned(), host.describe(&folder)?);
    }
    let path = folder.join(INVENTORY);
    let text = json!({"key": folder.join("key"), "hosts": inventory});
    fs::write(&path, serde_json::to_vec_pretty(&text)?)?;
    say(&format!("the lab's hosts are up after {} s", started.elapsed().as_secs()));
    Ok(path)
}

/// Whether every host runs.
pub fn is_up() -> bool {
    folder().is_ok_and(|folder| HOSTS.iter().all(|host| host.pid(&folder).is_some()))
}

fn down() -> Result<()> {
    let folder = folder()?;
    if !folder.is_dir() {
        return Ok(());
    }
    let lock = fs::File::create(folder.join("lock"))?;
    lock.lock().context("waiting for another lab up or down")?;
    // A file that is not there need not be removed.
    let _ = fs::remove_file(folder.join(INVENTORY));
    for host in &HOSTS {
        host.ask_to_end(&folder);
    }
    for host in &HOSTS {
        host.end(&folder, Duration::from_secs(30))?;
    }
    Ok(())
}

fn status() -> Result<()> {
    let folder = folder()?;
    let mut running = 0;
    for host in &HOSTS {
        let state = match (host.pid(&folder), host.is_built(&folder)?) {
            (Some(pid), _) => {
                running += 1;
                format!("runs (pid {pid}) on {}:2222", host.address)
            }
            (None, true) => "is built".to_owned(),
            (None, false) => "is not built".to_owned(),
        };
        say(&format!("{}: {state}", host.name));
    }
    if let Some(why) = impossible() {
        say(&format!("the lab cannot run here: {why}"));
    }
    if running < HOSTS.len() {
        std::process::exit(3);
    }
    Ok(())
}

/// The key that logs in to every host.
fn key(folder: &std::path::Path) -> Result<String> {
    let path = folder.join("key");
    if !path.is_file() {
        process::run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(&path))?;
    }
    Ok(fs::read_to_string(path.with_extension("pub"))?)
}
