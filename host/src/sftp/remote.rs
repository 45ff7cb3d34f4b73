//! Files of a server, over SFTP. A connection that was lost is made anew by the next step that needs one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, join_all, try_join_all};
use tokio::sync::Mutex;

use super::client::{Client, Handle};
use super::error::{Cause, FileError};
use super::files::{Files, Finish, Meta, RENAME};
use super::packet::Attrs;
use crate::error::Problem;
use crate::ssh::Lease;

/// Where a server does not say how many files may be open.
const MAX_OPEN: usize = 64;
/// The most files that are open at once, whatever the server allows. OpenSSH's allows about a thousand where nobody has raised
/// the usual limit, and over a long line each of them waits for two answers.
const WANTED_OPEN: usize = 1000;
/// Over a short line more files at once only wait for each other.
const NEAR: Duration = Duration::from_millis(3);
const NEAR_OPEN: usize = 48;
/// OpenSSH's server takes at most 2 MiB per channel until it answers. Over a long line that is what limits an upload, so a
/// big file gets one channel for so much of a round trip, up to [`LANES`].
const LANE_TIME: Duration = Duration::from_millis(5);
const LANES: usize = 4;
/// A smaller file is written before a second channel would be open.
const WIDE_FILE: u64 = 4 << 20;

/// The SHA-256 of no bytes.
const NOTHING: &[u8] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// How a server is reached, as often as need be.
pub trait Reach: Send + Sync + 'static {
    /// A channel on a connection for bulk data.
    fn channel(&self) -> BoxFuture<'_, Result<Lease, Problem>>;

    /// One more, where there is one that nobody waits for.
    fn further(&self) -> BoxFuture<'_, Option<Lease>>;

    /// What a program prints; `None` when it is not there or fails.
    fn output(&self, program: &'static str, arguments: Vec<String>) -> BoxFuture<'_, Result<Option<Vec<u8>>, Problem>>;
}

/// A server.
pub struct Remote {
    place: Arc<str>,
    reach: Arc<dyn Reach>,
    /// The first is for everything, the others for big files. An async lock, held while connecting: one connects, and
    /// whoever else needs the connection waits for it.
    lanes: Vec<Mutex<Option<Arc<Client>>>>,
    chunk: u32,
    /// Of the first connection.
    max_open: usize,
    round_trip: Duration,
}

/// An open file of a server: once per lane.
pub struct RemoteFile {
    lanes: Vec<(Arc<Client>, Handle)>,
    turn: AtomicUsize,
    path: PathBuf,
}

impl RemoteFile {
    /// The lanes take turns.
    fn lane(&self) -> Result<&(Arc<Client>, Handle), Cause> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.lanes.get(turn % self.lanes.len().max(1)).ok_or_else(|| Cause::Lost(String::new()))
    }
}

impl Remote {
    /// Connects.
    pub async fn open(place: &str, reach: Arc<dyn Reach>) -> Result<Remote, FileError> {
        let mut remote = Remote {
            place: place.into(),
            reach,
            lanes: (0..LANES).map(|_| Mutex::default()).collect(),
            chunk: 0,
            max_open: MAX_OPEN,
            round_trip: Duration::ZERO,
        };
        let none = Path::new("");
        let client = remote.client().await.map_err(|cause| remote.error("start SFTP", none, cause))?;
        remote.chunk = client.max_read.min(client.max_write);
        if let Some(handles) = client.max_handles {
            // Directories that are being listed need some, too.
            remote.max_open = (handles.saturating_sub(16)).clamp(1, WANTED_OPEN as u64) as usize;
        }
        remote.round_trip = client.round_trip;
        if remote.round_trip < NEAR {
            remote.max_open = remote.max_open.min(NEAR_OPEN);
        }
        Ok(remote)
    }

    fn error(&self, step: &'static str, path: &Path, cause: Cause) -> FileError {
        FileError::new(Some(&self.place), step, path, cause)
    }

    async fn client(&self) -> Result<Arc<Client>, Cause> {
        let Some(lane) = self.lanes.first() else { return Err(Cause::Lost(String::new())) };
        let mut current = lane.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_ended()) {
            return Ok(client.clone());
        }
        *current = None;
        let open = async || {
            let lease = self.reach.channel().await.map_err(|problem| Cause::Connect(Box::new(problem)))?;
            Client::open(lease).await
        };
        // Seen with dropbear on a busy machine: a channel ended before anything was said on it, and the next one did not.
        let opened = match open().await {
            Err(Cause::NoSubsystem) => open().await,
            opened => opened,
        };
        let client = Arc::new(opened?);
        *current = Some(client.clone());
        Ok(client)
    }

    /// The channel of a further lane. Never waits for one: whoever holds a channel while waiting for another may wait for
    /// those who do the same.
    async fn further(&self, lane: usize) -> Option<Arc<Client>> {
        let mut current = self.lanes.get(lane)?.lock().await;
        if let Some(client) = current.as_ref().filter(|client| !client.is_ended()) {
            return Some(client.clone());
        }
        *current = None;
        let client = Arc::new(Client::open(self.reach.further().await?).await.ok()?);
        *current = Some(client.clone());
        Some(client)
    }

    /// One step on one path.
    async fn step<T, F>(&self, step: &'static str, path: &Path, work: F) -> Result<T, FileError>
    where
        F: AsyncFnOnce(&Client) -> Result<T, Cause>,
    {
        let done = async { work(&*self.client().await?).await };
        done.await.map_err(|cause| self.error(step, path, cause))
    }

    /// A server that says no more than "Failure" may have said it because the disk is full.
    async fn explain(&self, cause: Cause, path: &Path) -> Cause {
        if !matches!(cause, Cause::Failure(_)) {
            return cause;
        }
        let folder = path.parent().unwrap_or(path);
        match self.client().await {
            Ok(client) if client.available(folder).await.is_ok_and(|left| left == 0) => Cause::Full,
            _ => cause,
        }
    }

    /// A second and further channel for a big file over a long line.
    async fn widen(&self, path: &Path, size: u64, first: (Arc<Client>, Handle)) -> Vec<(Arc<Client>, Handle)> {
        let wanted = (self.round_trip.as_millis() / LANE_TIME.as_millis()) as usize;
        let mut lanes = vec![first];
        if size >= WIDE_FILE && wanted > 1 {
            let others = (1..wanted.min(LANES)).map(async |lane| {
                let client = self.further(lane).await?;
                let handle = client.open_write(path, 0o600, false).await.ok()?;
                Some((client, handle))
            });
            // It works without them, only slower.
            lanes.extend(join_all(others).await.into_iter().flatten());
        }
        lanes
    }
}

fn meta(attrs: &Attrs) -> Option<Meta> {
    let permissions = attrs.permissions?;
    let (accessed, modified) = attrs.times.unwrap_or_default();
    Some(Meta {
        kind: Meta::kind_of(permissions),
        size: attrs.size.unwrap_or(0),
        mode: permissions & 0o7777,
        owner: attrs.owner,
        modified,
        accessed,
    })
}

fn told(attrs: &Attrs) -> Result<Meta, Cause> {
    meta(attrs).ok_or_else(|| Cause::Protocol("it does not tell what kind of file it is".to_owned()))
}

impl Files for Remote {
    type File = RemoteFile;

    fn place(&self) -> Option<&Arc<str>> {
        Some(&self.place)
    }

    fn chunk(&self) -> u32 {
        self.chunk
    }

    fn max_open(&self) -> usize {
        self.max_open
    }

    fn round_trip(&self) -> Duration {
        self.round_trip
    }

    async fn absolute(&self, path: &str) -> Result<PathBuf, FileError> {
        // What is not absolute begins in the home directory, too.
        let path = path.trim_end_matches('/');
        let below_home = match path.strip_prefix('~') {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        };
        let path = Path::new(match below_home {
            Some("") => ".",
            Some(rest) => rest,
            None if path.is_empty() => "/",
            None => path,
        });
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let home = self.step("find the home directory", path, async |client| client.real_path(Path::new(".")).await);
        let home = home.await?;
        Ok(if path == Path::new(".") { home } else { home.join(path) })
    }

    async fn meta(&self, path: &Path, follow: bool) -> Result<Option<Meta>, FileError> {
        let look = self.step("look at", path, async |client| {
            let attrs = if follow { client.stat(path).await } else { client.lstat(path).await };
            told(&attrs?)
        });
        match look.await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, path: &Path) -> Result<Vec<(PathBuf, Meta)>, FileError> {
        self.step("list", path, async |client| {
            let mut entries = Vec::new();
            for (name, attrs) in client.list(path).await? {
                let found = match meta(&attrs) {
                    Some(found) => found,
                    // Not every server tells the kind in a listing.
                    None => match client.lstat(&path.join(&name)).await {
                        Ok(attrs) => told(&attrs)?,
                        Err(Cause::NotFound) => continue,
                        Err(cause) => return Err(cause),
                    },
                };
                entries.push((name, found));
            }
            Ok(entries)
        })
        .await
    }

    async fn real_path(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.step("look at", path, async |client| client.real_path(path).await).await
    }

    async fn read_link(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.step("read the link", path, async |client| client.read_link(path).await).await
    }

    async fn make_link(&self, path: &Path, target: &Path) -> Result<(), FileError> {
        self.step("make the link", path, async |client| client.make_link(path, target).await).await
    }

    async fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        self.step("make the directory", path, async |client| client.make_dir(path, mode).await).await
    }

    async fn open(&self, path: &Path, _: &Meta) -> Result<RemoteFile, FileError> {
        let open = async {
            let client = self.client().await?;
            let handle = client.open_read(path).await?;
            Ok(RemoteFile { lanes: vec![(client, handle)], turn: AtomicUsize::new(0), path: path.to_owned() })
        };
        open.await.map_err(|cause| self.error("open", path, cause))
    }

    async fn look(&self, file: &RemoteFile) -> Result<Meta, FileError> {
        let look = async {
            let (client, handle) = file.lane()?;
            told(&client.fstat(handle).await?)
        };
        look.await.map_err(|cause| self.error("look at", &file.path, cause))
    }

    async fn create(&self, path: &Path, keep: bool, size: u64) -> Result<RemoteFile, FileError> {
        let create = async {
            let client = self.client().await?;
            let handle = client.open_write(path, 0o600, !keep).await?;
            Ok((client, handle))
        };
        let first = match create.await {
            Ok(first) => first,
            Err(cause) => return Err(self.error("create", path, self.explain(cause, path).await)),
        };
        let lanes = self.widen(path, size, first).await;
        Ok(RemoteFile { lanes, turn: AtomicUsize::new(0), path: path.to_owned() })
    }

    async fn read(&self, file: &RemoteFile, offset: u64, length: u32) -> Result<Bytes, FileError> {
        let read = async {
            let (client, handle) = file.lane()?;
            let first = client.read(handle, offset, length).await?;
            if first.len() == length as usize || first.is_empty() {
                return Ok(first);
            }
            // Fewer than asked for is not yet the end of the file.
            let mut all = BytesMut::from(first);
            while all.len() < length as usize {
                let more = client.read(handle, offset + all.len() as u64, length - all.len() as u32).await?;
                if more.is_empty() {
                    break;
                }
                all.extend_from_slice(&more);
            }
            Ok(all.freeze())
        };
        read.await.map_err(|cause| self.error("read", &file.path, cause))
    }

    async fn write(&self, file: &RemoteFile, offset: u64, data: Bytes) -> Result<(), FileError> {
        let write = async {
            let (client, handle) = file.lane()?;
            client.write(handle, offset, &data).await
        };
        match write.await {
            Ok(()) => Ok(()),
            Err(cause) => Err(self.error("write", &file.path, self.explain(cause, &file.path).await)),
        }
    }

    async fn close(&self, file: RemoteFile) {
        for (client, handle) in &file.lanes {
            client.let_go(handle).await;
        }
    }

    async fn finish(&self, file: RemoteFile, how: &Finish) -> Result<(), FileError> {
        let finish = async {
            let (client, handle) = file.lane()?;
            if let Some(owner) = how.owner {
                // Only root may give files away.
                let attrs = Attrs { owner: Some(owner), ..Attrs::default() };
                let _ = client.set_fstat(handle, &attrs).await;
            }
            let attrs = Attrs { size: how.size, permissions: Some(how.mode), times: how.times, owner: None };
            client.set_fstat(handle, &attrs).await
        };
        let finished = match finish.await {
            Ok(()) => Ok(()),
            Err(cause) => Err(self.error("finish", &file.path, self.explain(cause, &file.path).await)),
        };
        let sync = async {
            let (client, handle) = file.lane()?;
            client.sync(handle).await
        };
        let synced = match &finished {
            Ok(()) if how.durable => sync.await.map_err(|cause| self.error("sync to disk", &file.path, cause)),
            _ => Ok(()),
        };
        // Some file systems report a full disk only now.
        let closed = try_join_all(file.lanes.iter().map(|(client, handle)| client.close(handle))).await;
        finished.and(synced).and(closed.map(drop).map_err(|cause| self.error("close", &file.path, cause)))
    }

    async fn take(&self, path: &Path, expected: &Meta) -> Result<(Bytes, Meta), FileError> {
        let size = expected.size;
        let taken = self.step("read", path, async |client| {
            let handle = client.open_read(path).await?;
            // The end of an empty file is looked for, too.
            let (data, now) = client.drain(&handle, (size as u32).max(1)).await?;
            Ok((data, told(&now)?))
        });
        let (data, now) = taken.await?;
        if data.len() as u64 == size || now.size != size {
            return Ok((data, now));
        }
        // Fewer than asked for, though the file has not changed: such a server is read piece by piece.
        let file = self.open(path, expected).await?;
        let data = self.read(&file, 0, size as u32).await;
        self.close(file).await;
        Ok((data?, now))
    }

    async fn put(&self, path: &Path, data: Bytes, how: &Finish, name: Option<&Path>) -> Result<(), FileError> {
        if how.durable || how.owner.is_some() {
            let file = self.create(path, false, data.len() as u64).await?;
            let written = if data.is_empty() { Ok(()) } else { self.write(&file, 0, data).await };
            let finished = self.finish(file, how).await;
            written.and(finished)?;
            return match name {
                Some(name) => self.rename(path, name, how.durable).await,
                None => Ok(()),
            };
        }
        let put = self.step("write", path, async |client| {
            let handle = client.open_write(path, 0o600, true).await?;
            let attrs = Attrs { permissions: Some(how.mode), times: how.times, ..Attrs::default() };
            client.fill(&handle, &data, &attrs).await
        });
        match (put.await, name) {
            (Ok(()), Some(name)) => self.rename(path, name, how.durable).await,
            (Ok(()), None) => Ok(()),
            (Err(error), _) => {
                let cause = self.explain(error.cause, path).await;
                Err(FileError { cause, ..error })
            }
        }
    }

    async fn rename(&self, from: &Path, to: &Path, _durable: bool) -> Result<(), FileError> {
        self.step(RENAME, to, async |client| client.rename(from, to).await).await
    }

    async fn remove(&self, path: &Path) -> Result<(), FileError> {
        match self.step("remove", path, async |client| client.remove(path).await).await {
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }

    async fn set(&self, path: &Path, how: &Finish) -> Result<(), FileError> {
        let attrs = Attrs { permissions: Some(how.mode), times: how.times, ..Attrs::default() };
        self.step("set the attributes of", path, async |client| client.set_stat(path, &attrs).await).await
    }

    async fn clone_prefix(&self, from: &Path, to: &Path, length: u64) -> Result<bool, FileError> {
        self.step("copy what is there to", to, async |client| {
            if !client.extensions.copy_data {
                return Ok(false);
            }
            let source = client.open_read(from).await?;
            let target = client.open_write(to, 0o600, true).await?;
            client.copy_data(&source, length, &target).await?;
            client.close(&source).await?;
            client.close(&target).await?;
            Ok(true)
        })
        .await
    }

    async fn digest(&self, path: &Path, length: u64) -> Result<Option<[u8; 32]>, FileError> {
        // A name that is no text does not pass through every shell.
        let Some(name) = path.to_str() else { return Ok(None) };
        let script = r#"head -c "$1" < "$2" | sha256sum"#;
        let arguments = ["-c", script, "sh", &length.to_string(), name].map(str::to_owned).to_vec();
        let said = self.reach.output("sh", arguments).await;
        let said =
            said.map_err(|problem| self.error("compute the SHA-256 of", path, Cause::Connect(Box::new(problem))))?;
        Ok(said.and_then(|said| {
            // Of nothing, when the file could not be read: a pipe does not pass on that its first half failed.
            if length > 0 && said.starts_with(NOTHING) {
                return None;
            }
            let hex = said.get(..64)?;
            data_encoding::HEXLOWER.decode(hex).ok()?.try_into().ok()
        }))
    }
}
