//! The contract of `wit/` as Rust types, generated. Nothing is written by hand here, and nothing above
//! [`plugins`](super) sees these types.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: {
        // Wait for a server.
        "orchestrator:plugin/ssh": async | trappable,
        "orchestrator:plugin/http": async | trappable,
        // Wait for the disk.
        "orchestrator:plugin/kv": async | trappable,
        "orchestrator:plugin/secrets": async | trappable,
        // Answer at once. They may end the guest, when its call has been cancelled.
        default: trappable,
    },
    with: {
        "orchestrator:plugin/ssh.process": crate::capability::Process,
    },
    exports: {
        default: async,
    },
});

/// The version of the contract that this host speaks, as in `wit/world.wit`.
pub const CONTRACT: &str = "0.1.0";
