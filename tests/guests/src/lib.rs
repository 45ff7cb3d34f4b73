//! Plugins for the tests of the sandbox: one file is one component, most of them misbehave in one way each.
//!
//! Nothing is shared between them, and they are no examples to learn from: those are in `docs/plugins.md`.
