//! Tests of the queue: how jobs end, what waits for what, what is found again, what is forgotten.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::call::{Call, Reply, Report};
use crate::capability::Stream;
use crate::config::Settings;
use crate::error::{Code, Problem};
use crate::store::Store;

pub(super) fn settings(data: &Path) -> Settings {
    let env = BTreeMap::from([
        ("MCP_DATA_DIR".to_owned(), data.display().to_string()),
        ("MAX_QUEUE_SIZE".to_owned(), "100".to_owned()),
        ("MAX_RUNNING_JOBS".to_owned(), "64".to_owned()),
    ]);
    Settings::from_sources(&env, &BTreeMap::new(), None).unwrap()
}

pub(super) async fn open(settings: &Settings) -> Jobs {
    let store = Store::open(&settings.data_dir.join("orchestrator.redb")).unwrap();
    Jobs::start(store, settings).await.unwrap()
}

pub(super) fn new(tool: &str) -> NewJob {
    NewJob { tool: tool.to_owned(), origin: "core".to_owned(), ..NewJob::default() }
}

async fn here() -> (tempfile::TempDir, Jobs) {
    let directory = tempfile::tempdir().unwrap();
    let jobs = open(&settings(directory.path())).await;
    (directory, jobs)
}

async fn until_cancelled(call: Call) -> Result<Reply, Problem> {
    call.cancel.cancelled().await;
    Err(Problem::new(Code::Cancelled, "stopped"))
}

#[tokio::test]
async fn what_the_work_returns_decides_how_the_job_ends() {
    let (_directory, jobs) = here().await;
    let check = async |result: Result<Reply, Problem>, expected| {
        let mut ticket = jobs.submit(new("t"), |_, _| async { result }).await.unwrap();
        let told = ticket.done().await.unwrap();
        assert_eq!(told.status(), expected);
        assert_eq!(jobs.get(ticket.id).await.unwrap(), *told, "told and stored are the same");
    };
    let problem = |code| Err(Problem::new(code, "x"));
    check(Ok(Reply::default()), Status::Completed).await;
    check(Ok(Reply::default().error(true)), Status::Failed).await;
    check(problem(Code::ConnectionFailed), Status::Failed).await;
    check(problem(Code::CommandTimeout), Status::TimedOut).await;
    check(problem(Code::PluginTimeout), Status::TimedOut).await;
    // Nobody cancelled this one.
    check(problem(Code::Cancelled), Status::Failed).await;
}

#[tokio::test]
async fn a_panic_ends_the_job_as_failed() {
    let (_directory, jobs) = here().await;
    let mut ticket = jobs.submit(new("t"), |_, _| async { panic!("by the test") }).await.unwrap();
    let job = ticket.done().await.unwrap();
    assert_eq!((job.status(), job.problem().unwrap().code), (Status::Failed, Code::Internal));
    assert_eq!(jobs.count(), 0);
}

#[tokio::test]
async fn a_job_goes_on_without_its_ticket_and_shows_how_far_it_is() {
    let (_directory, jobs) = here().await;
    let (go, may_go) = tokio::sync::oneshot::channel();
    let ticket = jobs.submit(new("t"), |call, spool| async move {
        spool.write(Stream::Stdout, b"so far").await;
        call.progress.report(Report { done: 1.0, ..Report::default() });
        let _ = may_go.await;
        Ok(Reply::default())
    });
    let id = ticket.await.unwrap().id;
    let mut reports = jobs.reports(id).unwrap();
    assert_eq!(reports.next().await.unwrap().done, 1.0);
    assert_eq!(jobs.partial_output(id, 100).await.unwrap().stdout.text, "so far");
    let never = CancellationToken::new();
    let waited = jobs.wait(id, Duration::from_millis(1), &never).await.unwrap();
    assert_eq!(waited.status(), Status::Running);
    let gone = CancellationToken::new();
    gone.cancel();
    assert_eq!(jobs.wait(id, Duration::from_secs(60), &gone).await.unwrap_err().code, Code::Cancelled);
    go.send(()).unwrap();
    let waited = jobs.wait(id, Duration::from_secs(60), &never).await.unwrap();
    assert_eq!(waited.status(), Status::Completed);
    assert!(jobs.reports(id).is_none());
    let page = jobs.output(id).await.unwrap().page(Stream::Stdout, 0, 100).await.unwrap();
    assert_eq!((page.text.as_str(), page.next), ("so far", None));
}

#[tokio::test]
async fn running_and_waiting_jobs_can_be_cancelled() {
    let (_directory, jobs) = here().await;
    let mut ids = Vec::new();
    for _ in 0..65 {
        ids.push(jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap().id);
    }
    let (first, last) = (ids[0], ids[64]);
    assert_eq!(jobs.get(last).await.unwrap().status(), Status::Pending);
    let pending = Filter { status: Some(Status::Pending), ..Filter::default() };
    assert_eq!(jobs.list(&pending).await.unwrap().len(), 1);
    let job = jobs.cancel(last).await.unwrap();
    assert_eq!((job.status(), job.started()), (Status::Cancelled, None));
    assert_eq!(jobs.cancel(first).await.unwrap().status(), Status::Cancelled);
    assert_eq!(jobs.cancel(first).await.unwrap().status(), Status::Cancelled, "again does no harm");
    let unknown = jobs.cancel(crate::call::JobId(1)).await.unwrap_err();
    assert_eq!(unknown.code, Code::TaskNotFound);
}

#[tokio::test]
async fn a_freed_place_goes_to_who_waits() {
    let (_directory, jobs) = here().await;
    let mut ids = Vec::new();
    for _ in 0..64 {
        ids.push(jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap().id);
    }
    let mut waiting = jobs.submit(new("t"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    assert_eq!(jobs.get(waiting.id).await.unwrap().status(), Status::Pending);
    jobs.cancel(ids[0]).await.unwrap();
    assert_eq!(waiting.done().await.unwrap().status(), Status::Completed);
}

#[tokio::test]
async fn a_full_queue_says_what_to_do() {
    let (_directory, jobs) = here().await;
    for _ in 0..100 {
        jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap();
    }
    let problem = jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::QueueFull, true));
    assert!(problem.hint.unwrap().contains("MAX_QUEUE_SIZE"));
    jobs.shutdown(Duration::from_secs(10)).await;
    assert_eq!(jobs.count(), 0);
    let cancelled = jobs.stats().await.unwrap().by_status.get(&Status::Cancelled).copied();
    assert_eq!(cancelled, Some(100));
    assert_eq!(jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap_err().code, Code::QueueFull);
}

#[tokio::test]
async fn what_does_not_stop_at_shutdown_is_ended_as_crashed() {
    let (_directory, jobs) = here().await;
    let ticket = jobs.submit(new("t"), |_, _| std::future::pending()).await.unwrap();
    jobs.shutdown(Duration::from_millis(10)).await;
    assert_eq!(jobs.get(ticket.id).await.unwrap().status(), Status::Crashed);
}

#[tokio::test]
async fn one_idempotency_key_is_one_job() {
    let (_directory, jobs) = here().await;
    let keyed = |cmd: &str| NewJob {
        idempotency_key: Some("k".to_owned()),
        arguments: serde_json::Map::from_iter([("cmd".to_owned(), cmd.into())]),
        ..new("t")
    };
    let first = jobs.submit(keyed("a"), |call, _| until_cancelled(call)).await.unwrap();
    let again = jobs.submit(keyed("a"), |_, _| async { panic!("must not run") }).await.unwrap();
    assert_eq!((again.id, again.existing, first.existing), (first.id, true, false));
    jobs.cancel(first.id).await.unwrap();
    let mut after = jobs.submit(keyed("a"), |_, _| async { panic!("must not run") }).await.unwrap();
    assert_eq!(after.done().await.unwrap().id(), first.id);
    let other = jobs.submit(keyed("b"), |_, _| async { panic!("must not run") }).await.unwrap_err();
    assert_eq!(other.code, Code::InvalidArgument);
    assert_eq!(jobs.stats().await.unwrap().total, 1);
}

#[tokio::test]
async fn a_chain_of_retries_has_an_end() {
    let (_directory, jobs) = here().await;
    let fail = |_, _| async { Err(Problem::internal("x")) };
    let mut ticket = jobs.submit(new("t"), fail).await.unwrap();
    let first = ticket.id;
    ticket.done().await.unwrap();
    let mut last = first;
    for attempt in 2..=4 {
        let mut ticket = jobs.submit(jobs.retry(last).await.unwrap(), fail).await.unwrap();
        let job = ticket.done().await.unwrap();
        assert_eq!((job.head().attempts, job.head().retried_from), (attempt, Some(last)));
        last = ticket.id;
    }
    // Neither from the end of the chain nor from its beginning.
    for from in [last, first] {
        let problem = jobs.submit(jobs.retry(from).await.unwrap(), fail).await.unwrap_err();
        assert_eq!(problem.code, Code::RetryLimitExceeded);
    }
    let mut ticket = jobs.submit(new("t"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    ticket.done().await.unwrap();
    assert_eq!(jobs.retry(ticket.id).await.unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn a_listing_is_newest_first_and_filtered() {
    let (_directory, jobs) = here().await;
    let mut ids = Vec::new();
    for number in 0..10 {
        let server = Some(if number % 2 == 0 { "even" } else { "odd" }.to_owned());
        let tool = if number < 5 { "low" } else { "high" };
        let result = Ok(Reply::default().error(number == 3));
        let mut ticket = jobs.submit(NewJob { server, ..new(tool) }, |_, _| async { result }).await.unwrap();
        ids.push(ticket.done().await.unwrap().id());
    }
    let check = async |filter: Filter, expected: &[usize]| {
        let found: Vec<_> = jobs.list(&filter).await.unwrap().iter().map(AnyJob::id).collect();
        assert_eq!(found, expected.iter().map(|index| ids[*index]).collect::<Vec<_>>(), "{filter:?}");
    };
    let any = Filter::default;
    check(Filter { limit: 3, ..any() }, &[9, 8, 7]).await;
    check(Filter { server: Some("odd".to_owned()), limit: 2, ..any() }, &[9, 7]).await;
    check(Filter { server: Some("odd".to_owned()), tool: Some("low".to_owned()), ..any() }, &[3, 1]).await;
    check(Filter { status: Some(Status::Failed), ..any() }, &[3]).await;
    check(Filter { status: Some(Status::Running), ..any() }, &[]).await;
    check(Filter { server: Some("od".to_owned()), ..any() }, &[]).await;
    let since = jobs.get(ids[8]).await.unwrap().head().created;
    check(Filter { since: Some(since), ..any() }, &[9, 8]).await;
    let stats = jobs.stats().await.unwrap();
    assert_eq!((stats.total, stats.sample, stats.success_rate), (10, 10, Some(0.9)));
    assert_eq!(stats.by_type.get("low"), Some(&5));
    assert_eq!(stats.by_tool.get("high").unwrap().count, 5);
}

#[tokio::test]
async fn old_jobs_are_forgotten_with_everything_about_them() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path());
    let jobs = open(&settings).await;
    let store = &jobs.0.store;
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), server: Some("web".to_owned()), ..new("t") };
    let mut ticket = jobs
        .submit(keyed(), |_, spool| async move {
            spool.write(Stream::Stdout, &[b'x'; 10_000]).await;
            spool.write(Stream::Stderr, b"small").await;
            Ok(Reply::default())
        })
        .await
        .unwrap();
    let id = ticket.id;
    ticket.done().await.unwrap();
    let running = jobs.submit(new("t"), |call, _| until_cancelled(call)).await.unwrap();
    let outputs = directory.path().join("outputs");
    let files = || std::fs::read_dir(&outputs).unwrap().count();
    assert_eq!(files(), 1);
    let hour = Duration::from_secs(3600);
    let (now, never) = (Timestamp::now(), CancellationToken::new());
    assert_eq!(keeper::forget(store, &outputs, hour, now, &never).await.unwrap(), 0);
    let later = now + SignedDuration::from_hours(2);
    assert_eq!(keeper::forget(store, &outputs, hour, later, &never).await.unwrap(), 1);
    assert_eq!(jobs.get(id).await.unwrap_err().code, Code::TaskNotFound);
    assert_eq!(jobs.get(running.id).await.unwrap().status(), Status::Running);
    assert_eq!((files(), store.inline_output(id, Stream::Stderr).unwrap()), (0, None));
    assert_eq!(jobs.stats().await.unwrap().total, 1);
    let filter = Filter { server: Some("web".to_owned()), ..Filter::default() };
    assert!(jobs.list(&filter).await.unwrap().is_empty());
    assert!(!jobs.submit(keyed(), |_, _| async { Ok(Reply::default()) }).await.unwrap().existing);
}

#[tokio::test]
async fn output_files_without_a_job_are_removed_and_others_left_alone() {
    let (directory, jobs) = here().await;
    let outputs = directory.path().join("outputs");
    let mut ticket = jobs
        .submit(new("t"), |_, spool| async move {
            spool.write(Stream::Stdout, &[b'x'; 10_000]).await;
            Ok(Reply::default())
        })
        .await
        .unwrap();
    ticket.done().await.unwrap();
    std::fs::write(outputs.join("j0000000000005.stdout"), "orphan").unwrap();
    std::fs::write(outputs.join("notes.txt"), "not ours").unwrap();
    keeper::sweep_files(&jobs.0.store, &outputs, u64::MAX).await.unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&outputs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [format!("{}.stdout", ticket.id), "notes.txt".to_owned()]);
}

/// One place at work, which `hold` takes; the rest waits.
async fn one_place() -> (tempfile::TempDir, Jobs, crate::call::JobId) {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { max_running_jobs: 1, ..settings(directory.path()) };
    let jobs = open(&settings).await;
    let held = jobs.submit(new("hold"), |call, _| until_cancelled(call)).await.unwrap().id;
    (directory, jobs, held)
}

fn arguments(number: u64) -> serde_json::Map<String, serde_json::Value> {
    serde_json::Map::from_iter([("number".to_owned(), number.into())])
}

/// Makes work that answers with what the record told, and counts how often it was made.
fn make_again(jobs: &Jobs) -> Arc<AtomicUsize> {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    jobs.make_again_by(move |head| {
        count.fetch_add(1, Ordering::SeqCst);
        if head.tool == "unknown" {
            return Err(Problem::invalid("there is no tool \"unknown\""));
        }
        let structured = head.arguments.clone();
        Ok(Box::new(move |call: Call, spool| {
            async move {
                spool.write(Stream::Stdout, b"made again").await;
                call.progress.report(Report { done: 7.0, ..Report::default() });
                Ok(Reply { structured, ..Reply::default() })
            }
            .boxed()
        }))
    });
    made
}

async fn must_not_run(_: Call, _: Spool) -> Result<Reply, Problem> {
    panic!("this work was to be let go")
}

#[tokio::test]
async fn a_job_that_waits_is_an_id_and_is_made_again_from_its_record_once() {
    let (_directory, jobs, held) = one_place().await;
    let made = make_again(&jobs);
    let mut tickets = Vec::new();
    for number in 0..20 {
        let new = NewJob { arguments: arguments(number), ..new("t") };
        tickets.push(jobs.submit(new, must_not_run).await.unwrap());
    }
    let nothing_but_ids = || jobs.0.roster.present().iter().all(|active| active.id == held);
    assert!(!nothing_but_ids(), "they are waited for");
    let mut reports = jobs.reports(tickets[3].id).unwrap();
    let ids: Vec<_> = tickets.iter().map(|ticket| ticket.id).collect();
    let mut first = tickets.swap_remove(0);
    drop(tickets);
    assert_eq!(jobs.0.roster.present().len(), 3, "the one at work and the two that are still looked at");
    assert_eq!((made.load(Ordering::SeqCst), jobs.count()), (0, 21));
    assert_eq!(jobs.get(ids[19]).await.unwrap().status(), Status::Pending);
    let pending = Filter { status: Some(Status::Pending), limit: 100, ..Filter::default() };
    assert_eq!(jobs.list(&pending).await.unwrap().len(), 20);
    let never = CancellationToken::new();
    let waited = jobs.wait(ids[5], Duration::from_millis(1), &never).await.unwrap();
    assert_eq!(waited.status(), Status::Pending);
    assert_eq!(jobs.0.roster.present().len(), 3, "who waited is gone");

    let later = tokio::spawn({
        let (jobs, never) = (jobs.clone(), never.clone());
        let id = ids[6];
        async move { jobs.wait(id, Duration::from_secs(60), &never).await }
    });
    jobs.cancel(held).await.unwrap();
    assert_eq!(reports.next().await.unwrap().done, 7.0);
    assert_eq!(first.done().await.unwrap().id(), ids[0]);
    assert_eq!(later.await.unwrap().unwrap().status(), Status::Completed);
    for (number, id) in ids.iter().enumerate() {
        let job = jobs.wait(*id, Duration::from_secs(60), &never).await.unwrap();
        assert_eq!(job.reply().unwrap().structured, arguments(number as u64));
        let page = jobs.output(*id).await.unwrap().page(Stream::Stdout, 0, 100).await.unwrap();
        assert_eq!(page.text, "made again");
    }
    assert_eq!((made.load(Ordering::SeqCst), jobs.count()), (20, 0));
}

#[tokio::test]
async fn work_of_which_the_record_does_not_tell_everything_is_kept() {
    let (_directory, jobs, held) = one_place().await;
    let made = make_again(&jobs);
    let withheld = NewJob { withheld: true, ..new("t") };
    let mut ticket = jobs
        .submit(withheld, |_, _| async { Ok(Reply { text: "secret".to_owned(), ..Reply::default() }) })
        .await
        .unwrap();
    jobs.cancel(held).await.unwrap();
    assert_eq!(ticket.done().await.unwrap().reply().unwrap().text, "secret");
    assert_eq!(made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_its_turn_is_not_made_again() {
    let (_directory, jobs, held) = one_place().await;
    let made = make_again(&jobs);
    // One with somebody who waits for it, one without.
    let mut watched = jobs.submit(new("t"), must_not_run).await.unwrap();
    let alone = jobs.submit(new("t"), must_not_run).await.unwrap().id;
    for id in [watched.id, alone] {
        let job = jobs.cancel(id).await.unwrap();
        assert_eq!((job.status(), job.started()), (Status::Cancelled, None));
    }
    assert_eq!(watched.done().await.unwrap().status(), Status::Cancelled);
    jobs.cancel(held).await.unwrap();
    let mut last = jobs.submit(new("t"), |_, _| async { Ok(Reply::default()) }).await.unwrap();
    last.done().await.unwrap();
    assert_eq!((made.load(Ordering::SeqCst), jobs.count()), (0, 0));
}

#[tokio::test]
async fn a_job_that_cannot_be_made_again_fails_and_the_next_one_has_its_place() {
    let (_directory, jobs, held) = one_place().await;
    make_again(&jobs);
    let mut unknown = jobs.submit(new("unknown"), must_not_run).await.unwrap();
    let mut next = jobs.submit(new("t"), must_not_run).await.unwrap();
    jobs.cancel(held).await.unwrap();
    let failed = unknown.done().await.unwrap();
    assert_eq!((failed.status(), failed.problem().unwrap().code), (Status::Failed, Code::InvalidArgument));
    assert_eq!(next.done().await.unwrap().status(), Status::Completed);
}

#[tokio::test]
async fn a_queue_that_closes_ends_what_waits_as_cancelled() {
    let (_directory, jobs, _) = one_place().await;
    let made = make_again(&jobs);
    for _ in 0..50 {
        jobs.submit(new("t"), must_not_run).await.unwrap();
    }
    jobs.shutdown(Duration::from_secs(10)).await;
    let cancelled = jobs.stats().await.unwrap().by_status.get(&Status::Cancelled).copied();
    assert_eq!((cancelled, made.load(Ordering::SeqCst), jobs.count()), (Some(51), 0, 0));
}
