//! `cargo xtask setup`: what a new machine needs, and nothing twice.
//!
//! The WebAssembly target comes from rustup, or else on Debian and Ubuntu from packages; sshd and login shells for the tests
//! from packages.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, output_of, run_within, say, which};
use crate::wasm::{self, Compiler};

/// Without a network rustup must not hold up the way to the packages; with a slow one it needs its time.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

pub fn run() -> Result<()> {
    compiler()?;
    sshd()?;
    dropbear();
    shells();
    Ok(())
}

/// Makes sure that components can be built.
pub fn compiler() -> Result<()> {
    if let Some(compiler) = wasm::find() {
        say(match compiler {
            Compiler::Toolchain => "wasm32-wasip2: in the active toolchain",
            Compiler::Debian { .. } => "wasm32-wasip2: with Debian's compiler",
        });
        return Ok(());
    }
    // Whoever set this does not want rustup to install anything by itself, and may have no network for it either.
    let forbidden = std::env::var("RUSTUP_AUTO_INSTALL").is_ok_and(|value| value == "0");
    let rustup = match which("rustup") {
        Some(_) if forbidden => Err(anyhow::anyhow!("rustup was not asked: RUSTUP_AUTO_INSTALL is 0")),
        Some(_) => run_within(Command::new("rustup").args(["target", "add", wasm::TARGET]), RUSTUP_LIMIT),
        None => Err(anyhow::anyhow!("rustup is not installed")),
    };
    if let Err(error) = &rustup {
        say(&format!("{error:#}"));
    }
    if wasm::find().is_some() {
        return Ok(());
    }
    let mut packages = install(&wasm::PACKAGES);
    if wasm::debian_is_too_old() {
        packages = fetch(&wasm::PACKAGES, Lists::Fresh);
    }
    if wasm::find().is_some() {
        return Ok(());
    }
    if wasm::only_linker_is_missing() {
        bail!(
            "the compiler for {} is here, but its linker is not: install Rust with rustup, or run `cargo install wasm-component-ld`",
            wasm::TARGET
        );
    }
    let mut message = format!("cannot build plugins: no compiler for {} could be installed", wasm::TARGET);
    for error in [rustup.err(), packages.err()].into_iter().flatten() {
        message.push_str(&format!("\n  - {error:#}"));
    }
    if wasm::debian_is_too_old() {
        message.push_str("\n  - the packaged rustc is older than this workspace needs, and no newer one is offered");
    }
    message.push_str(&format!(
        "\nInstall it with one of\n  rustup target add {}\n  apt-get install {}    (Debian, Ubuntu; beside a Rust from rustup)",
        wasm::TARGET,
        wasm::PACKAGES.join(" "),
    ));
    bail!(message)
}

/// Makes sure that the tests find an OpenSSH server. They start their own, on a loopback port.
fn sshd() -> Result<()> {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    if places.iter().any(|path| Path::new(path).exists()) {
        say("sshd: installed");
        return Ok(());
    }
    install(&["openssh-server"]).context("the tests need OpenSSH's sshd: install openssh-server")?;
    say(
        "the package may have started the service `ssh`; the tests don't need it: `systemctl disable --now ssh` stops it",
    );
    Ok(())
}

/// A second kind of server. Without it its tests say that they tried nothing, so it is no reason to stop.
fn dropbear() {
    match install(&["dropbear-bin"]) {
        Ok(()) => say("dropbear: installed"),
        Err(error) => say(&format!("dropbear is not tested: {error:#}")),
    }
}

/// Login shells of every family, each a program and a package. sh and bash are everywhere.
const SHELLS: [(&str, &str); 5] =
    [("zsh", "zsh"), ("fish", "fish"), ("tcsh", "tcsh"), ("ksh", "ksh"), ("busybox", "busybox")];

/// The shells that somebody's account may have. Without one the rest is tested all the same.
fn shells() {
    let missing: Vec<&str> =
        SHELLS.iter().filter(|(shell, _)| which(shell).is_none()).map(|(_, package)| *package).collect();
    match install(&missing) {
        Ok(()) => say("login shells: installed"),
        Err(error) => say(&format!("not every login shell is here: {error:#}")),
    }
}

/// Those that the tests cannot try here.
pub fn missing_shells() -> Vec<&'static str> {
    SHELLS.iter().map(|(shell, _)| *shell).filter(|shell| which(shell).is_none()).collect()
}

/// Makes sure that the lab's hosts can be built and booted.
pub fn lab_tools() -> Result<()> {
    let tools = [
        ("mmdebstrap", "mmdebstrap"),
        ("systemd-nspawn", "systemd-container"),
        ("ssh-keygen", "openssh-client"),
        // Only where there is none: Debian's has hundreds of packages.
        ("npm", "npm"),
    ];
    let mut missing: Vec<&str> =
        tools.iter().filter(|(tool, _)| which(tool).is_none()).map(|(_, name)| *name).collect();
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        missing.push("debian-archive-keyring");
    }
    install(&missing).context("the lab needs tools that could not be installed")
}

/// Makes sure that Python is there and can make environments, which Debian has in a package of its own.
pub fn python() -> Result<()> {
    if output_of("python3", &["-c", "import ensurepip, venv"]).is_some() {
        return Ok(());
    }
    install(&["python3-venv"]).context("the clients need Python with its module venv")
}

/// Installs the packages that are missing, on Debian and Ubuntu, as root or through a sudo that asks nothing.
fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() { Ok(()) } else { fetch(&missing, Lists::AsTheyAre) }
}

/// What the package manager knows of the packages that there are.
#[derive(PartialEq)]
enum Lists {
    AsTheyAre,
    Fresh,
}

/// Installs packages, or what is newer of them.
fn fetch(packages: &[&str], lists: Lists) -> Result<()> {
    if which("apt-get").is_none() {
        bail!("this is neither Debian nor Ubuntu, so {} cannot be installed from packages", packages.join(", "));
    }
    let is_root = output_of("id", &["-u"]).is_some_and(|id| id == "0");
    if !is_root && output_of("sudo", &["-n", "true"]).is_none() {
        bail!(
            "installing packages needs root: run `sudo apt-get install --no-install-recommends {}`",
            packages.join(" ")
        );
    }
    // What is set up side by side would find the package manager locked by the other.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    say(&format!("installing the packages {}", packages.join(", ")));
    let apt_get = |args: &[&str]| {
        let mut command = if is_root { Command::new("env") } else { Command::new("sudo") };
        if !is_root {
            command.args(["-n", "env"]);
        }
        // Somebody else may be installing something at this moment.
        let patience = ["-o", "DPkg::Lock::Timeout=120"];
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]).args(patience).args(args);
        process::run(&mut command)
    };
    let install = [&["install", "--no-install-recommends"], packages].concat();
    if lists == Lists::AsTheyAre && has_package_lists() && apt_get(&install).is_ok() {
        return Ok(());
    }
    // A new machine has no package lists, an old one has stale ones.
    apt_get(&["update"])?;
    apt_get(&install)
}

fn is_installed(package: &str) -> bool {
    output_of("dpkg-query", &["--show", "--showformat=${db:Status-Status}", package])
        .is_some_and(|status| status == "installed")
}

fn has_package_lists() -> bool {
    let Ok(lists) = fs::read_dir("/var/lib/apt/lists") else { return false };
    lists.flatten().any(|entry| entry.file_name().to_string_lossy().contains("Packages"))
}
