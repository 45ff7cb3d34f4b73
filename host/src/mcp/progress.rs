//! Progress notifications: what a call reports, or that it is still at work, so that clients with a time limit don't give up.

use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::{Peer, RoleServer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::call::Report;

/// The shortest time between two notifications of one call.
const PACE: Duration = Duration::from_millis(250);

/// How long a call may be silent before its client is told that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Tells a client how far a call has come, until it is dropped.
pub struct Forwarding(JoinHandle<()>);

impl Forwarding {
    /// Forwards reports to the client that gave `token`.
    pub fn start(peer: Peer<RoleServer>, token: ProgressToken, reports: watch::Receiver<Option<Report>>) -> Self {
        Forwarding(tokio::spawn(forward(peer, token, reports)))
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn forward(peer: Peer<RoleServer>, token: ProgressToken, mut reports: watch::Receiver<Option<Report>>) {
    let started = Instant::now();
    let mut last = f64::NEG_INFINITY;
    loop {
        let report = match tokio::time::timeout(HEARTBEAT, reports.changed()).await {
            Ok(Ok(())) => reports.borrow_and_update().clone().unwrap_or_default(),
            // The call dropped its end: nothing more will come.
            Ok(Err(_)) => return,
            Err(_) => reports.borrow().clone().unwrap_or_default(),
        };
        let elapsed = started.elapsed();
        let (progress, total) = step(&report, elapsed, last);
        last = progress;
        let mut notification = ProgressNotificationParam::new(token.clone(), progress);
        notification.total = total;
        notification.message = Some(report.message.unwrap_or_else(|| format!("running for {} s", elapsed.as_secs())));
        if peer.notify_progress(notification).await.is_err() {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The number to send: the work's own where it has a total, else seconds. MCP wants it to increase every time, so what
/// stood still moves by the smallest step that shows.
fn step(report: &Report, elapsed: Duration, last: f64) -> (f64, Option<f64>) {
    let (value, total) = match report.total {
        Some(total) => (report.done.min(total), Some(total)),
        None => (elapsed.as_secs_f64().max(report.done), None),
    };
    if value > last { (value, total) } else { (last + 1e-3, None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(done: f64, total: Option<f64>, seconds: u64, last: f64, expected: (f64, Option<f64>)) {
        let report = Report { done, total, message: None };
        assert_eq!(step(&report, Duration::from_secs(seconds), last), expected);
    }

    #[test]
    fn progress_always_increases() {
        check(5.0, Some(10.0), 1, 4.0, (5.0, Some(10.0)));
        check(5.0, Some(10.0), 1, 5.0, (5.001, None));
        check(50.0, Some(10.0), 1, 4.0, (10.0, Some(10.0)));
        check(0.0, None, 7, 2.0, (7.0, None));
    }
}
