//! Channels that are opened ahead: used by the next command, given back, and never a reason for a command to be lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::fake::{Fake, Manners, start};
use super::*;

/// The next channel is opened as soon as a command has started.
fn eager(max: usize) -> PoolSettings {
    PoolSettings { far: Some(Duration::ZERO), ..settings(max, 1) }
}

/// Longer than the resolution of the time at which something was heard.
const A_MOMENT: Duration = Duration::from_millis(5);

fn ready(pool: &Pool) -> usize {
    pool.stats()[0].connections.iter().map(|connection| connection.ready).sum()
}

fn open(fake: &Fake) -> usize {
    fake.seen.open.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_command_uses_the_channel_that_was_opened_while_the_one_before_ran() {
    let fake = start(Manners::default()).await;
    let pool = Pool::new(eager(5), no_known_hosts());
    for number in 1..=20 {
        assert_eq!(run(&pool, &fake.target, "late x").await.unwrap().1.stdout, b"x\n");
        eventually("only the next one is open", || open(&fake) == 1).await;
        assert_eq!(fake.seen.opened.load(Ordering::SeqCst), number + 1);
    }
    assert_eq!((fake.seen.connections.load(Ordering::SeqCst), ready(&pool)), (1, 1));
}

#[tokio::test]
async fn where_channels_are_opened_at_once_the_next_one_is_opened_behind_a_command_and_not_beside_it() {
    let fake = start(Manners::default()).await;
    // Longer than opening one takes on the busiest machine.
    let far = Some(Duration::from_secs(20));
    let pool = Pool::new(PoolSettings { far, ..settings(5, 1) }, no_known_hosts());
    let opened = || fake.seen.opened.load(Ordering::SeqCst);
    for number in 1..=5 {
        let ended = AtomicBool::new(false);
        let running = async {
            run(&pool, &fake.target, "late x").await.unwrap();
            ended.store(true, Ordering::SeqCst);
        };
        let looking = async {
            while !ended.load(Ordering::SeqCst) {
                assert!(opened() <= number, "the next one was opened beside the command");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(running, looking);
        eventually("the next one is open", || (opened(), open(&fake)) == (number + 1, 1)).await;
    }
    assert_eq!((fake.seen.connections.load(Ordering::SeqCst), ready(&pool)), (1, 1));
}

#[tokio::test]
async fn a_channel_opened_ahead_is_given_back_when_nobody_comes() {
    let fake = start(Manners::default()).await;
    let mut quick = eager(5);
    quick.idle_timeout = Duration::from_millis(50);
    let pool = Pool::new(quick, no_known_hosts());
    run(&pool, &fake.target, "late x").await.unwrap();
    eventually("it is closed", || open(&fake) == 0).await;
    assert_eq!((pool.stats()[0].connections.len(), ready(&pool)), (1, 0));
    run(&pool, &fake.target, "late x").await.unwrap();
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_channel_that_the_server_closed_meanwhile_is_not_used() {
    let fake = start(Manners { closes: Some(2), ..Manners::default() }).await;
    // The answer that is asked for first comes behind the close.
    let pool = Pool::new(PoolSettings { trusted_silence: Duration::ZERO, ..eager(5) }, no_known_hosts());
    run(&pool, &fake.target, "late x").await.unwrap();
    eventually("the next channel was opened and closed", || fake.seen.opened.load(Ordering::SeqCst) == 2).await;
    std::thread::sleep(A_MOMENT);
    run(&pool, &fake.target, "late x").await.unwrap();
    assert_eq!((fake.seen.connections.load(Ordering::SeqCst), ready(&pool)), (1, 1));
    assert!(fake.seen.opened.load(Ordering::SeqCst) > 2);
}

#[tokio::test]
async fn a_server_that_allows_one_channel_is_asked_for_a_second_one_once() {
    let fake = start(Manners { max_sessions: 1, ..Manners::default() }).await;
    let pool = Pool::new(eager(1), no_known_hosts());
    for _ in 0..3 {
        let short = Call::new("test", "test").within(Duration::from_millis(50));
        let error = run_with(&pool, &fake.target, request("hang INT"), &short).await.err().unwrap();
        assert!(matches!(error, SshError::CommandTimeout { .. }), "{error}");
        assert_eq!(fake.seen.refused.load(Ordering::SeqCst), 1);
    }
    assert_eq!(pool.stats()[0].connections[0].capacity, 1);
}

/// A network that can die for the connections that exist: nothing arrives any more, and nobody is told.
struct Network {
    port: u16,
    dead: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

async fn network(to: u16) -> Network {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dead = CancellationToken::new();
    let dies = dead.clone();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let dies = if dies.is_cancelled() { CancellationToken::new() } else { dies.clone() };
            connections.spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    () = dies.cancelled() => std::future::pending().await,
                }
            });
        }
    });
    Network { port, dead, _task: AbortOnDropHandle::new(task) }
}

#[tokio::test]
async fn a_dead_connection_with_an_open_channel_is_replaced_without_anybody_noticing() {
    let fake = start(Manners::default()).await;
    let network = network(fake.target.port).await;
    let mut target = fake.target.clone();
    target.port = network.port;
    let pool = Pool::new(PoolSettings { trusted_silence: Duration::ZERO, ..eager(5) }, no_known_hosts());
    let call = Call::new("test", "test");
    run_with(&pool, &target, request("late x"), &call).await.unwrap();
    eventually("the next channel is open", || open(&fake) == 1).await;
    std::thread::sleep(A_MOMENT);
    network.dead.cancel();
    // Nobody wants to wait for what does not come.
    tokio::time::pause();
    run_with(&pool, &target, request("late x"), &call).await.unwrap();
    assert_eq!(fake.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_dead_connection_is_noticed_within_two_keep_alive_intervals() {
    let fake = start(Manners::default()).await;
    let network = network(fake.target.port).await;
    let mut target = fake.target.clone();
    target.port = network.port;
    let interval = Duration::from_secs(30);
    let pool = Pool::new(PoolSettings { keep_alive_interval: Some(interval), ..settings(5, 1) }, no_known_hosts());
    run(&pool, &target, "echo x").await.unwrap();
    network.dead.cancel();
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    while !pool.stats()[0].connections.is_empty() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // A moment more, for the news to get here.
        assert!(started.elapsed() <= interval * 2 + Duration::from_secs(1), "it is not noticed");
    }
}
