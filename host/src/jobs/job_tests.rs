//! Tests of the state machine. Transitions that must not happen do not compile, so what is left is every one that may, and
//! that each survives being written and read.

use super::*;
use crate::jobs::output::StreamCounts;
use crate::jobs::record;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn head() -> Head {
    Head {
        id: JobId(7),
        tool: "task_exec".to_owned(),
        server: Some("web".to_owned()),
        arguments: Map::from_iter([("cmd".to_owned(), "uptime".into())]),
        caller: "tests 1".to_owned(),
        origin: "core".to_owned(),
        created: at(0),
        attempts: 1,
        retried_from: None,
        root: None,
        rappel: Some(30),
        idempotency_key: None,
        detached: None,
    }
}

fn detached() -> Job<Running> {
    let head = Head { detached: Some("0a".to_owned()), ..head() };
    Job::<Pending>::new(head).start(at(2))
}

fn problem(code: Code) -> Problem {
    Problem { timestamp: at(9), ..Problem::new(code, "because") }
}

fn reply(is_error: bool) -> Reply {
    Reply { text: "done".to_owned(), is_error, ..Reply::default() }
}

fn running() -> Job<Running> {
    Job::<Pending>::new(head()).start(at(2))
}

type Case = (AnyJob, Status, Option<i64>, Option<i64>, bool);

/// Every job that can be, with its status, when it started and ended, and whether it may be retried.
fn all() -> Vec<Case> {
    let pending = || Job::<Pending>::new(head());
    let ended = AnyJob::Ended;
    vec![
        (AnyJob::Pending(pending()), Status::Pending, None, None, false),
        (AnyJob::Running(running()), Status::Running, Some(2), None, false),
        (ended(running().complete(reply(false), at(5))), Status::Completed, Some(2), Some(5), false),
        (ended(running().complete(reply(true), at(5))), Status::Failed, Some(2), Some(5), true),
        (ended(running().fail(problem(Code::AuthFailed), at(5))), Status::Failed, Some(2), Some(5), true),
        (ended(running().cancel(problem(Code::Cancelled), at(5))), Status::Cancelled, Some(2), Some(5), true),
        (ended(running().time_out(problem(Code::CommandTimeout), at(5))), Status::TimedOut, Some(2), Some(5), true),
        (ended(running().crash(problem(Code::Internal), at(5))), Status::Crashed, Some(2), Some(5), true),
        (ended(pending().cancel(problem(Code::Cancelled), at(5))), Status::Cancelled, None, Some(5), true),
        (ended(pending().crash(problem(Code::Internal), at(5))), Status::Crashed, None, Some(5), true),
    ]
}

#[test]
fn every_transition_leads_to_its_state_and_keeps_the_head() {
    for (job, status, started, ended, retry) in all() {
        assert_eq!(job.status(), status);
        assert_eq!(job.head(), &head(), "{status:?}");
        assert_eq!(job.started(), started.map(at), "{status:?}");
        assert_eq!(job.ended(), ended.map(at), "{status:?}");
        assert_eq!(job.is_active(), ended.is_none(), "{status:?}");
        assert_eq!(job.as_ended().is_some_and(Job::can_be_retried), retry, "{status:?}");
        assert_eq!(Status::parse(status.as_str()), Some(status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        let news = (job.reply().is_some(), job.problem().is_some());
        assert_ne!(news, (true, true), "{status:?}");
        assert_eq!(news == (false, false), job.is_active(), "{status:?}");
    }
}

#[test]
fn every_job_survives_being_written_and_read() {
    for (job, status, ..) in all() {
        assert_eq!(record::decode(&record::encode(&job).unwrap()), Ok(job), "{status:?}");
    }
    let counts = Counts { stdout: StreamCounts { total: 9, kept: 5 }, ..Counts::default() };
    let job = AnyJob::Ended(running().complete(reply(false), at(5)).with_output(counts));
    assert_eq!(record::decode(&record::encode(&job).unwrap()), Ok(job));
}

#[test]
fn only_a_detached_job_is_launched_and_that_survives_being_written() {
    assert_eq!(running().launch(), running());
    let launched = detached().launch();
    assert!(launched.state.launched && !detached().state.launched);
    assert_eq!(launched.head, detached().head);
    for job in [launched, detached()] {
        let job = AnyJob::Running(job);
        assert_eq!(record::decode(&record::encode(&job).unwrap()), Ok(job));
    }
}

#[test]
fn a_place_on_a_server_is_named_by_the_job_and_by_chance() {
    assert_eq!(running().head.place(), None);
    assert_eq!(detached().head.place().unwrap(), format!("{}-0a", JobId(7)));
}

#[test]
fn a_restart_ends_all_but_what_runs_by_itself() {
    for (job, status, ..) in all() {
        let expected = if job.is_active() { Status::Crashed } else { status };
        assert_eq!(job.recover(at(60)).status(), expected, "{status:?}");
    }
    for job in [detached(), detached().launch()] {
        assert_eq!(AnyJob::Running(job.clone()).recover(at(60)), AnyJob::Running(job));
    }
    // It had not begun, so nothing of it runs anywhere.
    let pending = AnyJob::Pending(Job::<Pending>::new(detached().head));
    assert_eq!(pending.recover(at(60)).status(), Status::Crashed);
    let ended = AnyJob::Ended(detached().launch().complete(reply(false), at(5)));
    assert_eq!(ended.clone().recover(at(60)), ended);
}

#[test]
fn records_of_older_and_newer_versions_can_be_read() {
    let old =
        br#"{"id":"j0000000000007","tool":"t","created":"2026-01-01T00:00:00Z","status":"pending","later":{"x":1}}"#;
    let job = record::decode(old).unwrap();
    assert_eq!((job.status(), job.head().attempts, job.head().caller.as_str()), (Status::Pending, 1, ""));
    for wrong in [
        r#"{"id":"j0000000000007","tool":"t","created":"2026-01-01T00:00:00Z","status":"running"}"#,
        r#"{"id":"j0000000000007","tool":"t","created":"2026-01-01T00:00:00Z","status":"completed","ended":"2026-01-01T00:00:00Z"}"#,
        r#"{"id":"j0000000000007","tool":"t","created":"2026-01-01T00:00:00Z","status":"of a later version"}"#,
        "not json",
    ] {
        record::decode(wrong.as_bytes()).unwrap_err();
    }
}

#[test]
fn what_the_orchestrators_end_interrupts_is_crashed_and_what_had_ended_stays() {
    for (job, status, started, ended, _) in all() {
        let crashed = AnyJob::Ended(job.crash(at(60)));
        let expected = if ended.is_some() { status } else { Status::Crashed };
        assert_eq!(crashed.status(), expected);
        assert_eq!(crashed.started(), started.map(at));
        assert_eq!(crashed.ended(), Some(at(ended.unwrap_or(60))));
        if ended.is_none() {
            assert_eq!(crashed.problem().unwrap().retryable, started.is_none(), "only what never began had no effect");
        }
    }
}

#[test]
fn a_duration_runs_until_the_end_and_is_never_negative() {
    for (job, status, started, ended, _) in all() {
        let expected = started.map(|started| Duration::from_secs((ended.unwrap_or(12) - started) as u64));
        assert_eq!(job.duration(at(12)), expected, "{status:?}");
    }
    assert_eq!(AnyJob::Running(running()).duration(at(-100)), Some(Duration::ZERO));
}

#[test]
fn a_reminder_comes_once_its_time_has_passed_and_the_job_still_runs() {
    for (job, status, ..) in all() {
        assert_eq!(job.reminder(at(31)), None, "{status:?}");
        assert_eq!(job.reminder(at(32)).is_some(), status == Status::Running, "{status:?}");
    }
    let text = AnyJob::Running(running()).reminder(at(42)).unwrap();
    assert_eq!(text, "reminder: task_exec has been running for 40 s (you asked to be reminded after 30 s)");
}
