//! Commands that somebody watches while they run: read as they print, signalled, waited for, and ended with their owner.
//!
//! Each is an ordinary command with a task of its own, so it is recorded, audited, timed and stopped as every other. Not who
//! may start one: that is asked above.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::command::Watched;
use super::{Argv, Finished, OutputSink, Servers, Stream};
use crate::call::Call;
use crate::error::{Code, Problem};
use crate::ssh::Signal;

/// How many processes a call may have at the same time.
const MAX_PROCESSES: usize = 8;
/// Bytes of one piece of output, and how many of them wait to be read.
const PIECE: usize = 32 << 10;
const PIECES: usize = 16;
/// Bytes of one read.
const READ: usize = 256 << 10;
/// More than this no start-up file prints before the command runs.
const STARTING: usize = 64 << 10;
/// A process whose output nobody has taken for so long is ended: it holds up the others of its connection.
const UNREAD: Duration = Duration::from_secs(10);

/// The processes of one call.
#[derive(Clone)]
pub struct Processes {
    tasks: TaskTracker,
    room: Arc<Semaphore>,
}

impl Default for Processes {
    fn default() -> Self {
        Processes { tasks: TaskTracker::new(), room: Arc::new(Semaphore::new(MAX_PROCESSES)) }
    }
}

impl Processes {
    /// Waits until all of them have ended. Whoever waits has dropped them before: then none takes longer than it takes to stop
    /// a command.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a process printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The process has ended, and this is the last of it.
    pub ended: bool,
}

/// A piece of output, at most [`PIECE`] bytes.
type Piece = (Stream, Vec<u8>);

/// How a process ended, or why it could not be watched to its end; nothing as long as it runs.
type End = Option<Result<Finished, Problem>>;

/// A command that runs. Dropping it has it stopped, by INT, TERM and KILL.
pub struct Process {
    /// Bounded, so that a process waits for a reader that is slow.
    output: mpsc::Receiver<Piece>,
    signals: mpsc::Sender<Signal>,
    end: watch::Receiver<End>,
    stop: DropGuard,
}

impl Servers {
    /// Starts a program and returns when it runs. It is one of the processes of `of`.
    ///
    /// `call` bounds its time. Cancelling the call ends the start only: whoever has the process decides about it.
    pub async fn spawn(&self, call: &Call, alias: &str, argv: Argv, of: &Processes) -> Result<Process, Problem> {
        let room = Arc::clone(&of.room).try_acquire_owned().map_err(|_| {
            Problem::invalid(format!("a call may have at most {MAX_PROCESSES} processes at the same time"))
        })?;
        let (taken, output) = mpsc::channel(PIECES);
        let (signals, asked) = mpsc::channel(1);
        let (begun, mut has_begun) = oneshot::channel::<()>();
        let (tell, end) = watch::channel(None);
        let stop = CancellationToken::new();
        let (mark, pid) = (format!("{:032x}", rand::random::<u128>()), Arc::<OnceLock<u32>>::default());
        let wire = argv.watched(&mark, Watched { signals: asked, pid: Arc::clone(&pid) })?;
        let own = Call { cancel: stop.clone(), ..call.clone() };
        let (servers, alias) = (self.clone(), alias.to_owned());
        of.tasks.spawn(async move {
            let mut pipe = Pipe { taken, begun: Some(begun), starting: Some(Starting { mark, said: Vec::new(), pid }) };
            let result = servers.run(&own, &alias, wire, &mut pipe).await;
            // What a server said that did not run the command, such as one that forces another.
            let result = match (pipe.give_up().await, result) {
                (Err(problem), Ok(_)) => Err(problem),
                (_, result) => result,
            };
            // In this order: who finds the end of the output finds how it ended, too.
            tell.send_replace(Some(result));
            drop(pipe);
            drop(room);
        });
        let process = Process { output, signals, end, stop: stop.clone().drop_guard() };
        let started = tokio::select! {
            biased;
            started = &mut has_begun => started,
            () = call.cancel.cancelled() => {
                stop.cancel();
                has_begun.await
            }
        };
        let end = process.end.borrow().clone();
        match (started, end) {
            (Err(_), Some(Err(problem))) => Err(problem),
            // It runs; or it has ended without saying that it did, and its output tells why.
            _ => Ok(process),
        }
    }
}

/// Passes on what is printed, but for the line by which the process says which one it is.
struct Pipe {
    taken: mpsc::Sender<Piece>,
    /// Whom to tell when it has come. Nobody waits for it when the call was cancelled meanwhile.
    begun: Option<oneshot::Sender<()>>,
    /// Until then.
    starting: Option<Starting>,
}

struct Starting {
    /// How the line begins.
    mark: String,
    /// Standard output so far. Start-up files of a login shell may have printed something.
    said: Vec<u8>,
    pid: Arc<OnceLock<u32>>,
}

impl Starting {
    /// The number of the process, and where its line begins and ends in what was said.
    fn found(&self) -> Option<(u32, usize, usize)> {
        let mark = self.mark.as_bytes();
        let start = self.said.windows(mark.len()).position(|window| window == mark)?;
        let line = self.said.get(start..)?.split_inclusive(|byte| *byte == b'\n').next()?;
        let number = line.strip_suffix(b"\n")?.get(mark.len()..)?;
        let pid = std::str::from_utf8(number).ok()?.trim().parse().ok()?;
        Some((pid, start, start + line.len()))
    }
}

impl OutputSink for Pipe {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        let Some(starting) = self.starting.as_mut().filter(|_| stream == Stream::Stdout) else {
            return self.pass_on(stream, bytes).await;
        };
        starting.said.extend_from_slice(bytes);
        match starting.found() {
            Some((pid, start, end)) => {
                let _ = starting.pid.set(pid);
                starting.said.drain(start..end);
            }
            None if starting.said.len() < STARTING => return Ok(()),
            None => {}
        }
        if let Some(begun) = self.begun.take() {
            let _ = begun.send(());
        }
        self.give_up().await
    }
}

impl Pipe {
    /// Stops looking for the line, and passes on what was printed besides.
    async fn give_up(&mut self) -> Result<(), Problem> {
        match self.starting.take() {
            Some(starting) => self.pass_on(Stream::Stdout, &starting.said).await,
            None => Ok(()),
        }
    }

    async fn pass_on(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Problem> {
        for piece in bytes.chunks(PIECE) {
            match timeout(UNREAD, self.taken.send((stream, piece.to_vec()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Problem::new(Code::Cancelled, "nobody wants its output any more")),
                Err(_) => {
                    let waited = UNREAD.as_secs();
                    let message = format!("nobody has read what it printed for {waited} s");
                    return Err(Problem::new(Code::CommandTimeout, message)
                        .hint("The plugin has to read from its process, or to drop it."));
                }
            }
        }
        Ok(())
    }
}

impl Process {
    /// What was printed since the last time; waits for something until `patience` is over or `hurry` fires, and then there may
    /// be nothing. An error is why the process could not be watched to its end, told when everything was read.
    pub async fn read(&mut self, patience: Duration, hurry: &CancellationToken) -> Result<Printed, Problem> {
        let mut printed = Printed::default();
        let first = tokio::select! {
            biased;
            piece = self.output.recv() => piece,
            () = hurry.cancelled() => return Ok(printed),
            () = sleep(patience) => return Ok(printed),
        };
        let mut next = first.ok_or(TryRecvError::Disconnected);
        let mut size = 0;
        loop {
            match next {
                Ok((stream, piece)) => {
                    size += piece.len();
                    let kept = match stream {
                        Stream::Stdout => &mut printed.stdout,
                        Stream::Stderr => &mut printed.stderr,
                    };
                    kept.extend(piece);
                }
                Err(TryRecvError::Empty) => return Ok(printed),
                Err(TryRecvError::Disconnected) => {
                    return match (self.how_it_ended(), size) {
                        (Ok(_), _) => Ok(Printed { ended: true, ..printed }),
                        (Err(problem), 0) => Err(problem),
                        // The next read tells.
                        (Err(_), _) => Ok(printed),
                    };
                }
            }
            if size + PIECE > READ {
                return Ok(printed);
            }
            next = self.output.try_recv();
        }
    }

    /// Sends a signal, by its name without SIG. False when the process has ended.
    pub async fn signal(&self, name: &'static str) -> Result<bool, Problem> {
        let (sent, was_sent) = oneshot::channel();
        if self.signals.send(Signal { name, sent }).await.is_err() {
            return Ok(false);
        }
        if was_sent.await.is_ok() {
            return Ok(true);
        }
        // It has ended meanwhile, most likely by this signal; or the connection is lost, which the process finds out, too.
        let mut end = self.end.clone();
        let _ = end.wait_for(Option::is_some).await;
        self.how_it_ended().map(|_| true)
    }

    /// How the process ended; nothing when it still runs after `patience`, or when `hurry` fires.
    pub async fn wait(&mut self, patience: Duration, hurry: &CancellationToken) -> Result<Option<Finished>, Problem> {
        let mut end = self.end.clone();
        tokio::select! {
            biased;
            // The task ends without a word only if it panicked.
            _ = end.wait_for(Option::is_some) => {}
            () = hurry.cancelled() => return Ok(None),
            () = sleep(patience) => return Ok(None),
        }
        self.how_it_ended().map(Some)
    }

    /// Stops the process and waits until it has ended.
    pub async fn stop(self) {
        let Process { mut end, stop, .. } = self;
        drop(stop);
        let _ = end.wait_for(Option::is_some).await;
    }

    /// For a process of which an end was seen.
    fn how_it_ended(&self) -> Result<Finished, Problem> {
        let end = self.end.borrow().clone();
        end.unwrap_or_else(|| Err(Problem::internal("a process was given up by a fault of the orchestrator")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives of these writes behind the line, and the process that it named.
    async fn check(writes: &[&str], expected: &str, number: Option<u32>) {
        let (taken, mut output) = mpsc::channel(64);
        let pid = Arc::<OnceLock<u32>>::default();
        let starting = Starting { mark: "mark".to_owned(), said: Vec::new(), pid: Arc::clone(&pid) };
        let mut pipe = Pipe { taken, begun: None, starting: Some(starting) };
        for write in writes {
            pipe.write(Stream::Stdout, write.as_bytes()).await.unwrap();
        }
        pipe.give_up().await.unwrap();
        drop(pipe);
        let mut came = Vec::new();
        while let Some((_, piece)) = output.recv().await {
            came.extend(piece);
        }
        assert_eq!((String::from_utf8(came).unwrap().as_str(), pid.get().copied()), (expected, number), "{writes:?}");
    }

    #[tokio::test]
    async fn the_line_that_names_the_process_is_found_and_taken_out_however_it_comes() {
        check(&["mark 42\nout\n"], "out\n", Some(42)).await;
        check(&["ma", "rk 4", "2", "\nout", " more mark 7\n"], "out more mark 7\n", Some(42)).await;
        check(&["welcome\nmark 42\n", "out"], "welcome\nout", Some(42)).await;
        check(&["this account is closed\n"], "this account is closed\n", None).await;
        check(&["mark nonsense\nout"], "mark nonsense\nout", None).await;
        check(&[], "", None).await;
        let noise = "x".repeat(STARTING);
        check(&[&noise, "mark 42\n"], &format!("{noise}mark 42\n"), None).await;
    }

    fn process() -> (mpsc::Sender<Piece>, watch::Sender<End>, Process) {
        let (taken, output) = mpsc::channel(PIECES);
        let (signals, _) = mpsc::channel(1);
        let (tell, end) = watch::channel(None);
        (taken, tell, Process { output, signals, end, stop: CancellationToken::new().drop_guard() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_its_time_and_says_why_it_ended_behind_the_last_output() {
        let (taken, tell, mut process) = process();
        let (second, hurry) = (Duration::from_secs(1), CancellationToken::new());
        let started = tokio::time::Instant::now();
        assert_eq!(process.read(second, &hurry).await.unwrap(), Printed::default());
        assert_eq!(started.elapsed(), second);
        for _ in 0..2 {
            taken.send((Stream::Stderr, b"a".to_vec())).await.unwrap();
        }
        tell.send_replace(Some(Err(Problem::new(Code::CommandTimeout, "late"))));
        drop(taken);
        let last = process.read(second, &hurry).await.unwrap();
        assert_eq!((last.stderr.as_slice(), last.ended), (&b"aa"[..], false));
        assert_eq!(process.read(second, &hurry).await.unwrap_err().message, "late");
        assert_eq!(process.wait(second, &hurry).await.unwrap_err().message, "late");
        assert_eq!(process.signal("TERM").await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_in_a_hurry_gets_what_there_is_at_once() {
        let (taken, _tell, mut process) = process();
        let (hour, hurry) = (Duration::from_secs(3600), CancellationToken::new());
        hurry.cancel();
        taken.send((Stream::Stdout, b"a".to_vec())).await.unwrap();
        assert_eq!(process.read(hour, &hurry).await.unwrap().stdout, b"a");
        assert_eq!(process.read(hour, &hurry).await.unwrap(), Printed::default());
        assert_eq!(process.wait(hour, &hurry).await, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_output_that_nobody_takes_is_an_error_after_its_time_and_bounded_until_then() {
        let (taken, mut output) = mpsc::channel(PIECES);
        let mut pipe = Pipe { taken, begun: None, starting: None };
        let flood = vec![b'x'; PIECE * (PIECES + 1)];
        let started = tokio::time::Instant::now();
        let problem = pipe.write(Stream::Stdout, &flood).await.unwrap_err();
        assert_eq!((problem.code, started.elapsed()), (Code::CommandTimeout, UNREAD));
        drop(pipe);
        let mut pieces = 0;
        while let Some((_, piece)) = output.recv().await {
            assert_eq!(piece.len(), PIECE);
            pieces += 1;
        }
        assert_eq!(pieces, PIECES);
    }
}
