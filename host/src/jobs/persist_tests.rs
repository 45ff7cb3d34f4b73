//! The disk fails while there are jobs, and comes back.

use std::time::Duration;

use super::tests::{new, settings};
use super::*;
use crate::call::Reply;
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
