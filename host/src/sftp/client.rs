//! What an SFTP server can be asked: one method per request, answers checked.
//!
//! Not how requests travel (`session`) and not what they are good for.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;

use super::error::Cause;
use super::packet::{Attrs, Body, Frame, flag, kind, status};
use super::session::{Answer, Session};
use crate::ssh::Lease;

/// Without `limits@openssh.com` a server need not take more (draft, 3).
const SAFE_LENGTH: u32 = 32 << 10;
/// More is never asked for at once: OpenSSH's own limit.
const MAX_LENGTH: u32 = 255 << 10;

/// How many parts of one listing are asked for at once.
const LISTING: usize = 32;

/// An open file or directory on the server.
#[derive(Clone, Debug)]
pub struct Handle(Bytes);

/// What the server offers beyond version 3.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    pub posix_rename: bool,
    pub fsync: bool,
    pub statvfs: bool,
    pub copy_data: bool,
    limits: bool,
}

/// A session with its limits.
pub struct Client {
    session: Session,
    pub extensions: Extensions,
    pub max_read: u32,
    pub max_write: u32,
    /// How many handles may be open at once, where the server says so.
    pub max_handles: Option<u64>,
    /// How long it took to ask something that costs no time to answer.
    pub round_trip: Duration,
}

impl Client {
    pub async fn open(lease: Lease) -> Result<Client, Cause> {
        let (session, offered) = Session::open(lease).await?;
        let offers = |name: &str| offered.iter().any(|(known, _)| known == name.as_bytes());
        let extensions = Extensions {
            posix_rename: offers("posix-rename@openssh.com"),
            fsync: offers("fsync@openssh.com"),
            statvfs: offers("statvfs@openssh.com"),
            copy_data: offers("copy-data"),
            limits: offers("limits@openssh.com"),
        };
        let (length, round_trip) = (SAFE_LENGTH, Duration::ZERO);
        let mut client =
            Client { session, extensions, max_read: length, max_write: length, max_handles: None, round_trip };
        let asked = Instant::now();
        if client.extensions.limits {
            client.learn_limits().await?;
        } else {
            client.real_path(Path::new(".")).await?;
        }
        client.round_trip = asked.elapsed();
        Ok(client)
    }

    async fn learn_limits(&mut self) -> Result<(), Cause> {
        let answer = self.ask(|id| extended(id, "limits@openssh.com")).await?;
        let mut body = expect(answer, kind::EXTENDED_REPLY)?;
        let mut number = || body.u64().map_err(malformed);
        let (_packet, read, write, handles) = (number()?, number()?, number()?, number()?);
        // Zero is "no limit".
        let length = |limit: u64| if limit == 0 { MAX_LENGTH } else { limit.clamp(1, MAX_LENGTH.into()) as u32 };
        self.max_read = length(read);
        self.max_write = length(write);
        self.max_handles = (handles > 0).then_some(handles);
        Ok(())
    }

    pub fn is_ended(&self) -> bool {
        self.session.ended().is_some()
    }

    async fn ask(&self, make: impl FnOnce(u32) -> Frame) -> Result<Answer, Cause> {
        self.session.ask(make).await
    }

    /// A request that is answered by how it went.
    async fn act(&self, make: impl FnOnce(u32) -> Frame) -> Result<(), Cause> {
        done(self.ask(make).await?)
    }

    pub async fn open_read(&self, path: &Path) -> Result<Handle, Cause> {
        self.handle(|id| Frame::request(kind::OPEN, id).path(path).u32(flag::READ).attrs(&Attrs::default())).await
    }

    /// Opens a file to be written, and makes it if need be. What is in it stays unless `truncate`.
    pub async fn open_write(&self, path: &Path, mode: u32, truncate: bool) -> Result<Handle, Cause> {
        let flags = flag::WRITE | flag::CREATE | if truncate { flag::TRUNCATE } else { 0 };
        let attrs = Attrs { permissions: Some(mode), ..Attrs::default() };
        self.handle(|id| Frame::request(kind::OPEN, id).path(path).u32(flags).attrs(&attrs)).await
    }

    async fn handle(&self, make: impl FnOnce(u32) -> Frame) -> Result<Handle, Cause> {
        let answer = self.ask(make).await?;
        expect(answer, kind::HANDLE)?.string().map(Handle).map_err(malformed)
    }

    pub async fn close(&self, handle: &Handle) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::CLOSE, id).string(&handle.0)).await
    }

    /// Closes what was read: there is nothing in it that could be lost.
    pub async fn let_go(&self, handle: &Handle) {
        // A session that has ended has closed it.
        let _ = self.session.tell(|id| Frame::request(kind::CLOSE, id).string(&handle.0)).await;
    }

    /// Writes a whole file that is open, gives it its attributes and closes it, in one round trip.
    pub async fn fill(&self, handle: &Handle, data: &[u8], attrs: &Attrs) -> Result<(), Cause> {
        if data.is_empty() {
            // Not every server takes a write of nothing.
            let set = |id| Frame::request(kind::FSETSTAT, id).string(&handle.0).attrs(attrs);
            let close = |id| Frame::request(kind::CLOSE, id).string(&handle.0);
            let [set, close] = self.session.ask_in_order(|[first, second]| [set(first), close(second)]).await?;
            return done(set).and(done(close));
        }
        let [write, set, close] = self
            .session
            .ask_in_order(|[write, set, close]| {
                [
                    Frame::request(kind::WRITE, write).string(&handle.0).u64(0).string(data),
                    Frame::request(kind::FSETSTAT, set).string(&handle.0).attrs(attrs),
                    Frame::request(kind::CLOSE, close).string(&handle.0),
                ]
            })
            .await?;
        done(write).and(done(set)).and(done(close))
    }

    /// Reads what is in a file that is open, and what it is, and closes it, in one round trip: the server does them in the
    /// order in which they are asked for (draft, 4).
    pub async fn drain(&self, handle: &Handle, length: u32) -> Result<(Bytes, Attrs), Cause> {
        let [read, stat, _] = self
            .session
            .ask_in_order(|[read, stat, close]| {
                [
                    Frame::request(kind::READ, read).string(&handle.0).u64(0).u32(length),
                    Frame::request(kind::FSTAT, stat).string(&handle.0),
                    Frame::request(kind::CLOSE, close).string(&handle.0),
                ]
            })
            .await?;
        let data = data(read, length)?;
        Ok((data, expect(stat, kind::ATTRS)?.attrs().map_err(malformed)?))
    }

    /// At most `length` bytes; none at the end of the file. A server may send fewer than there are.
    pub async fn read(&self, handle: &Handle, offset: u64, length: u32) -> Result<Bytes, Cause> {
        let answer = self.ask(|id| Frame::request(kind::READ, id).string(&handle.0).u64(offset).u32(length)).await?;
        data(answer, length)
    }

    /// Writes all of `data`.
    pub async fn write(&self, handle: &Handle, offset: u64, data: &[u8]) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::WRITE, id).string(&handle.0).u64(offset).string(data)).await
    }

    pub async fn stat(&self, path: &Path) -> Result<Attrs, Cause> {
        self.attrs(|id| Frame::request(kind::STAT, id).path(path)).await
    }

    pub async fn lstat(&self, path: &Path) -> Result<Attrs, Cause> {
        self.attrs(|id| Frame::request(kind::LSTAT, id).path(path)).await
    }

    pub async fn fstat(&self, handle: &Handle) -> Result<Attrs, Cause> {
        self.attrs(|id| Frame::request(kind::FSTAT, id).string(&handle.0)).await
    }

    async fn attrs(&self, make: impl FnOnce(u32) -> Frame) -> Result<Attrs, Cause> {
        let answer = self.ask(make).await?;
        expect(answer, kind::ATTRS)?.attrs().map_err(malformed)
    }

    pub async fn set_stat(&self, path: &Path, attrs: &Attrs) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::SETSTAT, id).path(path).attrs(attrs)).await
    }

    pub async fn set_fstat(&self, handle: &Handle, attrs: &Attrs) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::FSETSTAT, id).string(&handle.0).attrs(attrs)).await
    }

    /// Everything in a directory but `.` and `..`.
    pub async fn list(&self, path: &Path) -> Result<Vec<(PathBuf, Attrs)>, Cause> {
        let handle = self.handle(|id| Frame::request(kind::OPENDIR, id).path(path)).await?;
        let listed = self.list_open(&handle).await;
        self.let_go(&handle).await;
        listed
    }

    /// An answer holds a hundred names or so. Over a long line it counts that the next ones are asked for before the last has
    /// come, twice as many in each round trip. A server answers them in that order (draft, 4.1), and what is asked for behind the
    /// end is not waited for.
    async fn list_open(&self, handle: &Handle) -> Result<Vec<(PathBuf, Attrs)>, Cause> {
        let ask = || self.ask(|id| Frame::request(kind::READDIR, id).string(&handle.0));
        let mut entries = Vec::new();
        let mut asked = FuturesOrdered::from_iter([ask(), ask()]);
        while let Some(answer) = asked.next().await {
            let answer = answer?;
            if answer.kind == kind::STATUS {
                match Status::read(answer.body)? {
                    Status { code: status::EOF, .. } => break,
                    other => return Err(other.cause()),
                }
            }
            // Most directories end with the second answer.
            let more = if entries.is_empty() { 1 } else { 2 };
            asked.extend((asked.len()..LISTING).take(more).map(|_| ask()));
            let mut body = expect(answer, kind::NAME)?;
            for _ in 0..body.u32().map_err(malformed)? {
                let name = body.path().map_err(malformed)?;
                let _long = body.string().map_err(malformed)?;
                let attrs = body.attrs().map_err(malformed)?;
                if is_plain_name(&name) {
                    entries.push((name, attrs));
                }
            }
        }
        Ok(entries)
    }

    /// Makes a directory that everybody may use as the last nine bits of `mode` say, whatever the server's umask. The group
    /// that it has from its parent stays.
    pub async fn make_dir(&self, path: &Path, mode: u32) -> Result<(), Cause> {
        let wanted = |mode| Attrs { permissions: Some(mode), ..Attrs::default() };
        let [made, found] = self
            .session
            .ask_in_order(|[make, look]| {
                [
                    Frame::request(kind::MKDIR, make).path(path).attrs(&wanted(mode)),
                    Frame::request(kind::LSTAT, look).path(path),
                ]
            })
            .await?;
        done(made)?;
        let found = expect(found, kind::ATTRS)?.attrs().map_err(malformed)?.permissions;
        match found {
            Some(found) if found & 0o777 == mode & 0o777 => Ok(()),
            _ => self.set_stat(path, &wanted(found.unwrap_or(0) & 0o7000 | mode)).await,
        }
    }

    pub async fn remove(&self, path: &Path) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::REMOVE, id).path(path)).await
    }

    /// The absolute path, without symbolic links as far as it exists.
    pub async fn real_path(&self, path: &Path) -> Result<PathBuf, Cause> {
        self.name(|id| Frame::request(kind::REALPATH, id).path(path)).await
    }

    pub async fn read_link(&self, path: &Path) -> Result<PathBuf, Cause> {
        self.name(|id| Frame::request(kind::READLINK, id).path(path)).await
    }

    async fn name(&self, make: impl FnOnce(u32) -> Frame) -> Result<PathBuf, Cause> {
        let answer = self.ask(make).await?;
        let mut body = expect(answer, kind::NAME)?;
        match body.u32().map_err(malformed)? {
            1.. => body.path().map_err(malformed),
            0 => Err(Cause::Protocol("an answer without a name".to_owned())),
        }
    }

    /// OpenSSH takes the two names in the other order than the draft says, and everybody has followed it.
    pub async fn make_link(&self, path: &Path, target: &Path) -> Result<(), Cause> {
        self.act(|id| Frame::request(kind::SYMLINK, id).path(target).path(path)).await
    }

    /// Gives a file another name, and replaces what has that name in one step where the server can.
    pub async fn rename(&self, from: &Path, to: &Path) -> Result<(), Cause> {
        if self.extensions.posix_rename {
            return self.act(|id| extended(id, "posix-rename@openssh.com").path(from).path(to)).await;
        }
        let plain = || self.act(|id| Frame::request(kind::RENAME, id).path(from).path(to));
        match plain().await {
            // The name is taken, says version 3 in its own way. Between the two steps there is no file of that name; a
            // server without the extension leaves no better way.
            Err(Cause::Failure(_) | Cause::InTheWay(_)) if self.lstat(to).await.is_ok() => {
                self.remove(to).await?;
                plain().await
            }
            done => done,
        }
    }

    /// Waits until what was written to the file is on the disk.
    pub async fn sync(&self, handle: &Handle) -> Result<(), Cause> {
        if !self.extensions.fsync {
            return Err(Cause::Unsupported);
        }
        self.act(|id| extended(id, "fsync@openssh.com").string(&handle.0)).await
    }

    /// Copies the first `length` bytes of one open file to the beginning of another, on the server.
    pub async fn copy_data(&self, from: &Handle, length: u64, to: &Handle) -> Result<(), Cause> {
        self.act(|id| extended(id, "copy-data").string(&from.0).u64(0).u64(length).string(&to.0).u64(0)).await
    }

    /// How many bytes the login user may still write to the file system of `path`.
    pub async fn available(&self, path: &Path) -> Result<u64, Cause> {
        if !self.extensions.statvfs {
            return Err(Cause::Unsupported);
        }
        let answer = self.ask(|id| extended(id, "statvfs@openssh.com").path(path)).await?;
        let mut body = expect(answer, kind::EXTENDED_REPLY)?;
        let mut number = || body.u64().map_err(malformed);
        let (_block, fragment, _total, _free, available) = (number()?, number()?, number()?, number()?, number()?);
        Ok(fragment.saturating_mul(available))
    }
}

fn extended(id: u32, name: &str) -> Frame {
    Frame::request(kind::EXTENDED, id).string(name.as_bytes())
}

/// A name that a listing may hold. One with a slash would lead elsewhere: only a hostile server sends it.
fn is_plain_name(name: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_os_str().as_bytes();
    !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/') && !bytes.contains(&0)
}

fn malformed(error: super::packet::Malformed) -> Cause {
    Cause::Protocol(error.to_string())
}

fn unexpected(kind: u8) -> Cause {
    Cause::Protocol(format!("an answer of type {kind} where none is due"))
}

/// The body of an answer of that type; a status instead says why there is none.
fn expect(answer: Answer, wanted: u8) -> Result<Body, Cause> {
    match answer.kind {
        kind if kind == wanted => Ok(answer.body),
        kind::STATUS => Err(Status::read(answer.body)?.cause()),
        other => Err(unexpected(other)),
    }
}

/// Of a request that is answered by how it went.
fn done(answer: Answer) -> Result<(), Cause> {
    match answer.kind {
        kind::STATUS => match Status::read(answer.body)? {
            Status { code: status::OK, .. } => Ok(()),
            other => Err(other.cause()),
        },
        other => Err(unexpected(other)),
    }
}

/// What was read, at most `length` bytes.
fn data(answer: Answer, length: u32) -> Result<Bytes, Cause> {
    match answer.kind {
        kind::DATA => {
            let data = Body(answer.body.0).string().map_err(malformed)?;
            if data.len() > length as usize {
                return Err(Cause::Protocol("it sent more than was asked for".to_owned()));
            }
            Ok(data)
        }
        kind::STATUS => match Status::read(answer.body)? {
            Status { code: status::EOF, .. } => Ok(Bytes::new()),
            other => Err(other.cause()),
        },
        other => Err(unexpected(other)),
    }
}

struct Status {
    code: u32,
    message: String,
}

impl Status {
    fn read(mut body: Body) -> Result<Status, Cause> {
        let code = body.u32().map_err(malformed)?;
        // Old servers send no message.
        let message = body.string().unwrap_or_default();
        Ok(Status { code, message: String::from_utf8_lossy(&message).chars().take(200).collect() })
    }

    fn cause(self) -> Cause {
        match self.code {
            status::NO_SUCH_FILE => Cause::NotFound,
            status::PERMISSION_DENIED => Cause::Denied,
            status::OP_UNSUPPORTED => Cause::Unsupported,
            _ => Cause::Failure(self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_cannot_lead_elsewhere() {
        for name in ["", ".", "..", "a/b", "../x", "/etc", "a\0b"] {
            assert!(!is_plain_name(Path::new(name)), "{name:?}");
        }
        for name in ["a", "...", ".hidden", "a b", "a\nb"] {
            assert!(is_plain_name(Path::new(name)), "{name:?}");
        }
    }
}
