//! Crash recovery.
//!
//! The story: a client asked for `apt-get upgrade`. While it ran, the orchestrator was killed. A queue in memory forgets the
//! job; one that runs it again at the next start upgrades twice. Here it is found in the database as running, and is committed as
//! crashed before anything is served. What it had printed is still there; whether it is tried again is the caller's decision.
//!
//! A killed process is played by copying the database while the jobs are under way: the copy is what the disk holds then.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::tests::{new, open, settings};
use super::*;
use crate::call::{JobId, Reply};
use crate::capability::Stream;
use crate::jobs::output::StreamCounts;
use crate::store::Haste;

/// The data directory as a kill at this moment would leave it.
fn killed(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("outputs")).unwrap();
    std::fs::copy(data.join("orchestrator.redb"), copy.path().join("orchestrator.redb")).unwrap();
    for entry in std::fs::read_dir(data.join("outputs")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join("outputs").join(entry.file_name())).unwrap();
    }
    copy
}

/// The crashed jobs, newest first.
async fn crashed(jobs: &Jobs) -> Vec<JobId> {
    let filter = Filter { status: Some(Status::Crashed), limit: 100, ..Filter::default() };
    jobs.list(&filter).await.unwrap().iter().map(AnyJob::id).collect()
}

#[tokio::test]
async fn what_ran_is_crashed_with_its_output_and_what_had_ended_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    let mut done = jobs.submit(new("done"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    done.done().await.unwrap();
    let (printed, has_printed) = tokio::sync::oneshot::channel();
    let running = jobs
        .submit(new("running"), |call, spool| async move {
            spool.write(Stream::Stdout, &[b'x'; 100_000]).await;
            printed.send(()).unwrap();
            call.cancel.cancelled().await;
            Ok(Reply::default())
        })
        .await
        .unwrap();
    has_printed.await.unwrap();
    let copy = killed(directory.path());
    jobs.shutdown(Duration::from_secs(5)).await;

    let after = open(&settings(copy.path())).await;
    assert_eq!(crashed(&after).await, [running.id]);
    assert_eq!(after.get(done.id).await.unwrap().status(), Status::Completed);
    let lost = after.get(running.id).await.unwrap();
    let at = lost.ended();
    assert_eq!(lost.status(), Status::Crashed);
    assert!(!lost.problem().unwrap().retryable, "it may have had an effect");
    let counts = lost.as_ended().unwrap().state.output.stdout;
    assert_eq!(counts, StreamCounts { total: 100_000, kept: 100_000 });
    let page = after.output(running.id).await.unwrap().page(Stream::Stdout, 99_998, 10).await.unwrap();
    assert_eq!(page.text, "xx");
    let stats = after.stats().await.unwrap();
    assert_eq!(stats.by_status.get(&Status::Crashed), Some(&1));
    assert_eq!(stats.by_status.get(&Status::Running), None);
    assert_eq!(stats.retryable_crashed, [running.id]);
    let retry = after.retry(running.id).await.unwrap();
    assert_eq!(retry.retry_of, Some(running.id));
    let ticket = after.submit(retry, |_, _| async { Ok(Reply::default()) }).await.unwrap();
    assert!(ticket.id > running.id, "ids go on after those of the earlier process");
    assert!(after.stats().await.unwrap().retryable_crashed.is_empty());
    after.shutdown(Duration::from_secs(5)).await;
    drop(after);
    let again = open(&settings(copy.path())).await;
    assert_eq!(again.get(running.id).await.unwrap().ended(), at, "it crashes once");
}

#[tokio::test]
async fn what_was_still_waiting_is_crashed_as_something_that_had_no_effect() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    let mut last = None;
    for _ in 0..70 {
        let ticket = jobs.submit(new("slow"), |call, _| async move {
            call.cancel.cancelled().await;
            Ok(Reply::default())
        });
        last = Some(ticket.await.unwrap().id);
    }
    let last = last.unwrap();
    assert_eq!(jobs.get(last).await.unwrap().status(), Status::Pending);
    let copy = killed(directory.path());
    jobs.shutdown(Duration::from_secs(5)).await;
    let after = open(&settings(copy.path())).await;
    assert_eq!(crashed(&after).await.len(), 70);
    let job = after.get(last).await.unwrap();
    assert_eq!((job.status(), job.started()), (Status::Crashed, None));
    assert!(job.problem().unwrap().retryable);
}

/// A data directory in which so many jobs were waiting for their turn when the process was killed, and the first of them.
async fn killed_with(count: u64) -> (tempfile::TempDir, JobId) {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    let first = super::ids::floor(Timestamp::now());
    let insert = async |number| {
        let head = serde_json::json!({"id": JobId(first + number), "tool": "t", "created": Timestamp::now()});
        let job = Job::<Pending>::new(serde_json::from_value(head).unwrap());
        // The oldest is at work.
        let job = if number == 0 { AnyJob::Running(job.start(Timestamp::now())) } else { AnyJob::Pending(job) };
        jobs.0.store.insert(Haste::Now, Arc::new(job), None, None).await.unwrap();
    };
    futures::future::join_all((0..count).map(insert)).await;
    std::fs::write(directory.path().join(format!("outputs/{}.stdout", JobId(first))), "so far").unwrap();
    (killed(directory.path()), JobId(first))
}

#[tokio::test]
async fn of_very_many_the_newest_are_ended_at_the_start_and_the_others_are_told_as_ended_until_they_are() {
    const COUNT: u64 = 4_100;
    let (directory, first) = killed_with(COUNT).await;
    let jobs = open(&settings(directory.path())).await;
    assert!(jobs.0.recovery.is_unfinished());
    let look = async || {
        let (oldest, second) = (jobs.get(first).await.unwrap(), jobs.get(JobId(first.0 + 1)).await.unwrap());
        assert_eq!((oldest.status(), second.status()), (Status::Crashed, Status::Crashed));
        assert_eq!(oldest.as_ended().unwrap().state.output.stdout.total, 6);
        let stats = jobs.stats().await.unwrap();
        assert_eq!(stats.by_status.get(&Status::Crashed), Some(&COUNT), "{:?}", stats.by_status);
        assert_eq!(stats.by_status.get(&Status::Pending), None);
        let newest: Vec<_> = crashed(&jobs).await;
        assert_eq!((newest.len(), newest[0]), (100, JobId(first.0 + COUNT - 1)));
        (oldest, second, jobs.list(&Filter { limit: 5_000, ..Filter::default() }).await.unwrap())
    };
    let before = look().await;
    let retry = jobs.retry(first).await.unwrap();
    while jobs.0.recovery.is_unfinished() {
        tokio::task::yield_now().await;
    }
    assert!(look().await == before, "a job is told as another one once its end is committed");
    let mut again = jobs.submit(retry, |_, _| async { Ok(Reply::default()) }).await.unwrap();
    assert_eq!(again.done().await.unwrap().head().retried_from, Some(first));
    assert_eq!(
        jobs.0.store.tally().unwrap(),
        [("t".into(), Status::Completed, 1), ("t".into(), Status::Crashed, COUNT)]
    );
}

#[tokio::test]
async fn a_recovery_that_is_interrupted_is_gone_on_with_by_the_next_start() {
    const COUNT: u64 = 9_000;
    let (directory, first) = killed_with(COUNT).await;
    // Each start ends some of them and is then killed; what it runs itself is ended by the next one too.
    let mut own = Vec::new();
    let mut killed_at = directory;
    for _ in 0..2 {
        let jobs = open(&settings(killed_at.path())).await;
        own.push(jobs.submit(new("own"), |_, _| std::future::pending()).await.unwrap().id);
        assert!(jobs.0.recovery.is_unfinished());
        let copy = killed(killed_at.path());
        jobs.shutdown(Duration::ZERO).await;
        drop(jobs);
        killed_at = copy;
    }
    let jobs = open(&settings(killed_at.path())).await;
    while jobs.0.recovery.is_unfinished() {
        tokio::task::yield_now().await;
    }
    let tally = jobs.0.store.tally().unwrap();
    assert_eq!(tally, [("own".into(), Status::Crashed, 2), ("t".into(), Status::Crashed, COUNT)]);
    for id in [first, own[0], own[1]] {
        assert_eq!(jobs.0.store.get(id).unwrap().unwrap().status(), Status::Crashed);
    }
}

#[tokio::test]
async fn a_detached_job_is_found_again_and_goes_on_where_it_was_left() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    let detached = || NewJob { detach: true, ..new("t") };
    let (printed, has_printed) = tokio::sync::oneshot::channel();
    let running = jobs
        .submit(detached(), |call, spool| async move {
            spool.write(Stream::Stdout, &[b'x'; 100_000]).await;
            spool.write(Stream::Stdout, b"in memory").await;
            printed.send(()).unwrap();
            call.cancel.cancelled().await;
            Ok(Reply::default())
        })
        .await
        .unwrap();
    has_printed.await.unwrap();
    jobs.launched(running.id).await.unwrap();
    // Neither a kill nor an orderly end touches it.
    let copy = killed(directory.path());
    jobs.shutdown(Duration::from_secs(5)).await;
    drop(jobs);

    for data in [copy.path(), directory.path()] {
        let after = open(&settings(data)).await;
        assert!(crashed(&after).await.is_empty());
        let job = after.get(running.id).await.unwrap();
        assert_eq!(job.status(), Status::Running);
        let AnyJob::Running(job) = job else { panic!("not running") };
        assert!(job.state.launched);
        let mut kept = 0;
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        after.resume(job, |_, spool| async move {
            asked.send(spool.counts().stdout.total).unwrap();
            spool.write(Stream::Stdout, b"rest").await;
            Ok(Reply::default())
        });
        kept += is_asked.await.unwrap();
        let ended = after.wait(running.id, Duration::from_secs(60), &Default::default()).await.unwrap();
        assert_eq!(ended.status(), Status::Completed);
        assert_eq!(kept, 100_000, "what was in memory only is printed again");
        let output = after.output(running.id).await.unwrap();
        assert_eq!(output.page(Stream::Stdout, 99_999, 10).await.unwrap().text, "xrest");
        // Its files on the server are remembered until they are gone.
        assert_eq!(after.places().unwrap().len(), 1);
        after.cleaned(running.id).await.unwrap();
        assert!(after.places().unwrap().is_empty());
        after.shutdown(Duration::from_secs(5)).await;
    }
}

/// The clock was an hour ahead when the orchestrator was killed, and is right again at the next start.
#[tokio::test]
async fn a_clock_that_jumped_back_changes_neither_the_order_nor_what_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let ahead = JobId(super::ids::floor(now + hour));
    let head = serde_json::json!({"id": ahead, "tool": "ahead", "created": now + hour});
    let running = Job::new(serde_json::from_value::<Head>(head).unwrap()).start(now + hour);
    jobs.0.store.insert(Haste::Now, Arc::new(AnyJob::Running(running)), None, None).await.unwrap();
    let copy = killed(directory.path());
    jobs.shutdown(Duration::from_secs(5)).await;

    let after = open(&settings(copy.path())).await;
    assert_eq!(crashed(&after).await, [ahead]);
    assert_eq!(after.get(ahead).await.unwrap().duration(now), Some(Duration::ZERO), "no time is negative");
    let mut next = after.submit(new("next"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    next.done().await.unwrap();
    assert!(next.id > ahead, "an id is never used twice, and later jobs have greater ones");
    let newest = async |since| {
        let filter = Filter { since: Some(since), ..Filter::default() };
        after.list(&filter).await.unwrap().iter().map(AnyJob::id).collect::<Vec<_>>()
    };
    assert_eq!(newest(now).await, [next.id, ahead]);
    // Nothing is forgotten before its time, whichever clock told it.
    let (outputs, never) = (copy.path().join("outputs"), CancellationToken::new());
    let forget = |at| keeper::forget(&after.0.store, &outputs, Duration::from_secs(60), at, &never);
    assert_eq!(forget(now - hour).await.unwrap(), 0);
    assert_eq!(forget(now).await.unwrap(), 0);
    assert_eq!(forget(now + hour * 2).await.unwrap(), 2);
}
