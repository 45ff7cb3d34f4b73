//! The WebAssembly engine: how components are compiled, where the results are kept, how many instances there is room for.
//! Not what a guest may do or how long.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use wasmtime::{Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::error::SandboxError;

/// Calls that run at the same time; more wait for their turn. An instance without a call does not exist.
pub const MAX_CALLS: usize = 64;

/// A component made of several modules may have this many memories and tables.
const PER_COMPONENT: u32 = 4;
/// Memory of an ended instance that is wiped and kept instead of given back and faulted in again. Small, since it is kept
/// for as many slots as were ever used at once.
const KEEP_RESIDENT: usize = 256 << 10;
const PAGE: usize = 64 << 10;

/// An engine whose instances have at most `memory` bytes each. Compiled components are kept below `cache`.
pub fn engine(memory: usize, cache: Option<&Path>) -> Result<Engine, SandboxError> {
    let cache = cache.and_then(|dir| match compilation_cache(dir) {
        Ok(cache) => Some(cache),
        Err(reason) => {
            tracing::warn!(dir = %dir.display(), reason, "compiled plugins are not kept: every start compiles them again");
            None
        }
    });
    let mut pooled = config(cache.clone());
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(memory)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::info!(reason = %super::one_line_of(&error), "no address space for pooled plugin instances; they are allocated one by one");
            let mut single = config(cache);
            // The usual 4 GiB of reserved addresses per memory is what there was no room for.
            single.memory_reservation(0).memory_reservation_for_growth(1 << 20).memory_guard_size(PAGE as u64);
            Engine::new(&single).map_err(|error| SandboxError::Engine(super::one_line_of(&error)))
        }
    }
}

fn config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true).memory_init_cow(true).cache(cache);
    config
}

/// Room for [`MAX_CALLS`] instances. What is reserved is address space; memory is used by running instances only.
fn pool(memory: usize) -> PoolingAllocationConfig {
    let calls = MAX_CALLS as u32;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls * 32)
        .total_stacks(calls)
        .total_memories(calls * PER_COMPONENT)
        .total_tables(calls * PER_COMPONENT)
        .max_memories_per_component(PER_COMPONENT)
        .max_tables_per_component(PER_COMPONENT)
        .max_memory_size(memory.next_multiple_of(PAGE))
        .max_unused_warm_slots(4)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .async_stack_keep_resident(KEEP_RESIDENT)
        // Pages that a call wrote are found and wiped, where the kernel (Linux 6.7) can tell them: no page is given back
        // and faulted in again between two calls.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(PAGE);
    pool
}

/// Machine code is loaded from this folder without being checked, so nobody else may write to it.
fn compilation_cache(dir: &Path) -> Result<Cache, String> {
    private_dir(dir).map_err(|error| error.to_string())?;
    let dir = fs::canonicalize(dir).map_err(|error| error.to_string())?;
    let mut config = CacheConfig::new();
    config.with_directory(dir);
    Cache::new(config).map_err(|error| super::one_line_of(&error))
}

/// Makes a folder that only its owner may enter, and takes others' rights from one that exists.
pub fn private_dir(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut permissions = fs::metadata(dir)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o700);
        fs::set_permissions(dir, permissions)?;
    }
    Ok(())
}
