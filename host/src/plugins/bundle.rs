//! The plugins that are part of the program: put in by `build.rs`, with their descriptions, so that nothing has to be
//! compiled or run to list their tools.

/// One plugin inside the program.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    pub name: &'static str,
    pub wasm: &'static [u8],
    /// What its `describe` answered when it was built, as JSON.
    pub info: &'static str,
}

/// All of them, sorted by name. Empty in a host that was built without `cargo xtask build`.
pub fn bundled() -> &'static [Bundled] {
    BUNDLE
}

static BUNDLE: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));
