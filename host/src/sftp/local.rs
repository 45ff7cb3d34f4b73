//! Files of this machine. System calls that may wait for a disk run on threads that may wait.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::{Cause, FileError};
use super::files::{Files, Finish, Meta, RENAME};
use super::hands::Hands;
use crate::config::expand_home;

/// As much as SFTP servers take at once.
const CHUNK: u32 = 255 << 10;
/// A large file takes several places (`steps`), and a small one is open for no longer than it takes to read or write it: far
/// fewer are open than the usual limit of 1024 per process, which connections need, too.
const MAX_OPEN: usize = 1024;

/// This machine.
#[derive(Clone, Debug, Default)]
pub struct Local {
    hands: Hands,
}

impl Local {
    /// Runs system calls for one step on one path.
    async fn blocking<T: Send + 'static>(
        &self,
        step: &'static str,
        path: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, FileError> {
        let owned = path.to_owned();
        let done = self.hands.run(move || work(&owned)).await;
        let done = done.unwrap_or_else(|| Err(io::Error::other("there is no thread that could do it")));
        done.map_err(|error| FileError::new(None, step, path, cause(error)))
    }
}

fn cause(error: io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::NotFound,
        io::ErrorKind::PermissionDenied => Cause::Denied,
        io::ErrorKind::StorageFull => Cause::Full,
        _ => Cause::Io(Arc::new(error)),
    }
}

fn meta(of: &fs::Metadata) -> Meta {
    let seconds = |time: i64| time.clamp(0, u32::MAX.into()) as u32;
    Meta {
        kind: Meta::kind_of(of.mode()),
        size: of.len(),
        mode: of.mode() & 0o7777,
        owner: Some((of.uid(), of.gid())),
        modified: seconds(of.mtime()),
        accessed: seconds(of.atime()),
    }
}

/// An open file of this machine, with the path for errors.
#[derive(Clone)]
pub struct LocalFile {
    file: Arc<File>,
    path: Arc<Path>,
}

fn set_times(file: &File, (accessed, modified): (u32, u32)) -> io::Result<()> {
    let at = |seconds: u32| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.into());
    file.set_times(fs::FileTimes::new().set_accessed(at(accessed)).set_modified(at(modified)))
}

/// Something else may have taken the name by now: a link is not followed, and a FIFO does not make us wait.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file any more")) }
}

fn create_file(path: &Path, keep: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(!keep).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn finish_file(file: &File, how: &Finish) -> io::Result<()> {
    let found = file.metadata()?;
    if let Some(size) = how.size.filter(|size| *size != found.len()) {
        file.set_len(size)?;
    }
    if let Some((user, group)) = how.owner.filter(|owner| *owner != (found.uid(), found.gid())) {
        // Only root may give files away.
        let _ = std::os::unix::fs::fchown(file, Some(user), Some(group));
    }
    file.set_permissions(Permissions::from_mode(how.mode))?;
    if let Some(times) = how.times {
        set_times(file, times)?;
    }
    if how.durable { file.sync_all() } else { Ok(()) }
}

fn rename_file(from: &Path, to: &Path, durable: bool) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(folder) if durable => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn hash(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK as usize];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

impl Files for Local {
    type File = LocalFile;

    fn place(&self) -> Option<&Arc<str>> {
        None
    }

    fn chunk(&self) -> u32 {
        CHUNK
    }

    fn max_open(&self) -> usize {
        MAX_OPEN
    }

    fn round_trip(&self) -> Duration {
        Duration::ZERO
    }

    async fn absolute(&self, path: &str) -> Result<PathBuf, FileError> {
        let path = expand_home(path);
        if path.is_absolute() {
            return Ok(path);
        }
        // A daemon serves clients that were started in different directories, and knows none of them.
        let why = Cause::InTheWay("a path on this machine is absolute or begins with ~");
        Err(FileError::new(None, "find", &path, why))
    }

    async fn meta(&self, path: &Path, follow: bool) -> Result<Option<Meta>, FileError> {
        self.blocking("look at", path, move |path| {
            let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
            match found {
                Ok(found) => Ok(Some(meta(&found))),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn list(&self, path: &Path) -> Result<Vec<(PathBuf, Meta)>, FileError> {
        self.blocking("list", path, |path| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                match entry.metadata() {
                    Ok(found) => entries.push((PathBuf::from(entry.file_name()), meta(&found))),
                    // It vanished in between.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(entries)
        })
        .await
    }

    async fn real_path(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.blocking("look at", path, |path| fs::canonicalize(path)).await
    }

    async fn read_link(&self, path: &Path) -> Result<PathBuf, FileError> {
        self.blocking("read the link", path, |path| fs::read_link(path)).await
    }

    async fn make_link(&self, path: &Path, target: &Path) -> Result<(), FileError> {
        let target = target.to_owned();
        self.blocking("make the link", path, |path| std::os::unix::fs::symlink(target, path)).await
    }

    async fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        self.blocking("make the directory", path, move |path| {
            fs::DirBuilder::new().mode(mode).create(path)?;
            let found = fs::symlink_metadata(path)?.mode();
            if found & 0o777 == mode & 0o777 {
                return Ok(());
            }
            // The process's umask has taken some bits away. The group that it has from its parent stays.
            fs::set_permissions(path, Permissions::from_mode(found & 0o7000 | mode))
        })
        .await
    }

    async fn open(&self, path: &Path, _: &Meta) -> Result<LocalFile, FileError> {
        self.blocking("open", path, |path| Ok(LocalFile { file: Arc::new(open_file(path)?), path: path.into() })).await
    }

    async fn look(&self, file: &LocalFile) -> Result<Meta, FileError> {
        let open = file.file.clone();
        self.blocking("look at", &file.path, move |_| open.metadata().map(|found| meta(&found))).await
    }

    async fn create(&self, path: &Path, keep: bool, _size: u64) -> Result<LocalFile, FileError> {
        self.blocking("create", path, move |path| {
            Ok(LocalFile { file: Arc::new(create_file(path, keep)?), path: path.into() })
        })
        .await
    }

    async fn read(&self, file: &LocalFile, offset: u64, length: u32) -> Result<Bytes, FileError> {
        let open = file.file.clone();
        self.blocking("read", &file.path, move |_| {
            let mut buffer = vec![0; length as usize];
            let mut filled = 0;
            while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match open.read_at(rest, offset + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.truncate(filled);
            Ok(buffer.into())
        })
        .await
    }

    async fn write(&self, file: &LocalFile, offset: u64, data: Bytes) -> Result<(), FileError> {
        let open = file.file.clone();
        self.blocking("write", &file.path, move |_| open.write_all_at(&data, offset)).await
    }

    async fn close(&self, file: LocalFile) {
        drop(file);
    }

    async fn finish(&self, file: LocalFile, how: &Finish) -> Result<(), FileError> {
        let how = how.clone();
        self.blocking("finish", &file.path.clone(), move |_| finish_file(&file.file, &how)).await
    }

    async fn take(&self, path: &Path, expected: &Meta) -> Result<(Bytes, Meta), FileError> {
        let size = expected.size;
        self.blocking("read", path, move |path| {
            let mut file = open_file(path)?;
            let mut data = Vec::with_capacity(size as usize);
            (&mut file).take(size).read_to_end(&mut data)?;
            Ok((data.into(), meta(&file.metadata()?)))
        })
        .await
    }

    async fn put(&self, path: &Path, data: Bytes, how: &Finish, name: Option<&Path>) -> Result<(), FileError> {
        let (how, name) = (how.clone(), name.map(Path::to_owned));
        self.blocking("write", path, move |path| {
            let mut file = create_file(path, false)?;
            file.write_all(&data)?;
            finish_file(&file, &how)?;
            name.map_or(Ok(()), |name| rename_file(path, &name, how.durable))
        })
        .await
    }

    async fn rename(&self, from: &Path, to: &Path, durable: bool) -> Result<(), FileError> {
        let from = from.to_owned();
        self.blocking(RENAME, to, move |to| rename_file(&from, to, durable)).await
    }

    async fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.blocking("remove", path, |path| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        })
        .await
    }

    async fn set(&self, path: &Path, how: &Finish) -> Result<(), FileError> {
        let how = how.clone();
        self.blocking("set the attributes of", path, move |path| {
            fs::set_permissions(path, Permissions::from_mode(how.mode))?;
            let directory = File::open(path)?;
            if let Some(times) = how.times {
                set_times(&directory, times)?;
            }
            if how.durable {
                directory.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    async fn clone_prefix(&self, from: &Path, to: &Path, length: u64) -> Result<bool, FileError> {
        let from = from.to_owned();
        self.blocking("copy what is there to", to, move |to| {
            let mut source = File::open(from)?.take(length);
            let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
            Ok(io::copy(&mut source, &mut target)? == length)
        })
        .await
    }

    async fn digest(&self, path: &Path, length: u64) -> Result<Option<[u8; 32]>, FileError> {
        self.blocking("compute the SHA-256 of", path, move |path| hash(File::open(path)?.take(length)).map(Some)).await
    }
}
