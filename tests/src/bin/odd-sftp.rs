//! A peculiar SFTP server for the tests: it stands before OpenSSH's own, answers out of order and reads less than it is
//! asked to. Both are allowed (draft-ietf-secsh-filexfer-02, 3 and 6.4), and both are rare.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What is read at most at once.
const SHORT_READ: u32 = 1000;
/// Answers that are turned round together.
const TURNED: usize = 6;
/// How long it waits for so many.
const PATIENCE: Duration = Duration::from_millis(2);

const READ: u8 = 5;
const VERSION: u8 = 2;

fn main() -> io::Result<()> {
    let mut server =
        Command::new("/usr/lib/openssh/sftp-server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut to_server), Some(mut from_server)) = (server.stdin.take(), server.stdout.take()) else {
        return Err(io::Error::other("no pipes to the server"));
    };
    let (answered, answers) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(packet) = packet(&mut from_server) {
            if answered.send(packet).is_err() {
                return;
            }
        }
    });
    let turning = std::thread::spawn(move || turn_round(&answers));
    let mut input = io::stdin().lock();
    while let Ok(mut request) = packet(&mut input) {
        if request.get(4) == Some(&READ)
            && let Some(length) = request.last_chunk_mut::<4>()
        {
            *length = u32::from_be_bytes(*length).min(SHORT_READ).to_be_bytes();
        }
        to_server.write_all(&request)?;
    }
    drop(to_server);
    server.wait()?;
    turning.join().map_err(|_| io::Error::other("the answers ended early"))?
}

/// One packet with its length.
fn packet(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet)?;
    let length = packet.first_chunk::<4>().map_or(0, |head| u32::from_be_bytes(*head));
    packet.resize(4 + length as usize, 0);
    from.read_exact(packet.get_mut(4..).unwrap_or_default())?;
    Ok(packet)
}

fn turn_round(answers: &mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    while let Ok(first) = answers.recv() {
        let mut together = vec![first];
        // The greeting comes first, even here.
        while together.len() < TURNED
            && together.iter().all(|answer| answer.get(4) != Some(&VERSION))
            && let Ok(next) = answers.recv_timeout(PATIENCE)
        {
            together.push(next);
        }
        for answer in together.iter().rev() {
            output.write_all(answer)?;
        }
        output.flush()?;
    }
    Ok(())
}
