//! Puts the plugins that `cargo xtask build` made into the program: a table of every `bundle/NAME.wasm` in the target
//! directory with the `NAME.json` beside it. It builds nothing itself and writes nowhere but into `OUT_DIR`.

#![allow(clippy::print_stdout, reason = "standard output is how a build script talks to cargo")]

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let bundle = bundle_dir(&out_dir)?;
    println!("cargo::rerun-if-changed=build.rs");
    // A folder that does not exist counts as changed, so the plugins are picked up as soon as they are there.
    println!("cargo::rerun-if-changed={}", bundle.display());

    let mut table = String::from("&[\n");
    let components = components(&bundle)?;
    if components.is_empty() {
        println!("cargo::warning=no plugins are bundled: run `cargo xtask build` to build them and the host with them");
    }
    for wasm in components {
        let info = wasm.with_extension("json");
        if !info.is_file() {
            return Err(format!("{} has no description {} beside it", wasm.display(), info.display()).into());
        }
        let name = wasm.file_stem().and_then(|stem| stem.to_str()).ok_or("a plugin's file name must be UTF-8")?;
        writeln!(
            table,
            "    Bundled {{ name: {name:?}, wasm: include_bytes!({wasm:?}), info: include_str!({info:?}) }},"
        )?;
    }
    table.push_str("]\n");
    fs::write(out_dir.join("bundle.rs"), table)?;
    Ok(())
}

/// The folder of the built plugins. `OUT_DIR` is `TARGET/PROFILE/build/PACKAGE/out`, with a target triple between the
/// first two when one was asked for.
fn bundle_dir(out_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = out_dir.ancestors().nth(4).ok_or("OUT_DIR is not inside a target directory")?;
    let plain = target.join("bundle");
    match target.parent().map(|parent| parent.join("bundle")) {
        Some(above) if above.is_dir() && !plain.is_dir() => Ok(above),
        _ => Ok(plain),
    }
}

/// The components in `dir`, sorted, so that the table is the same in every build. No folder is no components.
fn components(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
