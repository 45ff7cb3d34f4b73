//! A server that sends more than it was allowed to: it was told of a window of 4 GiB by somebody on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::fake::{Manners, start};
use super::*;

/// What opening a session channel begins with (RFC 4254, 5.1). The number of the channel follows, then its window.
const OPENS: &[u8] = b"\x5a\0\0\0\x07session";
const MIB: usize = 1 << 20;

/// Forwards connections to `port`; the windows of session channels become as large as they can be. Returns its own port and
/// the number of bytes that came from the server.
async fn widen(port: u16, widened: Arc<AtomicUsize>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let passed = Arc::new(AtomicUsize::new(0));
    let count = passed.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let widened = widened.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                    let at = bytes[..read].windows(OPENS.len()).position(|window| window == OPENS);
                    if let Some(window) = at.and_then(|at| bytes[..read].get_mut(at + OPENS.len() + 4..)?.get_mut(..4))
                    {
                        window.fill(0xff);
                        widened.fetch_add(1, Ordering::SeqCst);
                    }
                    to_server.write_all(&bytes[..read]).await.unwrap();
                }
            });
            let count = count.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                    count.fetch_add(read, Ordering::SeqCst);
                }
            });
        }
    });
    (own, passed)
}

/// Takes nothing until it is allowed to.
struct Gated {
    gate: Arc<Semaphore>,
    taken: usize,
}

impl OutputSink for Gated {
    async fn write(&mut self, _: Stream, bytes: &[u8]) -> Result<(), Problem> {
        let _open = self.gate.acquire().await.unwrap();
        self.taken += bytes.len();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_about_the_window_is_held_by_what_we_take() {
    let mut fake = start(Manners { clear: true, ..Manners::default() }).await;
    let widened = Arc::new(AtomicUsize::new(0));
    let (port, passed) = widen(fake.target.port, widened.clone()).await;
    fake.target.port = port;
    let pool = Pool::new(settings(1, 1), no_known_hosts());
    let call = call();
    let lease = pool.channel("fake", Purpose::Commands, || async { Ok(fake.target.clone()) }, &call).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let mut sink = Gated { gate: gate.clone(), taken: 0 };
    let stalled = async {
        // It sends until it is held, by the connection and not by its window.
        let mut last = 0;
        eventually("nothing more comes", || {
            let now = passed.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            std::mem::replace(&mut last, now) == now && now > 3 * MIB
        })
        .await;
        let held = passed.load(Ordering::SeqCst);
        assert!(held < 16 * MIB, "{held} bytes were taken in of a command that nobody reads");
        gate.add_permits(1);
    };
    let mut request = request("flood 64");
    let (exit, ()) = tokio::join!(exec(lease, &mut request, &call, &mut sink), stalled);
    assert_eq!(exit.unwrap().code, Some(0));
    assert_eq!(sink.taken, 64 * MIB);
    assert!(widened.load(Ordering::SeqCst) > 0, "no window was widened");
}
