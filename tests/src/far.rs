//! A TCP proxy on the loopback that makes a server as far away as one likes: what it passes on arrives later, in order.
//!
//! It delays and does not limit: as much as fits into the sockets' buffers and the queue is on its way at once. Not a
//! network simulator; nothing is lost or reordered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// Pieces on their way in one direction; with the piece size this is 64 MiB, more than any window in use.
const ON_THE_WAY: usize = 1024;
const PIECE: usize = 64 * 1024;

/// A server behind a slow line. Dropping it breaks the line.
pub struct Far {
    pub address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Far {
    /// Passes everything on to `to`, half of `round_trip` later in each direction.
    pub async fn start(to: SocketAddr, round_trip: Duration) -> Result<Far> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let delay = round_trip / 2;
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                lines.spawn(async move { line(near, to, delay).await });
            }
        });
        Ok(Far { address, _task: AbortOnDropHandle::new(task) })
    }
}

async fn line(near: TcpStream, to: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(pass(near_read, far_write, delay), pass(far_read, near_write, delay))?;
    Ok(())
}

/// Reads at once and writes later, so that what is on its way does not hold up what follows.
async fn pass<R, W>(mut from: R, mut to: W, delay: Duration) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if from.read_buf(&mut piece).await? == 0 || sender.send((Instant::now() + delay, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}
