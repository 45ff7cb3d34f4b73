//! CPU and processes, from two samples of /proc/stat and /proc/PID/stat (proc(5)).

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

use super::percent;

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cpu {
    pub cores: usize,
    /// Of all cores together.
    pub used_percent: f64,
    /// Idle, but only because a disk was being waited for.
    pub iowait_percent: f64,
    /// Taken by the hypervisor for others.
    pub steal_percent: f64,
    /// How many cores' worth of time a container may use, if less than there are.
    pub container_limit_cores: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Process {
    pub pid: u32,
    /// The kernel's short name; arguments are not read, since they may hold secrets.
    pub name: String,
    /// The effective user's name, or number where it has no name.
    pub user: Option<String>,
    /// Of all cores together.
    pub cpu_percent: f64,
    /// Resident.
    pub memory_bytes: Option<u64>,
}

/// What two samples tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub cpu: Option<Cpu>,
    /// Every process that lived through both samples, the busiest first.
    pub processes: Option<Vec<Process>>,
    /// The kernel shows only the login user's own processes (mount option hidepid).
    pub others_hidden: bool,
}

/// The output of `sample.sh` by its sections, `facts` those of `facts.sh`.
pub fn sample(sample: &BTreeMap<&str, &str>, facts: &BTreeMap<&str, &str>, names: &BTreeMap<u32, &str>) -> Sample {
    let get = |name: &str| sample.get(name).copied();
    let times = get("cpu1").and_then(Times::read).zip(get("cpu2").and_then(Times::read));
    let elapsed = times.map(|(before, after)| after.since(before));
    let cpu = elapsed.zip(get("cpu2")).map(|(elapsed, text)| {
        let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count().max(1);
        let total = elapsed.total();
        Cpu {
            cores,
            used_percent: percent(total - elapsed.idle - elapsed.iowait, total),
            iowait_percent: percent(elapsed.iowait, total),
            steal_percent: percent(elapsed.steal, total),
            container_limit_cores: limit_cores(facts).filter(|limit| *limit < cores as f64),
        }
    });
    let lists = get("processes1").map(read_processes).zip(get("processes2").map(read_processes));
    let page = get("page").and_then(page_bytes);
    let users = get("users").map(read_users).unwrap_or_default();
    let owner =
        |pid: u32| users.get(&pid).map(|id| names.get(id).map_or_else(|| id.to_string(), |name| (*name).to_owned()));
    let processes =
        lists.zip(elapsed).map(|((before, after), elapsed)| busiest(&before, &after, elapsed.total(), page, &owner));
    let processes = processes.filter(|processes| !processes.is_empty());
    let others_hidden = processes.as_ref().is_some_and(|processes| processes.iter().all(|process| process.pid != 1));
    Sample { cpu, processes, others_hidden }
}

/// The `cpu` line of /proc/stat, in ticks. Guest time is left out: the kernel counts it as user time already.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    busy: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
}

impl Times {
    fn read(section: &str) -> Option<Times> {
        let line = section.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // Kernels before 2.6.11 have fewer fields.
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        let busy = [0, 1, 2, 5, 6].into_iter().map(field).fold(0, u64::saturating_add);
        (fields.len() >= 4).then(|| Times { busy, idle: field(3), iowait: field(4), steal: field(7) })
    }

    /// The kernel's counters of idle time may step back a little.
    fn since(self, before: Times) -> Times {
        Times {
            busy: self.busy.saturating_sub(before.busy),
            idle: self.idle.saturating_sub(before.idle),
            iowait: self.iowait.saturating_sub(before.iowait),
            steal: self.steal.saturating_sub(before.steal),
        }
    }

    fn total(self) -> u64 {
        [self.busy, self.idle, self.iowait, self.steal].into_iter().fold(0, u64::saturating_add)
    }
}

/// A line of the processes' sections: `PID (NAME) UTIME STIME STARTTIME RSS`.
struct Line<'a> {
    name: &'a str,
    ticks: u64,
    start: u64,
    pages: u64,
}

/// By process id. A name may hold spaces and parentheses, so it ends at the last one.
fn read_processes(section: &str) -> BTreeMap<u32, Line<'_>> {
    section.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(u32, Line<'_>)> {
    let (pid, rest) = line.split_once(" (")?;
    let (name, numbers) = rest.rsplit_once(") ")?;
    let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let ticks = next()?.saturating_add(next()?);
    Some((pid.parse().ok()?, Line { name, ticks, start: next()?, pages: next().unwrap_or(0) }))
}

fn busiest(
    before: &BTreeMap<u32, Line<'_>>,
    after: &BTreeMap<u32, Line<'_>>,
    total: u64,
    page: Option<u64>,
    owner: &dyn Fn(u32) -> Option<String>,
) -> Vec<Process> {
    let mut processes: Vec<Process> = after
        .iter()
        .filter_map(|(pid, now)| {
            // The same number and start: a process number may have been given anew in between.
            let then = before.get(pid).filter(|then| then.start == now.start)?;
            Some(Process {
                pid: *pid,
                name: now.name.to_owned(),
                user: owner(*pid),
                cpu_percent: percent(now.ticks.saturating_sub(then.ticks), total).min(100.0),
                memory_bytes: page.map(|page| page.saturating_mul(now.pages)),
            })
        })
        .collect();
    processes.sort_by(|a, b| {
        b.cpu_percent.total_cmp(&a.cpu_percent).then(b.memory_bytes.cmp(&a.memory_bytes)).then(a.pid.cmp(&b.pid))
    });
    processes
}

/// `KernelPageSize: 4 kB`, the unit of a process's resident memory.
fn page_bytes(section: &str) -> Option<u64> {
    section.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Lines of process id and effective user id.
fn read_users(section: &str) -> BTreeMap<u32, u32> {
    section
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(pid, id)| Some((pid.parse().ok()?, id.trim().parse().ok()?)))
        .collect()
}

/// The CPU quota of the control group (v2 `cpu.max`, v1 `cpu.cfs_*`), in cores.
fn limit_cores(facts: &BTreeMap<&str, &str>) -> Option<f64> {
    let (quota, period) = match facts.get("/sys/fs/cgroup/cpu.max") {
        Some(max) => max.trim().split_once(' ')?,
        None => (
            facts.get("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?.trim(),
            facts.get("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?.trim(),
        ),
    };
    // Without a quota v2 says `max`, v1 -1.
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sections: &[(&'static str, &'static str)]) -> Sample {
        sample(&sections.iter().copied().collect(), &BTreeMap::new(), &BTreeMap::from([(0, "root")]))
    }

    #[test]
    fn percentages_are_of_the_time_between_the_samples() {
        let sample = check(&[
            ("cpu1", "cpu  100 0 100 1000 50 0 0 10 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\n"),
            ("cpu2", "cpu  110 0 110 1070 55 0 0 15 7 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\n"),
            ("page", "KernelPageSize:        4 kB\n"),
            ("users", "1 0\n20 1000\n30 0\n"),
            ("processes1", "1 (init) 5 5 10 100\n20 (a) b (c) 0 0 11 1\n30 (reused) 90 90 12 1\n40 (gone) 0 0 1 1\n"),
            ("processes2", "1 (init) 5 5 10 100\n20 (a) b (c) 4 6 11 3\n30 (reused) 1 1 99 1\n50 (new) 9 9 99 1\n"),
        ]);
        let cpu = sample.cpu.unwrap();
        assert_eq!((cpu.cores, cpu.used_percent, cpu.iowait_percent, cpu.steal_percent), (2, 25.0, 5.0, 5.0));
        let processes: Vec<_> = sample.processes.unwrap();
        let shown: Vec<_> = processes
            .iter()
            .map(|p| (p.pid, p.name.as_str(), p.user.as_deref(), p.cpu_percent, p.memory_bytes))
            .collect();
        assert_eq!(
            shown,
            [(20, "a) b (c", Some("1000"), 10.0, Some(3 * 4096)), (1, "init", Some("root"), 0.0, Some(100 * 4096))]
        );
        assert!(!sample.others_hidden);
    }

    #[test]
    fn what_a_host_lacks_is_unknown() {
        assert_eq!(check(&[]), Sample::default());
        let one = check(&[("cpu1", "cpu  1 2 3 4\n"), ("processes1", "1 (init) 5 5 10 100\n")]);
        assert_eq!(one, Sample::default());
    }

    #[test]
    fn idle_time_that_steps_back_is_no_time() {
        let cpu = check(&[("cpu1", "cpu  10 0 0 100 9\n"), ("cpu2", "cpu  20 0 0 110 8\n")]).cpu.unwrap();
        assert_eq!((cpu.used_percent, cpu.iowait_percent), (50.0, 0.0));
    }

    #[test]
    fn the_quota_of_a_container_is_told_in_cores() {
        let check = |files: &[(&'static str, &'static str)], expected| {
            assert_eq!(limit_cores(&files.iter().copied().collect()), expected);
        };
        check(&[("/sys/fs/cgroup/cpu.max", "150000 100000\n")], Some(1.5));
        check(&[("/sys/fs/cgroup/cpu.max", "max 100000\n")], None);
        let v1 = |quota| {
            [("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota), ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")]
        };
        check(&v1("50000\n"), Some(0.5));
        check(&v1("-1\n"), None);
    }
}
