//! The engine with everything that guests may import already defined, and how bytes become something that can be
//! instantiated. Not the running of it: that is [`instance`](super::instance).

use std::path::Path;

use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::bindings::{CONTRACT, PluginPre};
use super::engine::{MAX_CALLS, engine};
use super::error::{LoadError, SandboxError};
use super::imports::{http, kv, log, progress, secrets, servers, settings, ssh};
use super::instance::Guest;
use super::one_line_of;
use super::ticker::Ticker;
use crate::config::PluginLimits;

/// Where every guest runs.
pub struct Sandbox {
    pub(super) engine: Engine,
    linker: Linker<Guest>,
    pub(super) ticker: Ticker,
    pub(super) limits: PluginLimits,
    /// One permit per instance, so that a call waits for its turn instead of being refused by the allocator.
    pub(super) room: Semaphore,
}

impl Sandbox {
    /// A sandbox that keeps compiled components below `cache`.
    pub fn new(limits: PluginLimits, cache: Option<&Path>) -> Result<Self, SandboxError> {
        let engine = engine(limits.memory, cache)?;
        let ticker = Ticker::start(engine.clone()).map_err(SandboxError::Ticker)?;
        let linker = linker(&engine)?;
        Ok(Sandbox { engine, linker, ticker, limits, room: Semaphore::new(MAX_CALLS) })
    }

    /// Compiles a component, or takes it from the cache, and links it. Blocks for up to seconds.
    pub fn prepare(&self, wasm: &[u8]) -> Result<PluginPre<Guest>, LoadError> {
        check_header(wasm)?;
        let component =
            Component::from_binary(&self.engine, wasm).map_err(|error| LoadError::Compile(one_line_of(&error)))?;
        let kind = component.component_type();
        let exports = kind.exports(&self.engine).map(|(name, _)| name);
        let imports = kind.imports(&self.engine).map(|(name, _)| name);
        check_contract(exports, imports)?;
        let instance = self.linker.instantiate_pre(&component).map_err(|error| {
            let reason = one_line_of(&error);
            match missing_import(&reason) {
                Some(name) if !name.starts_with(PACKAGE) => LoadError::UnknownImport(name.to_owned()),
                _ => LoadError::Misfit(reason),
            }
        })?;
        PluginPre::new(instance).map_err(|error| LoadError::Misfit(one_line_of(&error)))
    }
}

fn linker(engine: &Engine) -> Result<Linker<Guest>, SandboxError> {
    let mut linker = Linker::new(engine);
    let check = |interface: &'static str, result: wasmtime::Result<()>| {
        result.map_err(|error| SandboxError::Interface { interface, reason: one_line_of(&error) })
    };
    check("wasi", wasmtime_wasi::p2::add_to_linker_async(&mut linker))?;
    check("settings", settings::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.settings))?;
    check("servers", servers::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.servers))?;
    check("ssh", ssh::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.ssh))?;
    check("http", http::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.http))?;
    check("kv", kv::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.kv))?;
    check("secrets", secrets::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.secrets))?;
    check("progress", progress::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.progress))?;
    check("log", log::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.log))?;
    Ok(linker)
}

/// The first eight bytes tell what a file is: magic, version, layer (component model, Binary.md).
fn check_header(wasm: &[u8]) -> Result<(), LoadError> {
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err(LoadError::CoreModule),
        Some([0, b'a', b's', b'm', ..]) => Err(LoadError::NotWasm("is of an unknown kind of WebAssembly")),
        Some(_) => Err(LoadError::NotWasm("does not begin like WebAssembly")),
        None if wasm.is_empty() => Err(LoadError::NotWasm("is empty")),
        None => Err(LoadError::NotWasm("is too short")),
    }
}

const PACKAGE: &str = "orchestrator:plugin/";

/// Whether a component is a plugin, and one for this contract. Below 1.0 the minor version must be ours and the patch
/// version not later than ours.
fn check_contract<'a>(
    exports: impl Iterator<Item = &'a str>,
    imports: impl Iterator<Item = &'a str>,
) -> Result<(), LoadError> {
    let is_tools = |name: &str| name.strip_prefix(PACKAGE).is_some_and(|rest| rest.split('@').next() == Some("tools"));
    let exports: Vec<&str> = exports.collect();
    if !exports.iter().copied().any(is_tools) {
        return Err(LoadError::NotAPlugin);
    }
    let ours = triple(CONTRACT);
    for name in exports.into_iter().chain(imports).filter(|name| name.starts_with(PACKAGE)) {
        let wants = name.split_once('@').map_or("none", |(_, version)| version);
        let theirs = triple(wants);
        let fits = match (ours, theirs) {
            (Some((0, our_minor, our_patch)), Some((0, minor, patch))) => minor == our_minor && patch <= our_patch,
            (Some((major, our_minor, _)), Some((their_major, minor, _))) => major == their_major && minor <= our_minor,
            _ => false,
        };
        if !fits {
            let advice =
                if theirs > ours { "update mcp-orchestrator" } else { "build the plugin against this contract" };
            return Err(LoadError::Contract {
                wants: format!("orchestrator:plugin@{}", super::describe::clamp(wants, 40)),
                have: CONTRACT,
                advice,
            });
        }
    }
    Ok(())
}

fn triple(version: &str) -> Option<(u64, u64, u64)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let triple = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(triple)
}

/// The name in wasmtime's "component imports instance `NAME`, but a matching implementation was not found".
fn missing_import(reason: &str) -> Option<&str> {
    let (_, rest) = reason.split_once("component imports ")?;
    rest.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_what_a_file_is() {
        let check = |bytes: &[u8], expected: &str| {
            assert!(check_header(bytes).unwrap_err().to_string().contains(expected), "{bytes:?}");
        };
        check(b"", "empty");
        check(b"\0asm", "too short");
        check(b"#!/bin/sh\n", "does not begin like WebAssembly");
        check(b"\0asm\x01\0\0\0", "core WebAssembly module");
        check(b"\0asm\x01\0\x07\0", "unknown kind");
        assert_eq!(check_header(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn a_plugin_for_another_contract_is_told_which_one_it_wants_and_which_there_is() {
        let check = |version: &str, expected: &str| {
            let export = format!("orchestrator:plugin/tools{version}");
            let found = check_contract([export.as_str()].into_iter(), ["wasi:io/poll@0.2.0"].into_iter());
            let found = found.map_or_else(|error| error.to_string(), |()| "fits".to_owned());
            assert!(found.contains(expected), "{version}: {found}");
        };
        check("@0.1.0", "fits");
        check("@0.1.1", "wants the contract orchestrator:plugin@0.1.1, this host has 0.1.0: update mcp-orchestrator");
        check("@0.2.0", "update mcp-orchestrator");
        check("@1.0.0", "update mcp-orchestrator");
        check("@0.0.9", "build the plugin against this contract");
        check("@0.1.0-rc.1", "build the plugin");
        check("", "wants the contract orchestrator:plugin@none");
    }

    #[test]
    fn the_contract_of_the_imports_counts_too_and_other_packages_do_not() {
        let check = |exports: &[&str], imports: &[&str]| {
            check_contract(exports.iter().copied(), imports.iter().copied()).map_err(|error| error.to_string())
        };
        let tools = "orchestrator:plugin/tools@0.1.0";
        assert_eq!(check(&[tools], &["other:plugin/tools@9.0.0"]), Ok(()));
        assert!(check(&[tools], &["orchestrator:plugin/ssh@0.9.0"]).is_err());
        assert!(check(&["wasi:cli/run@0.2.0"], &[]).unwrap_err().contains("not a plugin"));
        assert!(check(&["orchestrator:plugin/toolset@0.1.0"], &[]).unwrap_err().contains("not a plugin"));
    }

    #[test]
    fn the_version_of_the_contract_is_the_one_of_the_wit_files() {
        let wit = include_str!("../../../wit/world.wit");
        assert!(wit.contains(&format!("package orchestrator:plugin@{CONTRACT};")));
    }

    #[test]
    fn the_name_of_a_missing_import_is_found() {
        let reason = "component imports instance `wasi:http/types@0.2.0`, but a matching implementation was not found";
        assert_eq!(missing_import(reason), Some("wasi:http/types@0.2.0"));
        assert_eq!(missing_import("something else"), None);
    }
}
