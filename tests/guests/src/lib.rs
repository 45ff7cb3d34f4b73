//! tests/guests
