//! The disk fails while there are jobs, and comes back.

use std::time::Duration;

use futures::FutureExt;

use super::tests::{new, settings};
use super::*;
use crate::call::{Call, Reply};
use crate::capability::Stream;
use crate::error::{Code, Problem};
use crate::store::disk::Disk;

/// Waits until nothing is left of what was owed, and says how all jobs have ended.
async fn settled(jobs: &Jobs) -> Vec<Status> {
    for _ in 0..100 {
        let all = jobs.list(&Filter::default()).await.unwrap();
        if jobs.count() == 0 && all.iter().all(|job| !job.is_active()) {
            return all.iter().map(AnyJob::status).collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("jobs were left unended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_the_disk_did_not_take_is_told_at_once_and_recorded_later() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    let (go, may_go) = tokio::sync::oneshot::channel();
    let work = |_, _| async move {
        let _ = may_go.await;
        Ok(Reply::default())
    };
    let mut ticket = jobs.submit(new("t"), work).await.unwrap();
    disk.platter().syncs = Some(0);
    let refused = jobs
        .submit(new("t"), |call, _| async move {
            call.recorded.wait().await?;
            panic!("it was refused")
        })
        .await
        .unwrap_err();
    assert!(refused.message.contains("no storage space") && refused.retryable, "{refused:?}");
    go.send(()).unwrap();
    let told = ticket.done().await.unwrap_err();
    assert!(told.message.contains(&format!("the end of {}", ticket.id)), "{}", told.message);
    assert!(told.message.contains("no storage space"), "{}", told.message);
    disk.platter().syncs = None;
    assert_eq!(settled(&jobs).await, [Status::Completed]);
    let mut next = jobs.submit(new("t"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    assert_eq!(next.done().await.unwrap().status(), Status::Completed);
    assert_eq!(jobs.stats().await.unwrap().by_status.get(&Status::Completed), Some(&2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_refused_is_not_left_unended_whatever_the_disk_has_taken() {
    for syncs in 0..4 {
        let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
        disk.platter().syncs = Some(syncs);
        let submitted = jobs.submit(new("t"), |_, _| async { Ok(Reply::default()) }).await;
        let is_accepted = submitted.is_ok();
        if let Ok(mut ticket) = submitted {
            // Well or not: the disk may fail in between.
            let _ = ticket.done().await;
        }
        disk.platter().syncs = None;
        let ended = settled(&jobs).await;
        match is_accepted {
            true => assert_eq!(ended, [Status::Completed], "after {syncs} syncs"),
            false => assert!(ended.is_empty() || ended == [Status::Crashed], "after {syncs} syncs: {ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_and_ends_soon_is_recorded_once() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    let syncs_of = async |only_reads, result: Result<Reply, Problem>| {
        disk.platter().syncs = Some(100);
        let new = NewJob { only_reads, server: Some("web".to_owned()), ..new("t") };
        let work = async |call: Call, spool: Spool| {
            call.recorded.wait_to_read().await?;
            spool.write(Stream::Stdout, b"printed").await;
            result
        };
        let mut ticket = jobs.submit(new, work).await.unwrap();
        let told = ticket.done().await.unwrap();
        assert_eq!(jobs.get(ticket.id).await.unwrap(), *told, "told and stored are the same");
        let page = jobs.output(ticket.id).await.unwrap().page(Stream::Stdout, 0, 100).await.unwrap();
        assert_eq!(page.text, "printed");
        let left = disk.platter().syncs.unwrap();
        (100 - left, told.status())
    };
    // The least of some: now and then a commit of a new database syncs once more.
    let (mut once, mut twice) = (u32::MAX, u32::MAX);
    for _ in 0..3 {
        twice = twice.min(syncs_of(false, Ok(Reply::default())).await.0);
        once = once.min(syncs_of(true, Ok(Reply::default())).await.0);
    }
    assert_eq!(once * 2, twice);
    let failed = syncs_of(true, Err(Problem::new(Code::ConnectionFailed, "x"))).await;
    assert_eq!(failed.1, Status::Failed);
    let filter = Filter { status: Some(Status::Failed), server: Some("web".to_owned()), ..Filter::default() };
    assert_eq!(jobs.list(&filter).await.unwrap().len(), 1);
    let stats = jobs.stats().await.unwrap().by_status;
    let ended = [Status::Completed, Status::Failed].map(|status| stats.get(&status).copied());
    assert_eq!((ended, jobs.count()), ([Some(6), Some(1)], 0));
    // Nothing of it is found unended by the next process.
    drop(jobs);
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    assert!(jobs.list(&Filter { status: Some(Status::Crashed), ..Filter::default() }).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_reads_and_takes_longer_is_recorded_while_it_runs() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    let (go, may_go) = tokio::sync::oneshot::channel();
    let work = |call: Call, _| async move {
        // It does not wait for the disk.
        call.recorded.wait_to_read().now_or_never().expect("there is nothing to wait for")?;
        let _ = may_go.await;
        Ok(Reply::default())
    };
    let mut ticket = jobs.submit(NewJob { only_reads: true, ..new("t") }, work).await.unwrap();
    assert_eq!(jobs.0.store.get(ticket.id).unwrap().map(|job| job.status()), Some(Status::Running));
    assert_eq!(jobs.list(&Filter { status: Some(Status::Running), ..Filter::default() }).await.unwrap().len(), 1);
    go.send(()).unwrap();
    assert_eq!(ticket.done().await.unwrap().status(), Status::Completed);
    assert_eq!(jobs.get(ticket.id).await.unwrap().status(), Status::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_and_could_not_be_recorded_is_not_told() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    disk.platter().syncs = Some(0);
    let reading = || jobs.submit(NewJob { only_reads: true, ..new("t") }, |_, _| async { Ok(Reply::default()) });
    let problem = reading().await.unwrap_err();
    assert!(problem.message.contains("what it read is not told") && problem.retryable, "{problem:?}");
    assert!(problem.message.contains("no storage space"), "{problem:?}");
    disk.platter().syncs = None;
    settled(&jobs).await;
    assert_eq!(reading().await.unwrap().done().await.unwrap().status(), Status::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_of_what_only_reads_waits_for_its_record() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let jobs = Jobs::start(disk.store(), &settings(directory.path())).await.unwrap();
    let store = jobs.0.store.clone();
    let work = |call: Call, _| async move {
        call.recorded.wait().await?;
        let job = store.get(call.job.unwrap())?.unwrap();
        assert_eq!(job.status(), Status::Running);
        Ok(Reply::default())
    };
    let mut ticket = jobs.submit(NewJob { only_reads: true, ..new("t") }, work).await.unwrap();
    assert_eq!(ticket.done().await.unwrap().status(), Status::Completed);
}
