//! One host of the lab: built by its script, booted by systemd-nspawn, found again by its process.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::{self, output_of, root, say};

/// How long a host may take to build and to boot, on a machine that is busy with a build.
const BUILD: Duration = Duration::from_secs(1500);
const BOOT: Duration = Duration::from_secs(300);

pub struct Host {
    pub name: &'static str,
    pub address: &'static str,
    /// Users who may log in, by the lab's key.
    users: &'static [&'static str],
    /// The public half of its host key.
    host_key: &'static str,
    /// It has an init of its own.
    boots: bool,
}

pub const HOSTS: [Host; 3] = [
    Host {
        name: "debian",
        address: "127.0.0.11",
        users: &["root", "ops", "ada", "sh", "bash", "zsh", "fish", "tcsh", "ksh", "ash"],
        host_key: "etc/ssh/ssh_host_ed25519_key.pub",
        boots: true,
    },
    Host {
        name: "bare",
        address: "127.0.0.12",
        users: &["root"],
        host_key: "etc/ssh/ssh_host_ed25519_key.pub",
        boots: false,
    },
    Host { name: "busybox", address: "127.0.0.13", users: &["root"], host_key: "etc/dropbear/key.pub", boots: false },
];

impl Host {
    fn script(&self) -> PathBuf {
        root().join(format!("tests/lab/{}.sh", self.name))
    }

    /// Its file system; the name changes with the script that builds it.
    fn tree(&self, folder: &Path) -> Result<PathBuf> {
        let script = self.script();
        let text = fs::read(&script).with_context(|| format!("cannot read {}", script.display()))?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Ok(folder.join(format!("{}-{:016x}", self.name, hasher.finish())))
    }

    pub fn is_built(&self, folder: &Path) -> Result<bool> {
        Ok(self.tree(folder)?.is_dir())
    }

    pub fn build(&self, folder: &Path) -> Result<()> {
        let tree = self.tree(folder)?;
        if tree.is_dir() {
            return Ok(());
        }
        say(&format!("building the lab's host {} in {}", self.name, tree.display()));
        let started = Instant::now();
        let new = tree.with_extension("new");
        remove(&new)?;
        let mut build = Command::new("sh");
        build.arg(self.script()).arg(&new).stdout(Stdio::null());
        process::run_within(&mut build, BUILD).with_context(|| format!("the host {} was not built", self.name))?;
        self.forget_older(folder)?;
        fs::rename(&new, &tree)?;
        say(&format!("built the lab's host {} in {} s", self.name, started.elapsed().as_secs()));
        Ok(())
    }

    /// Removes what an older script has built.
    fn forget_older(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("{}-", self.name)) && !name.ends_with(".new") {
                self.end(folder, Duration::from_secs(30))?;
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Starts it, unless it runs.
    pub fn boot(&self, folder: &Path, key: &str) -> Result<()> {
        if self.pid(folder).is_some() {
            return Ok(());
        }
        // All labs of a machine share its loopback. The tests would meet the other one, with another key.
        if self.answers() {
            bail!(
                "something listens on {}:2222 already, perhaps the lab of another checkout or cache folder: take that one down first (cargo xtask lab down)",
                self.address
            );
        }
        let tree = self.tree(folder)?;
        for user in self.users {
            let home = if *user == "root" { tree.join("root") } else { tree.join("home").join(user) };
            authorize(&home, key)?;
        }
        for sign in ["lab-ready", "lab-failed"] {
            // A file that is not there need not be removed.
            let _ = fs::remove_file(tree.join(sign));
        }
        let log = fs::File::create(folder.join(format!("{}.log", self.name)))?;
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn
            .args(["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--capability=all"])
            .args(["--system-call-filter=add_key keyctl bpf", "--resolv-conf=off", "--timezone=off"])
            .args([format!("--machine={}", self.machine()), format!("--hostname=lab-{}", self.name)])
            .arg("-D")
            .arg(&tree);
        if self.boots {
            nspawn.arg("--boot");
        } else {
            nspawn.args(["--as-pid2", "/start"]);
        }
        nspawn.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // What ends us by the keyboard does not end the host.
        let child = nspawn.process_group(0).spawn().context("systemd-nspawn could not be started")?;
        fs::write(folder.join(format!("{}.pid", self.name)), child.id().to_string())?;
        Ok(())
    }

    /// Waits until everything on it is as the tests expect it.
    pub fn wait(&self, folder: &Path) -> Result<()> {
        let tree = self.tree(folder)?;
        let (ready, failed) = (tree.join("lab-ready"), tree.join("lab-failed"));
        let started = Instant::now();
        while !ready.exists() || !self.answers() {
            if let Ok(why) = fs::read_to_string(&failed) {
                bail!("the host {} was booted, and what runs on it was not set up:\n{why}", self.name);
            }
            // A process shows no arguments for a moment while it becomes another program.
            let gone = self.pid(folder).is_none() && started.elapsed() > Duration::from_secs(2);
            if gone || started.elapsed() > BOOT {
                let log = folder.join(format!("{}.log", self.name));
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                bail!("the host {} did not come up; the end of {}:\n{}", self.name, log.display(), tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        TcpStream::connect((self.address, 2222)).is_ok()
    }

    /// How the tests reach it.
    pub fn describe(&self, folder: &Path) -> Result<Value> {
        let key = self.tree(folder)?.join(self.host_key);
        let told = output_of("ssh-keygen", &["-lf", &key.to_string_lossy()]);
        let fingerprint = told.as_deref().and_then(|told| told.split_whitespace().nth(1));
        let fingerprint = fingerprint.with_context(|| format!("ssh-keygen cannot read {}", key.display()))?;
        Ok(json!({"host": self.address, "port": 2222, "hostKey": fingerprint, "users": self.users}))
    }

    /// Its process, if it runs.
    pub fn pid(&self, folder: &Path) -> Option<u32> {
        let pid = fs::read_to_string(folder.join(format!("{}.pid", self.name))).ok()?.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&format!("--machine={}", self.machine())).then_some(pid)
    }

    fn machine(&self) -> String {
        format!("mcp-lab-{}", self.name)
    }

    pub fn ask_to_end(&self, folder: &Path) {
        if let Some(pid) = self.pid(folder) {
            // It fails only when the process has ended by itself meanwhile.
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    }

    /// Waits until it has ended, and sees to it after `patience`.
    pub fn end(&self, folder: &Path, patience: Duration) -> Result<()> {
        self.ask_to_end(folder);
        let end = Instant::now() + patience;
        while let Some(pid) = self.pid(folder) {
            if Instant::now() > end {
                process::run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

fn authorize(home: &Path, key: &str) -> Result<()> {
    let folder = home.join(".ssh");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let file = folder.join("authorized_keys");
    fs::write(&file, key)?;
    let owner = fs::metadata(home)?;
    for path in [&folder, &file] {
        chown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Removes a file system, but none that a broken build left mounted in it.
fn remove(tree: &Path) -> Result<()> {
    if tree.exists() {
        process::run(Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(tree))?;
    }
    Ok(())
}
