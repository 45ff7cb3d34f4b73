//! The pool: reuse, limits, refusals, dead connections, and that nothing is left behind.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;

use super::fake::{Manners, start};
use super::*;
use crate::error::Code;

#[tokio::test]
async fn a_connection_is_reused_and_its_secrets_are_asked_for_once() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let asked = AtomicUsize::new(0);
    for _ in 0..20 {
        let target = || async {
            asked.fetch_add(1, Ordering::SeqCst);
            Ok(fake.target.clone())
        };
        let lease = pool.channel("fake", Purpose::Commands, target, &call()).await.unwrap();
        exec(lease, &mut request("echo x"), &call(), &mut Kept::default()).await.unwrap();
    }
    assert_eq!((fake.seen.connections.load(Ordering::SeqCst), asked.load(Ordering::SeqCst)), (1, 1));
    assert!(pool.is_connected("fake") && !pool.is_connected("other"));
    let stats = pool.stats();
    assert_eq!((stats[0].connections.len(), stats[0].connections[0].channels, stats[0].waiting), (1, 0, 0));
    assert!(stats[0].connections[0].bytes_in > 100 && stats[0].connections[0].bytes_out > 100);
}

#[tokio::test]
async fn first_calls_at_the_same_time_open_no_more_connections_than_needed() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    for result in join_all((0..4).map(|_| run(&pool, &fake.target, "echo x"))).await {
        result.unwrap();
    }
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_calls_share_few_connections_whatever_the_server_allows() {
    for max_sessions in [0, 1, 2, 3] {
        let fake = start(Manners { max_sessions, ..Manners::default() }).await;
        let pool = Pool::new(settings(3, 1), no_known_hosts());
        for result in join_all((0..100).map(|_| run(&pool, &fake.target, "echo x"))).await {
            assert_eq!(result.unwrap().1.stdout, b"x\n");
        }
        assert!(fake.seen.connections.load(Ordering::SeqCst) <= 3);
        let refused = fake.seen.refused.load(Ordering::SeqCst);
        assert!(refused < 40, "{refused} refusals with {max_sessions} sessions: nothing was learned");
        assert_eq!(pool.stats()[0].waiting, 0);
    }
}

#[tokio::test]
async fn a_full_pool_makes_a_call_wait_until_its_deadline() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    let target = || async { Ok(fake.target.clone()) };
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.channel("fake", Purpose::Commands, target, &call()).await.unwrap());
    }
    let short = Call::new("test", "test").within(Duration::from_millis(50));
    let error = pool.channel("fake", Purpose::Commands, target, &short).await.err().unwrap();
    assert!(matches!(error, SshError::Timeout { step: Step::Pool, .. }) && error.is_retryable(), "{error}");
    // One place given back is enough for one who waits.
    let call = call();
    let waiting = pool.channel("fake", Purpose::Commands, target, &call);
    let (lease, ()) = tokio::join!(waiting, async { drop(leases.pop()) });
    drop(lease.unwrap());
}

#[tokio::test]
async fn ten_thousand_dropped_leases_leave_nothing_behind() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let target = || async { Ok(fake.target.clone()) };
    drop(pool.channel("fake", Purpose::Commands, target, &call()).await.unwrap());
    eventually("only the connection's own tasks are left", || pool.tasks() <= 2).await;
    for _ in 0..500 {
        let (pool, fake) = (&pool, &fake);
        let calls = (0..20).map(|number| async move {
            let call = call();
            let lease = pool_channel(pool, fake, &call).await;
            // Half of them are dropped with a command running.
            if number % 2 == 0 {
                let (mut kept, mut deaf) = (Kept::default(), request("deaf"));
                let running = exec(lease, &mut deaf, &call, &mut kept);
                let _ = futures::poll!(Box::pin(running));
            }
        });
        join_all(calls).await;
    }
    // A connection is replaced after a thousand channels that were closed from our side.
    let connections = fake.seen.connections.load(Ordering::SeqCst);
    assert!((10..=20).contains(&connections), "{connections} connections");
    assert!(pool.stats()[0].connections.len() <= 5);
    eventually("every channel is closed", || fake.seen.open.load(Ordering::SeqCst) == 0).await;
    // What is left: a watcher per connection, and the idle closer.
    eventually("every task has ended", || pool.tasks() <= pool.stats()[0].connections.len() + 1).await;
    assert_eq!(pool.stats()[0].connections.iter().map(|connection| connection.channels).sum::<usize>(), 0);
    pool.shutdown().await;
    assert_eq!(pool.tasks(), 0);
}

async fn pool_channel(pool: &Pool, fake: &super::fake::Fake, call: &Call) -> Lease {
    pool.channel("fake", Purpose::Commands, || async { Ok(fake.target.clone()) }, call).await.unwrap()
}

#[tokio::test]
async fn a_call_given_up_while_it_opens_its_channel_gives_everything_back() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    drop(pool_channel(&pool, &fake, &call()).await);
    for _ in 0..50 {
        let call = call();
        let opening = pool_channel(&pool, &fake, &call);
        // Polled once, so that the request has left, and dropped.
        let _ = futures::poll!(Box::pin(opening));
    }
    run(&pool, &fake.target, "echo x").await.unwrap();
    eventually("every channel is closed", || fake.seen.open.load(Ordering::SeqCst) == 0).await;
    eventually("every place is free", || pool.stats()[0].connections[0].channels == 0).await;
}

#[tokio::test]
async fn a_dead_connection_is_replaced_without_anybody_noticing() {
    let fake = start(Manners::default()).await;
    let mut quick = settings(5, 1);
    quick.keep_alive_interval = Some(Duration::from_millis(50));
    let pool = Pool::new(quick, no_known_hosts());
    // The server freezes under a command: the keep-alive notices.
    let error = run(&pool, &fake.target, "freeze").await.err().unwrap();
    assert!(matches!(error, SshError::CommandLost { .. }), "{error}");
    eventually("the connection is forgotten", || pool.stats()[0].connections.is_empty()).await;
    run(&pool, &fake.target, "echo x").await.unwrap();
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_open_channels_is_left_for_another() {
    let fake = start(Manners { deaf_connections: 1, ..Manners::default() }).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let call = Call::new("test", "test");
    // Nothing was run on it, so nobody notices but by the time it takes.
    run_with(&pool, &fake.target, request("echo x"), &call).await.unwrap();
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn idle_connections_are_closed_but_the_last() {
    for (min, kept) in [(0, 0), (1, 1), (2, 2)] {
        let fake = start(Manners::default()).await;
        let mut quick = settings(5, min);
        quick.idle_timeout = Duration::from_millis(50);
        let pool = Pool::new(quick, no_known_hosts());
        let mut leases = Vec::new();
        for _ in 0..12 {
            leases.push(pool_channel(&pool, &fake, &call()).await);
        }
        assert_eq!(pool.stats()[0].connections.len(), 3);
        drop(leases);
        eventually("the idle ones are closed", || pool.stats()[0].connections.len() == kept).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(pool.stats()[0].connections.len(), kept, "those that are kept stay");
        run(&pool, &fake.target, "echo x").await.unwrap();
    }
}

#[tokio::test]
async fn one_refused_login_is_told_to_all_who_waited_for_it() {
    let fake = start(Manners::default()).await;
    let mut target = fake.target.clone();
    target.logins = vec![Login::Password(zeroize::Zeroizing::new("wrong".to_owned()))];
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    for result in join_all((0..30).map(|_| run(&pool, &target, "echo x"))).await {
        assert!(matches!(result.err().unwrap(), SshError::Login { .. }));
    }
    // A password that is tried once per waiting call locks the account.
    assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_closed_server_is_connected_to_anew_and_a_closed_pool_is_not() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    run(&pool, &fake.target, "echo x").await.unwrap();
    pool.close("fake");
    assert!(!pool.is_connected("fake"));
    run(&pool, &fake.target, "echo x").await.unwrap();
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 2);
    pool.shutdown().await;
    assert_eq!(pool.tasks(), 0);
    let error = run(&pool, &fake.target, "echo x").await.err().unwrap();
    assert!(matches!(error, SshError::PoolClosed { .. }), "{error}");
}

/// A port where nothing listens: bound and not listened on, so that nobody else gets it.
fn nobody_listens() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn a_server_that_comes_back_in_a_moment_is_waited_for() {
    let fake = start(Manners::default()).await;
    let (socket, port) = nobody_listens();
    let mut target = fake.target.clone();
    target.port = port;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let call = call();
    let (result, ()) = tokio::join!(run_with(&pool, &target, request("echo x"), &call), async {
        // The first attempt was refused by now or will find it listening; both are what a restart looks like.
        tokio::time::sleep(Duration::from_millis(50)).await;
        socket.listen(8).unwrap();
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let to = fake.target.port;
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    });
    assert_eq!(result.unwrap().1.stdout, b"x\n");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_three_times_and_then_left_alone() {
    let fake = start(Manners::default()).await;
    let (_socket, port) = nobody_listens();
    let mut target = fake.target.clone();
    target.port = port;
    let pool = Pool::new(settings(5, 1), no_known_hosts());
    let error = run(&pool, &target, "echo x").await.err().unwrap();
    let SshError::Tried { attempts: 3, source } = &error else { panic!("{error}") };
    assert!(matches!(**source, SshError::Connect { .. }) && error.is_retryable(), "{error}");
    let asked = AtomicUsize::new(0);
    let counted = || async {
        asked.fetch_add(1, Ordering::SeqCst);
        Ok(target.clone())
    };
    let error = pool.channel("fake", Purpose::Commands, counted, &call()).await.err().unwrap();
    assert!(matches!(error, SshError::LeftAlone { failures: 3, .. }), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "it was connected to all the same");
    let problem = Problem::from(error);
    assert_eq!((problem.code, &problem.details["reason"]), (Code::ConnectionFailed, &"ECONNREFUSED".into()));
    assert_eq!(problem.details["retry_after_s"], 2);
    pool.forgive("fake");
    pool.channel("fake", Purpose::Commands, counted, &call()).await.err().unwrap();
    assert!(asked.load(Ordering::SeqCst) > 0, "nobody has tried");
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_and_after_three_calls_not_at_all() {
    let fake = start(Manners::default()).await;
    let mut target = fake.target.clone();
    target.logins = vec![Login::Password(zeroize::Zeroizing::new("wrong".to_owned()))];
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    for calls in 1..=3 {
        let error = run(&pool, &target, "echo x").await.err().unwrap();
        assert!(matches!(error, SshError::Login { .. }), "{error}");
        assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), calls);
        // Failures at the same time are one.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let error = run(&pool, &target, "echo x").await.err().unwrap();
    assert!(matches!(error, SshError::LeftAlone { .. }), "{error}");
    assert_eq!(fake.seen.passwords.load(Ordering::SeqCst), 3);
}
