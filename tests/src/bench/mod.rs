//! The measurements behind `cargo xtask bench`.
