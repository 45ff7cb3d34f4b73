//! Files at one place: this machine or a server. A transfer goes from one place to another and knows no more than this.
//!
//! Paths are absolute and lead where they say: who calls has resolved symbolic links on the way there. The last component is
//! never followed, but where a method says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::FileError;

/// The step that errors of [`Files::rename`] name.
pub const RENAME: &str = "replace";

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Link,
    /// A device, a FIFO, a socket.
    Special,
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub kind: Kind,
    pub size: u64,
    /// The twelve lower bits of `st_mode`.
    pub mode: u32,
    /// User and group, as numbers; absent where the server does not tell.
    pub owner: Option<(u32, u32)>,
    /// In seconds since 1970: SFTP has no fractions, and no time after 2106.
    pub modified: u32,
    pub accessed: u32,
}

impl Meta {
    /// From `st_mode`.
    pub fn kind_of(permissions: u32) -> Kind {
        match permissions & 0o170_000 {
            0o100_000 => Kind::File,
            0o040_000 => Kind::Dir,
            0o120_000 => Kind::Link,
            _ => Kind::Special,
        }
    }
}

/// What a file gets at its end. Absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Cuts the file there: what was kept of it may be longer.
    pub size: Option<u64>,
    pub mode: u32,
    /// Of access and modification.
    pub times: Option<(u32, u32)>,
    /// Tried, and not an error where only root may do it.
    pub owner: Option<(u32, u32)>,
    /// On the disk before it is said to be there.
    pub durable: bool,
}

/// One place. Every method is one step that has happened or failed as a whole, and may be cancelled between steps only:
/// dropping a future leaves open what it was doing.
pub trait Files: Send + Sync + 'static {
    /// An open file.
    type File: Send + Sync + 'static;

    /// The server's alias; `None` is this machine.
    fn place(&self) -> Option<&Arc<str>>;

    /// The most bytes that one read or write takes.
    fn chunk(&self) -> u32;

    /// How many files may be open at once. One that fits into a block is open here no longer than a step takes.
    fn max_open(&self) -> usize;

    /// How long it takes to ask something that costs no time to answer.
    fn round_trip(&self) -> Duration;

    /// A path as a user writes it, from the root. `~` is the home directory.
    fn absolute(&self, path: &str) -> impl Future<Output = Result<PathBuf, FileError>> + Send;

    /// What stands there; `follow` looks behind a symbolic link. `None`: nothing.
    fn meta(&self, path: &Path, follow: bool) -> impl Future<Output = Result<Option<Meta>, FileError>> + Send;

    /// Everything in a directory but `.` and `..`, in no order.
    fn list(&self, path: &Path) -> impl Future<Output = Result<Vec<(PathBuf, Meta)>, FileError>> + Send;

    /// The path of something that is there without symbolic links, from the root.
    fn real_path(&self, path: &Path) -> impl Future<Output = Result<PathBuf, FileError>> + Send;

    fn read_link(&self, path: &Path) -> impl Future<Output = Result<PathBuf, FileError>> + Send;

    fn make_link(&self, path: &Path, target: &Path) -> impl Future<Output = Result<(), FileError>> + Send;

    fn make_dir(&self, path: &Path, mode: u32) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Opens a regular file for reading, and says what it is at that moment.
    fn open(&self, path: &Path, meta: &Meta) -> impl Future<Output = Result<Self::File, FileError>> + Send;

    /// What an open file is now.
    fn look(&self, file: &Self::File) -> impl Future<Output = Result<Meta, FileError>> + Send;

    /// Opens a file for writing that only its owner may read. What is in it stays if `keep`, and goes otherwise. About
    /// `size` bytes will be written.
    fn create(&self, path: &Path, keep: bool, size: u64) -> impl Future<Output = Result<Self::File, FileError>> + Send;

    /// `length` bytes, or fewer if the file ends before.
    fn read(
        &self,
        file: &Self::File,
        offset: u64,
        length: u32,
    ) -> impl Future<Output = Result<Bytes, FileError>> + Send;

    fn write(&self, file: &Self::File, offset: u64, data: Bytes) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Closes a file that was read.
    fn close(&self, file: Self::File) -> impl Future<Output = ()> + Send;

    /// Ends the writing: gives the file its attributes and closes it.
    fn finish(&self, file: Self::File, how: &Finish) -> impl Future<Output = Result<(), FileError>> + Send;

    /// All of a small file, and what it was when it was read: opened, read and closed in one go.
    fn take(&self, path: &Path, meta: &Meta) -> impl Future<Output = Result<(Bytes, Meta), FileError>> + Send;

    /// Makes a small file: created as by `create`, written and finished in one go, and renamed to `name` if there is one.
    fn put(
        &self,
        path: &Path,
        data: Bytes,
        how: &Finish,
        name: Option<&Path>,
    ) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Replaces what has the new name, in one step; `durable` has it on the disk, where that can be asked for.
    fn rename(&self, from: &Path, to: &Path, durable: bool) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Removes something that is no directory. What is gone already is no error.
    fn remove(&self, path: &Path) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Mode and times of a directory.
    fn set(&self, path: &Path, how: &Finish) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Makes the first `length` bytes of `from` those of the file `to`, without moving them through us. Says whether it could.
    fn clone_prefix(&self, from: &Path, to: &Path, length: u64)
    -> impl Future<Output = Result<bool, FileError>> + Send;

    /// SHA-256 of the first `length` bytes, if the place can tell without sending them.
    fn digest(&self, path: &Path, length: u64) -> impl Future<Output = Result<Option<[u8; 32]>, FileError>> + Send;
}
