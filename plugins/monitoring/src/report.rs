//! The answer of `get_system_resources`: its data, what is wrong by it, and the lines a person wants to read.

use std::fmt::Write;

use orchestrator_sdk::prelude::*;

use crate::parse::{Cpu, Filesystem, Memory, Os, Process, Swap};

/// How a server is doing. What could not be found out is absent, with a line in `notes`. The schema names the main members
/// only, to be short.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Resources {
    pub alias: String,
    /// What is wrong, the worst kind first; empty when nothing is.
    pub warnings: Vec<String>,
    #[schemars(skip)]
    pub os: Option<Os>,
    #[schemars(skip)]
    pub uptime_seconds: Option<u64>,
    pub cpu: Option<Cpu>,
    /// Over 1, 5 and 15 minutes.
    #[schemars(skip)]
    pub load_average: Option<[f64; 3]>,
    pub memory: Option<Memory>,
    #[schemars(skip)]
    pub swap: Option<Swap>,
    pub filesystems: Option<Vec<Filesystem>>,
    /// The busiest.
    pub processes: Option<Vec<Process>>,
    #[schemars(skip)]
    pub notes: Vec<String>,
}

/// Above this, a disk or memory is nearly full.
const FULL_PERCENT: f64 = 90.0;
/// Above this, swap is used heavily, and the CPU waits for disks or the hypervisor more than it should.
const SWAP_PERCENT: f64 = 50.0;
const WAIT_PERCENT: f64 = 20.0;

impl Resources {
    /// Fills in the warnings.
    pub fn judged(mut self) -> Self {
        let mut warnings = Vec::new();
        for disk in self.filesystems.iter().flatten() {
            if disk.used_percent > FULL_PERCENT {
                let (available, size) = (size(disk.available_bytes), size(disk.size_bytes));
                warnings
                    .push(format!("{} is {}% full: {available} of {size} available", disk.mount, disk.used_percent));
            }
            if let Some(percent) = disk.inodes_used_percent.filter(|percent| *percent > FULL_PERCENT) {
                warnings.push(format!("{percent}% of the inodes of {} are used", disk.mount));
            }
        }
        if let Some(memory) = self.memory.as_ref().filter(|memory| memory.used_percent > FULL_PERCENT) {
            let (available, total) = (size(memory.available_bytes), size(memory.total_bytes));
            warnings.push(format!("memory is {}% used: {available} of {total} available", memory.used_percent));
        }
        if let Some(swap) = self.swap.as_ref().filter(|swap| swap.used_percent > SWAP_PERCENT) {
            warnings.push(format!(
                "swap is {}% used: {} of {}",
                swap.used_percent,
                size(swap.used_bytes),
                size(swap.total_bytes)
            ));
        }
        if let (Some([load, ..]), Some(cpu)) = (self.load_average, &self.cpu)
            && load > cpu.cores as f64
        {
            warnings.push(format!("the load average of {load} is more than {} can do", cores(cpu.cores)));
        }
        if let Some(cpu) = &self.cpu {
            if cpu.used_percent > FULL_PERCENT {
                warnings.push(format!("the CPU is {}% used", cpu.used_percent));
            }
            if cpu.iowait_percent > WAIT_PERCENT {
                warnings.push(format!("the CPU waits for disks {}% of the time", cpu.iowait_percent));
            }
            if cpu.steal_percent > WAIT_PERCENT {
                warnings.push(format!("the hypervisor takes {}% of the CPU", cpu.steal_percent));
            }
        }
        self.warnings = warnings;
        self
    }

    /// A few lines, what is wrong first.
    pub fn text(&self) -> String {
        let mut text = self.alias.clone();
        if let Some(os) = &self.os {
            let name = os.name.as_deref().map(|name| format!("{name}, ")).unwrap_or_default();
            text.push_str(&format!(": {name}{} {}", os.kernel, os.architecture));
        }
        if let Some(seconds) = self.uptime_seconds {
            text.push_str(&format!(", up {}", duration(seconds)));
        }
        let mut line = |content: String| {
            text.push('\n');
            text.push_str(&content);
        };
        self.warnings.iter().for_each(|warning| line(format!("! {warning}")));
        if let Some(cpu) = &self.cpu {
            let limit = cpu.container_limit_cores.map(|limit| format!(" (container: at most {limit})"));
            line(format!("CPU {}% of {}{}", cpu.used_percent, cores(cpu.cores), limit.unwrap_or_default()));
        }
        if let Some([one, five, fifteen]) = self.load_average {
            line(format!("Load {one} {five} {fifteen} (1, 5, 15 min)"));
        }
        if let Some(memory) = &self.memory {
            let whose = if memory.container_limit { " (the container's limit)" } else { "" };
            let (used, total) = (size(memory.used_bytes), size(memory.total_bytes));
            line(format!("Memory {used} of {total} used, {}%{whose}", memory.used_percent));
        }
        match &self.swap {
            Some(swap) if swap.total_bytes == 0 => line("Swap none".to_owned()),
            Some(swap) => line(format!(
                "Swap {} of {} used, {}%",
                size(swap.used_bytes),
                size(swap.total_bytes),
                swap.used_percent
            )),
            None => {}
        }
        for disk in self.filesystems.iter().flatten() {
            let kind = disk.kind.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            let (used, total) = (size(disk.used_bytes), size(disk.size_bytes));
            let inodes = disk.inodes_used_percent.map(|percent| format!(", inodes {percent}%")).unwrap_or_default();
            line(format!("Disk {}{kind} {used} of {total} used, {}%{inodes}", disk.mount, disk.used_percent));
        }
        if let Some(processes) = self.processes.as_ref().filter(|processes| !processes.is_empty()) {
            line("Busiest processes (share of all cores, memory, pid, user):".to_owned());
            processes.iter().for_each(|process| line(format!("  {}", busy(process))));
        }
        self.notes.iter().for_each(|note| line(format!("Note: {note}")));
        text
    }
}

fn busy(process: &Process) -> String {
    let mut text = format!("{} {}%", process.name, process.cpu_percent);
    if let Some(bytes) = process.memory_bytes {
        text.push_str(&format!(", {}", size(bytes)));
    }
    text.push_str(&format!(", {}", process.pid));
    if let Some(user) = &process.user {
        text.push_str(&format!(", {user}"));
    }
    text
}

fn cores(count: usize) -> String {
    if count == 1 { "1 core".to_owned() } else { format!("{count} cores") }
}

/// Bytes in the binary unit that fits, to one decimal.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", (value * 10.0).round() / 10.0)
}

/// The two greatest units.
pub fn duration(seconds: u64) -> String {
    let units = [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("min", seconds / 60 % 60)];
    let mut text = String::new();
    for (unit, count) in units.into_iter().skip_while(|(_, count)| *count == 0).take(2) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{count} {unit}", if text.is_empty() { "" } else { " " });
    }
    if text.is_empty() { format!("{seconds} s") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Resources {
        Resources {
            alias: "web".to_owned(),
            warnings: Vec::new(),
            os: None,
            uptime_seconds: None,
            cpu: None,
            load_average: None,
            memory: None,
            swap: None,
            filesystems: None,
            processes: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let disk = Filesystem {
            mount: "/var".to_owned(),
            device: "/dev/sda2".to_owned(),
            kind: Some("ext4".to_owned()),
            network: false,
            size_bytes: 20 << 30,
            used_bytes: 19 << 30,
            available_bytes: 1 << 30,
            used_percent: 95.0,
            inodes: Some(100),
            inodes_used_percent: Some(99.0),
        };
        let cpu =
            Cpu { cores: 2, used_percent: 91.0, iowait_percent: 25.0, steal_percent: 0.0, container_limit_cores: None };
        let memory =
            Memory { total_bytes: 100, used_bytes: 95, available_bytes: 5, used_percent: 95.0, container_limit: false };
        let resources = Resources {
            filesystems: Some(vec![disk]),
            cpu: Some(cpu),
            memory: Some(memory),
            swap: Some(Swap { total_bytes: 2 << 30, used_bytes: 3 << 29, used_percent: 75.0 }),
            load_average: Some([2.5, 1.0, 0.5]),
            ..nothing()
        }
        .judged();
        let text = resources.text();
        let lines: Vec<&str> = text.lines().take(8).collect();
        assert_eq!(
            lines,
            [
                "web",
                "! /var is 95% full: 1 GiB of 20 GiB available",
                "! 99% of the inodes of /var are used",
                "! memory is 95% used: 5 B of 100 B available",
                "! swap is 75% used: 1.5 GiB of 2 GiB",
                "! the load average of 2.5 is more than 2 cores can do",
                "! the CPU is 91% used",
                "! the CPU waits for disks 25% of the time",
            ]
        );
    }

    #[test]
    fn nothing_is_wrong_with_what_is_unknown() {
        assert_eq!(nothing().judged().warnings, Vec::<String>::new());
        assert_eq!(nothing().text(), "web");
    }

    #[test]
    fn durations_have_their_two_greatest_units() {
        let check = |seconds, shown: &str| assert_eq!(duration(seconds), shown);
        check(59, "59 s");
        check(3600, "1 h 0 min");
        check(90_061, "1 d 1 h");
        check(125, "2 min");
    }
}
