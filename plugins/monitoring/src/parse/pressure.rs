//! How long programs were held up, from /proc/pressure (the kernel's Documentation/accounting/psi.rst). Not every kernel has it:
//! it came with Linux 4.20, and some distributions switch it off.

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

/// For which share of the last 10 seconds some program had to wait for a thing that all share.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    pub cpu_percent: Option<f64>,
    pub io_percent: Option<f64>,
    pub memory_percent: Option<f64>,
}

/// `sections` are files by their paths.
pub fn pressure(sections: &BTreeMap<&str, &str>) -> Option<Pressure> {
    let some = |path: &str| sections.get(path).copied().and_then(some_percent);
    let pressure = Pressure {
        cpu_percent: some("/proc/pressure/cpu"),
        io_percent: some("/proc/pressure/io"),
        memory_percent: some("/proc/pressure/memory"),
    };
    (pressure != Pressure::default()).then_some(pressure)
}

/// `some avg10=0.12 avg60=0.05 avg300=0.01 total=1234`. The file of a kernel that has it switched off cannot be read.
fn some_percent(file: &str) -> Option<f64> {
    let line = file.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()?;
    Some((percent.clamp(0.0, 100.0) * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_last_ten_seconds_is_told_of_each() {
        let files = BTreeMap::from([
            ("/proc/pressure/cpu", include_str!("../../testdata/pressure/cpu")),
            ("/proc/pressure/io", include_str!("../../testdata/pressure/io")),
            ("/proc/pressure/memory", include_str!("../../testdata/pressure/memory")),
        ]);
        let expected = Pressure { cpu_percent: Some(20.6), io_percent: Some(0.0), memory_percent: Some(0.0) };
        assert_eq!(pressure(&files), Some(expected));
    }

    #[test]
    fn what_a_kernel_does_not_tell_is_unknown() {
        assert_eq!(pressure(&BTreeMap::new()), None);
        // Switched off with `psi=0`: there is a file, and reading it fails.
        assert_eq!(pressure(&BTreeMap::from([("/proc/pressure/cpu", "")])), None);
        assert_eq!(pressure(&BTreeMap::from([("/proc/pressure/io", "some avg10=x\n")])), None);
    }
}
