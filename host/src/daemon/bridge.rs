//! The bridge: bytes from standard input to the daemon and from the daemon to standard output, as they come.
//!
//! Two threads that block, and no runtime: the process starts in a few milliseconds and a message costs two copies.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::DaemonError;
use super::attach::Session;

/// Most messages take one read and one write.
const BUFFER: usize = 64 << 10;

/// Copies until the daemon closes. Fails with [`DaemonError::Lost`] when it does so before the client has closed its side.
pub fn bridge(session: Session) -> Result<(), DaemonError> {
    let Session { stream, pid } = session;
    let closed = Arc::new(AtomicBool::new(false));
    let up = stream.get_ref().try_clone().map_err(DaemonError::Talk)?;
    // Ends with the process: a read of standard input cannot be called off.
    std::thread::spawn({
        let closed = Arc::clone(&closed);
        move || {
            let half = up.try_clone();
            let read_all = copy(&standard(0), &File::from(OwnedFd::from(up))).is_ok();
            // The client may close its side and still read the last answers. Noted first: the daemon's answer to it is the
            // end of the other copy.
            closed.store(read_all, Ordering::SeqCst);
            if let Ok(half) = half {
                let _ = half.shutdown(Shutdown::Write);
            }
        }
    });
    let output = standard(1);
    let begun = write_all(&output, stream.buffer());
    let down = File::from(OwnedFd::from(stream.into_inner()));
    match begun.and_then(|()| copy(&down, &output)) {
        Ok(()) if closed.load(Ordering::SeqCst) => Ok(()),
        // A client that no longer reads has gone.
        Err(Broken::Write) => Ok(()),
        Ok(()) | Err(Broken::Read) => Err(DaemonError::Lost { pid }),
    }
}

/// A standard stream without a buffer in between, never closed by us.
fn standard(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the standard streams are open for as long as the process lives (Rust's start opens them if need be), and
    // nothing else in a bridge uses these two.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// Which side of a copy failed.
#[derive(Debug, PartialEq)]
enum Broken {
    Read,
    Write,
}

/// Copies to the end of `from`.
fn copy(mut from: &File, to: &File) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => write_all(to, buffer.get(..read).unwrap_or_default())?,
            Err(error) if is_later(&error, from, libc::POLLIN) => {}
            Err(_) => return Err(Broken::Read),
        }
    }
}

fn write_all(mut to: &File, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(Broken::Write),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if is_later(&error, to, libc::POLLOUT) => {}
            Err(_) => return Err(Broken::Write),
        }
    }
    Ok(())
}

/// Whether to try again, after waiting if need be: a client may have made its end of the streams non-blocking, and with it
/// ours.
fn is_later(error: &io::Error, file: &File, event: libc::c_short) -> bool {
    match error.kind() {
        ErrorKind::Interrupted => true,
        ErrorKind::WouldBlock => {
            let mut wanted = libc::pollfd { fd: file.as_raw_fd(), events: event, revents: 0 };
            // SAFETY: one valid entry, for the time of the call. What it returns does not matter: the next try tells.
            unsafe { libc::poll(&raw mut wanted, 1, -1) };
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn file(stream: UnixStream) -> File {
        File::from(OwnedFd::from(stream))
    }

    #[test]
    fn more_than_a_buffer_passes_through_streams_that_do_not_block() {
        let ((mut give, from), (to, mut take)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        from.set_nonblocking(true).unwrap();
        to.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..5_000_000_u32).map(|number| number as u8).collect();
        let giving = std::thread::spawn({
            let sent = sent.clone();
            move || give.write_all(&sent).unwrap()
        });
        let copying = std::thread::spawn(move || copy(&file(from), &file(to)));
        let mut received = Vec::new();
        take.read_to_end(&mut received).unwrap();
        giving.join().unwrap();
        assert_eq!(copying.join().unwrap(), Ok(()));
        assert!(received == sent);
    }

    #[test]
    fn a_reader_that_has_gone_is_a_broken_write() {
        let ((mut give, from), (to, take)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        drop(take);
        give.write_all(b"hello\n").unwrap();
        assert_eq!(copy(&file(from), &file(to)), Err(Broken::Write));
    }
}
