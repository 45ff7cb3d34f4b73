//! Figures about the queue: counts of everything that is kept, durations of what was done lately.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::call::JobId;
use crate::store::StoreError;

use super::job::{AnyJob, MAX_RETRIES, Status};
use super::store::JobStore;

/// How many of the newest jobs durations are taken from.
const SAMPLE: usize = 2_000;

/// What `queue_stats` tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueStats {
    /// Every job that is kept.
    pub total: u64,
    pub by_status: BTreeMap<Status, u64>,
    /// By tool.
    pub by_type: BTreeMap<String, u64>,
    /// How many of the newest jobs the figures below are from.
    pub sample: usize,
    /// Of the jobs that began and ended.
    pub avg_duration: Option<Duration>,
    /// Completed ones among those that ended, 0 to 1.
    pub success_rate: Option<f64>,
    pub by_tool: BTreeMap<String, Durations>,
    pub by_server: BTreeMap<String, Durations>,
    /// Crashed jobs that were not retried yet and can be, newest first.
    pub retryable_crashed: Vec<JobId>,
}

/// How long jobs took: one tool's, or those on one server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    pub count: usize,
    pub p50: Duration,
    pub p95: Duration,
}

impl QueueStats {
    /// Counts what was left unended by an earlier process as crashed, while not all of that is committed: all but what is
    /// pending and running in this one.
    pub(super) fn crash_all_but(&mut self, pending: u64, running: u64) {
        let mut crashed = 0;
        for (status, here) in [(Status::Pending, pending), (Status::Running, running)] {
            let count = self.by_status.remove(&status).unwrap_or_default();
            crashed += count.saturating_sub(here);
            self.by_status.extend(Some((status, count.min(here))).filter(|(_, count)| *count > 0));
        }
        if crashed > 0 {
            *self.by_status.entry(Status::Crashed).or_default() += crashed;
        }
    }
}

#[derive(Default)]
struct Sample {
    seen: usize,
    ended: usize,
    completed: usize,
    by_tool: BTreeMap<String, Vec<Duration>>,
    by_server: BTreeMap<String, Vec<Duration>>,
    retried: HashSet<JobId>,
    crashed: Vec<JobId>,
}

pub(super) async fn collect(store: &JobStore) -> Result<QueueStats, StoreError> {
    let (total, by_status, by_type) = totals(store.tally()?);
    let sample = store.visit(SAMPLE, Sample::default(), Sample::add).await?;
    Ok(QueueStats { total, by_status, by_type, ..sample.figures() })
}

impl Sample {
    /// Newest first, so that a retry is seen before what it retries.
    fn add(&mut self, job: &AnyJob) {
        self.seen += 1;
        let head = job.head();
        self.retried.extend(head.retried_from);
        match job.status() {
            Status::Pending | Status::Running => return,
            Status::Completed => self.completed += 1,
            Status::Crashed if !self.retried.contains(&head.id) && head.attempts <= MAX_RETRIES => {
                self.crashed.push(head.id);
            }
            _ => {}
        }
        self.ended += 1;
        if let Some(duration) = job.duration(Timestamp::UNIX_EPOCH) {
            self.by_tool.entry(head.tool.clone()).or_default().push(duration);
            if let Some(server) = &head.server {
                self.by_server.entry(server.clone()).or_default().push(duration);
            }
        }
    }

    fn figures(self) -> QueueStats {
        let all: Vec<_> = self.by_tool.values().flatten().copied().collect();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        QueueStats {
            sample: self.seen,
            avg_duration: all.iter().sum::<Duration>().checked_div(count),
            success_rate: (self.ended > 0).then(|| self.completed as f64 / self.ended as f64),
            by_tool: figures(self.by_tool),
            by_server: figures(self.by_server),
            retryable_crashed: self.crashed,
            ..QueueStats::default()
        }
    }
}

fn figures(durations: BTreeMap<String, Vec<Duration>>) -> BTreeMap<String, Durations> {
    let figures = |mut durations: Vec<Duration>| {
        durations.sort_unstable();
        Durations { count: durations.len(), p50: percentile(&durations, 50), p95: percentile(&durations, 95) }
    };
    durations.into_iter().map(|(name, durations)| (name, figures(durations))).collect()
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// How many there are of each kind.
fn totals(tally: Vec<(String, Status, u64)>) -> (u64, BTreeMap<Status, u64>, BTreeMap<String, u64>) {
    let (mut total, mut by_status, mut by_tool) = (0, BTreeMap::new(), BTreeMap::new());
    for (tool, status, count) in tally {
        total += count;
        *by_status.entry(status).or_default() += count;
        *by_tool.entry(tool).or_default() += count;
    }
    (total, by_status, by_tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_runs_any_more_counts_as_crashed() {
        let stats = |pending, running, crashed| QueueStats {
            by_status: [(Status::Pending, pending), (Status::Running, running), (Status::Crashed, crashed)]
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
            ..QueueStats::default()
        };
        let check = |mut before: QueueStats, pending, running, after| {
            before.crash_all_but(pending, running);
            assert_eq!(before, after);
        };
        check(stats(1_000, 3, 5), 10, 1, stats(10, 1, 997));
        check(stats(1_000, 3, 0), 0, 0, stats(0, 0, 1_003));
        check(stats(2, 1, 0), 2, 1, stats(2, 1, 0));
        // One that is not committed yet.
        check(stats(2, 0, 0), 3, 1, stats(2, 0, 0));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ms = |values: &[u64]| values.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        let check = |values: &[u64], percent, expected| {
            assert_eq!(percentile(&ms(values), percent), Duration::from_millis(expected), "{values:?} {percent}");
        };
        check(&[], 50, 0);
        check(&[7], 50, 7);
        check(&[7], 95, 7);
        check(&[1, 2], 50, 1);
        check(&[1, 2, 3, 4], 95, 4);
        check(&(1..=100).collect::<Vec<_>>(), 50, 50);
        check(&(1..=100).collect::<Vec<_>>(), 95, 95);
    }
}
