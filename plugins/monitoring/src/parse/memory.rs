//! Memory and swap, from /proc/meminfo and, in a container, from its control group (v1 and v2).

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

use super::percent;

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Memory {
    /// What this system may use: of a container its limit, if it has one.
    pub total_bytes: u64,
    pub used_bytes: u64,
    /// What programs can still get without swapping, caches that can be dropped included.
    pub available_bytes: u64,
    pub used_percent: f64,
    /// Whether the figures are those of a container's limit.
    pub container_limit: bool,
    /// Then this is what the machine under it has, which all its containers share.
    #[schemars(skip)]
    pub machine: Option<Machine>,
}

/// The memory of the machine that a container runs on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    pub total_bytes: u64,
    pub used_bytes: u64,
    pub available_bytes: u64,
    pub used_percent: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Swap {
    pub total_bytes: u64,
    pub used_bytes: u64,
    pub used_percent: f64,
}

/// `sections` are files by their paths.
pub fn memory(sections: &BTreeMap<&str, &str>) -> Option<Memory> {
    let machine = machine(sections.get("/proc/meminfo")?)?;
    let Some(limited) = control_group(sections, machine.total_bytes) else { return Some(machine) };
    let Memory { total_bytes, used_bytes, available_bytes, used_percent, .. } = machine;
    Some(Memory { machine: Some(Machine { total_bytes, used_bytes, available_bytes, used_percent }), ..limited })
}

fn machine(meminfo: &str) -> Option<Memory> {
    let total = field(meminfo, "MemTotal")?;
    // Kernels before 3.14 have no MemAvailable. Shared memory is counted as cached but cannot be dropped.
    let estimate = || {
        let sum = ["Buffers", "Cached", "SReclaimable"].iter().filter_map(|name| field(meminfo, name)).sum::<u64>();
        Some((field(meminfo, "MemFree")? + sum).saturating_sub(field(meminfo, "Shmem").unwrap_or(0)))
    };
    let available = field(meminfo, "MemAvailable").or_else(estimate)?.min(total);
    Some(used_of(total, total - available, false))
}

fn used_of(total: u64, used: u64, container_limit: bool) -> Memory {
    let used = used.min(total);
    Memory {
        total_bytes: total,
        used_bytes: used,
        available_bytes: total - used,
        used_percent: percent(used, total),
        container_limit,
        machine: None,
    }
}

/// The limit of the control group at the root of what is visible, if it is below what the machine has. Inactive file
/// caches are dropped before the limit is hit, so they do not count as used.
fn control_group(sections: &BTreeMap<&str, &str>, machine: u64) -> Option<Memory> {
    let number = |path: &str| sections.get(path)?.trim().parse::<u64>().ok();
    let statistic = |path: &str, name: &str| {
        sections
            .get(path)?
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    let (limit, used, cache) = match number("/sys/fs/cgroup/memory.max") {
        Some(limit) => {
            (limit, number("/sys/fs/cgroup/memory.current")?, statistic("/sys/fs/cgroup/memory.stat", "inactive_file"))
        }
        None => (
            number("/sys/fs/cgroup/memory/memory.limit_in_bytes")?,
            number("/sys/fs/cgroup/memory/memory.usage_in_bytes")?,
            statistic("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file"),
        ),
    };
    // Without a limit v2 says `max`, v1 a number greater than any machine's memory.
    (limit > 0 && limit < machine).then(|| used_of(limit, used.saturating_sub(cache.unwrap_or(0)), true))
}

/// From /proc/meminfo; a machine without swap has 0 of 0 bytes.
pub fn swap(meminfo: &str) -> Option<Swap> {
    let total = field(meminfo, "SwapTotal")?;
    let used = total.saturating_sub(field(meminfo, "SwapFree")?);
    Some(Swap { total_bytes: total, used_bytes: used, used_percent: percent(used, total) })
}

/// A line of /proc/meminfo in bytes; the kernel's `kB` are KiB.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_mem_available_gets_an_estimate() {
        // The lines of a 2.6.32 kernel, shortened.
        let old =
            "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 300 kB\nShmem: 20 kB\nSReclaimable: 70 kB\n";
        let memory = memory(&BTreeMap::from([("/proc/meminfo", old)])).unwrap();
        assert_eq!(memory.available_bytes, 500 * 1024);
        assert_eq!(memory.used_percent, 50.0);
    }

    /// Written after the kernel's documentation (cgroup-v2), not captured.
    #[test]
    fn a_limit_of_control_group_v2_counts_instead_of_the_machine() {
        let meminfo = "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n";
        let group = |max: &'static str| {
            BTreeMap::from([
                ("/proc/meminfo", meminfo),
                ("/sys/fs/cgroup/memory.max", max),
                ("/sys/fs/cgroup/memory.current", "400000\n"),
                ("/sys/fs/cgroup/memory.stat", "anon 1\nfile 2\ninactive_anon 7\ninactive_file 150000\n"),
            ])
        };
        let limited = memory(&group("1000000\n")).unwrap();
        assert_eq!((limited.total_bytes, limited.used_bytes, limited.used_percent), (1_000_000, 250_000, 25.0));
        assert!(limited.container_limit);
        let machine = limited.machine.unwrap();
        assert_eq!(
            (machine.total_bytes, machine.used_percent),
            (8_000_000 * 1024, 12.5),
            "it is told beside the limit"
        );
        for unlimited in ["max\n", "9223372036854771712\n"] {
            let memory = memory(&group(unlimited)).unwrap();
            assert_eq!((memory.container_limit, memory.machine), (false, None), "{unlimited}");
        }
    }

    #[test]
    fn missing_lines_are_unknown_and_no_swap_is_zero() {
        assert_eq!(memory(&BTreeMap::new()), None);
        assert_eq!(memory(&BTreeMap::from([("/proc/meminfo", "MemTotal: x kB\n")])), None);
        assert_eq!(swap("MemTotal: 1 kB\n"), None);
        assert_eq!(swap("SwapTotal: 0 kB\nSwapFree: 0 kB\n").unwrap().used_percent, 0.0);
        assert_eq!(swap("SwapTotal: 200 kB\nSwapFree: 50 kB\n").unwrap().used_bytes, 150 * 1024);
    }
}
