//! `cargo xtask component`: any plugin crate to a component, with whatever compiler this machine has for it.
//!
//! Who has the target in their toolchain needs only `cargo build --target wasm32-wasip2 --release`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::{self, say};
use crate::{build, setup, wasm};

#[derive(clap::Args)]
pub struct Arguments {
    /// The folder of the plugin crate
    crate_folder: PathBuf,
    /// Where the component goes; by default it stays in the crate's target folder
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where the intermediate files go
    #[arg(long)]
    target_dir: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::compiler()?;
    let crate_folder = arguments
        .crate_folder
        .canonicalize()
        .with_context(|| format!("there is no folder {}", arguments.crate_folder.display()))?;
    let target_dir = arguments.target_dir.clone().unwrap_or_else(|| crate_folder.join("target"));
    let target_dir = std::path::absolute(target_dir)?;
    let mut command = wasm::compiler()?.build();
    command.current_dir(&crate_folder).args(["--release", "--target-dir"]).arg(&target_dir);
    process::run(&mut command)?;
    let built = target_dir.join(wasm::TARGET).join("release");
    let component = built.join(format!("{}.wasm", library_name(&crate_folder)?));
    if !component.is_file() {
        bail!("{} was not built: the crate's [lib] needs crate-type = [\"cdylib\"]", component.display());
    }
    match &arguments.out {
        Some(out) => {
            build::write_if_changed(out, &fs::read(&component)?)?;
            say(&format!("built {}", out.display()));
        }
        None => say(&format!("built {}", component.display())),
    }
    Ok(())
}

/// The name of the crate's library: that of its package, with underscores, unless `[lib]` says otherwise.
fn library_name(crate_folder: &std::path::Path) -> Result<String> {
    let manifest = crate_folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let name_in = |table: &str| {
        let body = text.split(&format!("[{table}]")).nth(1)?;
        let mut lines = body.lines().take_while(|line| !line.trim_start().starts_with('['));
        let name = lines.find_map(|line| line.trim().strip_prefix("name")?.trim_start().strip_prefix('='))?;
        Some(name.trim().trim_matches('"').replace('-', "_"))
    };
    name_in("lib").or_else(|| name_in("package")).with_context(|| format!("{} names no package", manifest.display()))
}
