//! Where a compiler for `wasm32-wasip2` comes from, and how cargo is started with it.
//!
//! Either the active toolchain has the target's standard library, or Debian's packages bring a compiler together with the
//! library's source, which is then built along. What installs them is the business of `setup`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{cargo, output_of, root, which};

pub const TARGET: &str = "wasm32-wasip2";

/// Debian and Ubuntu: a compiler, its library's source, the matching cargo, and the C library that std links.
pub const PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "cargo-web", "wasi-libc"];

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
const LINKER: &str = "wasm-component-ld";

/// A compiler for the target.
pub enum Compiler {
    /// The active toolchain has the target.
    Toolchain,
    /// Debian's compiler, with the folder of the linker.
    Debian { linker: PathBuf },
}

/// The compiler that is there now, if any.
pub fn find() -> Option<Compiler> {
    if toolchain_has_target() {
        return Some(Compiler::Toolchain);
    }
    if !debian_is_here() || debian_is_too_old() {
        return None;
    }
    Some(Compiler::Debian { linker: linker_folder()? })
}

fn debian_is_here() -> bool {
    [DEBIAN_RUSTC, DEBIAN_CARGO, DEBIAN_LIBC, DEBIAN_STD].iter().all(|path| Path::new(path).exists())
}

/// Debian's compiler is there, but older than this workspace needs: package lists that are not fresh offer such a one.
pub fn debian_is_too_old() -> bool {
    let number = |version: &str| version.split('.').map_while(|part| part.parse().ok()).collect::<Vec<u32>>();
    let version = output_of(DEBIAN_RUSTC, &["--version"]);
    let installed = version.as_deref().and_then(|version| version.split_whitespace().nth(1));
    debian_is_here() && installed.is_some_and(|installed| number(installed) < number(env!("CARGO_PKG_RUST_VERSION")))
}

/// The compiler that must be there by now.
pub fn compiler() -> Result<Compiler> {
    match find() {
        Some(compiler) => Ok(compiler),
        None => bail!("there is no compiler for {TARGET}: run `cargo xtask setup`"),
    }
}

fn toolchain_has_target() -> bool {
    sysroot().is_some_and(|sysroot| sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

fn sysroot() -> Option<PathBuf> {
    output_of(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()), &["--print", "sysroot"]).map(PathBuf::from)
}

/// rustup's toolchains carry the linker also where they lack the target; Debian's do not carry it.
fn linker_folder() -> Option<PathBuf> {
    if let Some(found) = which(LINKER) {
        return found.parent().map(Path::to_owned);
    }
    let libraries = sysroot()?.join("lib/rustlib");
    let mut folders = libraries.read_dir().ok()?.flatten().map(|entry| entry.path().join("bin"));
    folders.find(|folder| folder.join(LINKER).is_file())
}

/// Whether Debian's packages are there and only the linker is missing.
pub fn only_linker_is_missing() -> bool {
    Path::new(DEBIAN_STD).exists() && linker_folder().is_none()
}

impl Compiler {
    /// `cargo build` for the target.
    pub fn build(&self) -> Command {
        self.cargo("build")
    }

    /// Builds the library of one package as a component and as nothing else. What is a Rust library as well, as the plugins
    /// are for their tests and their descriptions, is not optimized across crates.
    pub fn build_component(&self, package: &str) -> Command {
        let mut command = self.cargo("rustc");
        command.args(["--lib", "--crate-type", "cdylib", "-p", package]);
        command
    }

    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match self {
            Compiler::Toolchain => {
                let mut command = cargo();
                command.arg(subcommand);
                command
            }
            Compiler::Debian { linker } => {
                let mut command = Command::new(DEBIAN_CARGO);
                let path = env::var_os("PATH").unwrap_or_default();
                let path = ["/usr/bin".into(), linker.clone()].into_iter().chain(env::split_paths(&path));
                command
                    .current_dir(root())
                    .env("PATH", env::join_paths(path).unwrap_or_default())
                    .env("RUSTC", DEBIAN_RUSTC)
                    // The library is built with the compiler it belongs to; only the flag for it is unstable.
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", format!("-Lnative={DEBIAN_LIBC}"))
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("RUSTC_WRAPPER")
                    .env_remove("RUSTC_WORKSPACE_WRAPPER")
                    .args([subcommand, "-Zbuild-std=std,panic_abort"]);
                command
            }
        };
        command.args(["--target", TARGET]);
        // Flags that were set for this machine's compiler don't fit another target.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    }
}

/// Components have a target directory of their own, so that a library built along doesn't disturb the native builds.
pub fn target_dir() -> PathBuf {
    root().join("target/components")
}
