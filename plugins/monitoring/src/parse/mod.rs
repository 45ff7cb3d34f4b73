//! What the commands printed, as numbers. Pure: nothing here runs anything.
//!
//! Every function takes what may be missing as missing: a host that lacks a source yields `None`, never an error.

mod cpu;
mod disk;
mod memory;
mod pressure;
mod system;

use std::collections::BTreeMap;

pub use cpu::{Cpu, Process, sample};
pub use disk::{Filesystem, filesystems};
pub use memory::{Machine, Memory, Swap, memory, swap};
pub use pressure::{Pressure, pressure};
pub use system::{Os, load_average, os, uptime_seconds, user_names};

/// The parts of a script's output by what stands behind their `==> `. Of two parts with one name the first counts.
pub fn sections(output: &str) -> BTreeMap<&str, &str> {
    let mut sections = BTreeMap::new();
    let opened = output.strip_prefix("==> ").or_else(|| output.split_once("\n==> ").map(|(_, rest)| rest));
    for part in opened.into_iter().flat_map(|parts| parts.split("\n==> ")) {
        let (name, body) = part.split_once('\n').unwrap_or((part, ""));
        sections.entry(name.trim()).or_insert(body);
    }
    sections
}

/// `part` of `whole` in percent, to one decimal.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1000.0).round() / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_open_at_the_start_of_a_line() {
        let check = |output, expected: &[(&'static str, &'static str)]| {
            assert_eq!(sections(output), expected.iter().copied().collect());
        };
        check("==> a\n1\n2\n==> b\n==> c\n3 ==> 4\n", &[("a", "1\n2"), ("b", ""), ("c", "3 ==> 4\n")]);
        check("a greeting\n==> a\n1", &[("a", "1")]);
        check("==> a\n1\n==> a\n2\n", &[("a", "1")]);
        check("", &[]);
    }
}
