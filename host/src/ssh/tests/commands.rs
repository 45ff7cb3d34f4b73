//! Commands: how they end, and how they are ended.

use std::time::Duration;

use super::fake::{Manners, start};
use super::*;
use crate::error::Code;
use crate::ssh::error::Loss;

#[tokio::test]
async fn output_and_exit_status_arrive() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let (exit, kept) = run(&pool, &fake.target, "echo hi").await.unwrap();
    assert_eq!((exit.code, exit.signal, kept.stdout.as_slice(), exit.left_open), (Some(0), None, &b"hi\n"[..], false));
    let (exit, kept) = run(&pool, &fake.target, "fail 7").await.unwrap();
    assert_eq!((exit.code, kept.stderr.as_slice(), kept.stdout.as_slice()), (Some(7), &b"no\n"[..], &b""[..]));
    let (exit, _) = run(&pool, &fake.target, "signalled").await.unwrap();
    assert_eq!((exit.code, exit.signal.as_deref()), (None, Some("SEGV")));
}

#[tokio::test]
async fn standard_input_is_passed_while_output_is_read() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    // More than both windows hold: it only comes through when both directions move at once.
    let input: Vec<u8> = (0..6_000_000u32).map(|byte| byte as u8).collect();
    let request =
        Request { line: "cat".to_owned(), stdin: Some(input.clone().into()), pty: false, ..Request::default() };
    let (exit, kept) = run_with(&pool, &fake.target, request, &call()).await.unwrap();
    assert_eq!(exit.code, Some(0));
    assert!(kept.stdout == input, "{} of {} bytes came back", kept.stdout.len(), input.len());
    // Without input it is closed at once, so that nobody waits for it.
    assert_eq!(run(&pool, &fake.target, "cat").await.unwrap().0.code, Some(0));
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_command_is_never_retried() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    for (line, what) in [("cut", Loss::Connection), ("no-status", Loss::Status)] {
        let error = run(&pool, &fake.target, line).await.err().unwrap();
        assert!(matches!(error, SshError::CommandLost { loss, .. } if loss == what), "{error}");
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("it may still be running"), "{error}");
        assert_eq!(Problem::from(error).code, Code::ConnectionFailed);
    }
    assert_eq!(run(&pool, &fake.target, "echo again").await.unwrap().0.code, Some(0));
}

#[tokio::test]
async fn a_command_that_never_left_was_not_run() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    let call = call();
    let open = || pool.channel("fake", Purpose::Commands, || async { Ok(fake.target.clone()) }, &call);
    let (cuts, late) = (open().await.unwrap(), open().await.unwrap());
    let error = exec(cuts, &mut request("cut"), &call, &mut Kept::default()).await.unwrap_err();
    assert!(matches!(error, SshError::CommandLost { .. }), "{error}");
    let mut unsent = Request { stdin: Some(b"x".as_slice().into()), ..request("cat") };
    let error = exec(late, &mut unsent, &call, &mut Kept::default()).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { step: Step::Channel, .. }) && error.is_retryable(), "{error}");
    // The same request can be made again as it is.
    let mut kept = Kept::default();
    exec(open().await.unwrap(), &mut unsent, &call, &mut kept).await.unwrap();
    assert_eq!(kept.stdout, b"x");
}

#[tokio::test]
async fn a_refused_request_is_told() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let error = run(&pool, &fake.target, "refuse").await.err().unwrap();
    assert!(matches!(error, SshError::RequestRefused { what: "run the command", .. }), "{error}");
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_not_waited_for() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let (exit, kept) = run(&pool, &fake.target, "daemon").await.unwrap();
    assert_eq!((exit.code, exit.left_open, kept.stdout.as_slice()), (Some(0), true, &b"started"[..]));
    eventually("the channel is closed", || fake.seen.open.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
}

/// A command that ends with `signal` only is stopped by a deadline: what was sent, and was its end seen?
async fn check_stop(line: &str, sent: &[&'static str], confirmed: bool) {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    run(&pool, &fake.target, "echo warm").await.unwrap();
    let short = Call::new("test", "test").within(Duration::from_millis(100));
    let error = run_with(&pool, &fake.target, request(line), &short).await.err().unwrap();
    let SshError::CommandTimeout { stop, .. } = &error else { panic!("{error}") };
    assert_eq!((stop.sent.as_slice(), stop.confirmed), (sent, confirmed), "{error}");
    assert_eq!(*fake.seen.signals.lock().unwrap(), sent);
    assert_eq!(error.to_string().contains("may still be running"), !confirmed);
    let problem = Problem::from(error);
    assert_eq!((problem.code, problem.retryable), (Code::CommandTimeout, false));
    assert_eq!(problem.details["end_confirmed"], confirmed);
    eventually("the place is free again", || pool.stats()[0].connections[0].channels == 0).await;
}

#[tokio::test]
async fn a_command_past_its_time_is_interrupted() {
    check_stop("hang INT", &["INT"], true).await;
}

#[tokio::test]
async fn a_command_that_does_not_listen_is_killed() {
    check_stop("hang KILL", &["INT", "TERM", "KILL"], true).await;
}

#[tokio::test]
async fn a_command_that_no_signal_reaches_is_reported_as_perhaps_running() {
    check_stop("deaf", &["INT", "TERM", "KILL"], false).await;
}

#[tokio::test]
async fn a_cancelled_command_is_stopped() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let call = call();
    let cancel = call.cancel.clone();
    let running = run_with(&pool, &fake.target, request("hang TERM"), &call);
    let cancelling = async {
        eventually("the command runs", || fake.seen.open.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(running, cancelling);
    let error = result.err().unwrap();
    // The cancel may come before the command was sent; then there was nothing to stop.
    match &error {
        SshError::CommandCancelled { stop, .. } => assert!(stop.confirmed && stop.sent == ["INT", "TERM"], "{error}"),
        other => assert!(matches!(other, SshError::Cancelled { .. }), "{other}"),
    }
    assert_eq!(Problem::from(error).code, Code::Cancelled);
}

#[tokio::test]
async fn a_running_command_can_be_signalled_also_while_its_output_is_not_taken() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let (asks, asked) = tokio::sync::mpsc::channel(1);
    let request = Request { signals: Some(asked), ..request("hang TERM") };
    let call = call();
    let running = run_with(&pool, &fake.target, request, &call);
    let asking = async {
        for name in ["USR1", "TERM"] {
            let (sent, was_sent) = tokio::sync::oneshot::channel();
            asks.send(Signal { name, sent }).await.unwrap();
            was_sent.await.unwrap();
        }
    };
    let (result, ()) = tokio::join!(running, asking);
    assert_eq!(result.unwrap().0.signal.as_deref(), Some("TERM"));
    assert_eq!(*fake.seen.signals.lock().unwrap(), ["USR1", "TERM"]);

    let (asks, asked) = tokio::sync::mpsc::channel(1);
    let mut request = Request { signals: Some(asked), ..super::request("echo hi") };
    let lease = pool.channel("fake", Purpose::Processes, || async { Ok(fake.target.clone()) }, &call).await.unwrap();
    let short = Call::new("test", "test").within(Duration::from_secs(5));
    let (sent, was_sent) = tokio::sync::oneshot::channel();
    asks.send(Signal { name: "HUP", sent }).await.unwrap();
    let mut stuck = Stuck;
    tokio::select! {
        ended = exec(lease, &mut request, &short, &mut stuck) => panic!("{ended:?}"),
        sent = was_sent => sent.unwrap(),
    }
}

/// Takes nothing.
struct Full;

impl OutputSink for Full {
    async fn write(&mut self, _: Stream, _: &[u8]) -> Result<(), Problem> {
        Err(Problem::internal("the disk is full"))
    }
}

/// Never comes back.
struct Stuck;

impl OutputSink for Stuck {
    async fn write(&mut self, _: Stream, _: &[u8]) -> Result<(), Problem> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_output_that_cannot_be_taken_stops_the_command() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let call = call();
    let lease = pool.channel("fake", Purpose::Commands, || async { Ok(fake.target.clone()) }, &call).await.unwrap();
    let mut request =
        Request { line: "cat".to_owned(), stdin: Some(b"x".as_slice().into()), pty: false, ..Request::default() };
    let error = exec(lease, &mut request, &call, &mut Full).await.unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(Problem::from(error).code, Code::Internal);
}

#[tokio::test]
async fn a_stuck_output_does_not_outlive_the_deadline() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let lease = pool.channel("fake", Purpose::Commands, || async { Ok(fake.target.clone()) }, &call()).await.unwrap();
    let short = Call::new("test", "test").within(Duration::from_millis(100));
    let error = exec(lease, &mut request("echo hi"), &short, &mut Stuck).await.unwrap_err();
    assert!(matches!(error, SshError::CommandTimeout { .. }), "{error}");
}
