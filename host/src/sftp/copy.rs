//! One file from one place to another: to a temporary name, in many blocks at a time, and only when it is whole under its
//! real name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use sha2::{Digest, Sha256};

use super::error::{Cause, FileError};
use super::files::{Files, Finish, Kind, Meta};
use super::plan::Item;
use super::transfer::Transfer;

/// Blocks of one file that are on their way or wait for room.
const BLOCKS: usize = 64;
/// How often a file is begun or continued without any block having arrived in between.
const ATTEMPTS: u32 = 3;

/// Copies a file. Returns how many bytes were moved: fewer than its size when a part of it was there.
pub async fn copy<S: Files, T: Files>(transfer: &Transfer<S, T>, item: &Item) -> Result<u64, FileError> {
    let (from, to) = (transfer.from(&item.path), transfer.to(&item.path));
    let target = &transfer.target;
    let temporary = transfer.tag.beside(&to);
    let Some(_claim) = transfer.claims.take(target.place(), &temporary) else {
        return Err(FileError::new(target.place(), "write", &to, Cause::Busy));
    };
    transfer.unfinished.add(&temporary);
    let copying = Copying { transfer, item, from, temporary: temporary.clone() };
    let moved = match copying.to_temporary().await {
        Ok(moved) => transfer.settle(&temporary, &to).await.map(|()| moved),
        Err(error) => Err(error),
    };
    match &moved {
        Ok(_) => transfer.unfinished.forget(&temporary),
        // What is there may be continued later.
        Err(error) if error.is_lost() && transfer.options.resume => transfer.unfinished.forget(&temporary),
        Err(error) if error.is_lost() => {}
        Err(_) => {
            if target.remove(&temporary).await.is_ok() {
                transfer.unfinished.forget(&temporary);
            }
        }
    }
    moved
}

struct Copying<'a, S: Files, T: Files> {
    transfer: &'a Transfer<S, T>,
    item: &'a Item,
    from: PathBuf,
    temporary: PathBuf,
}

impl<S: Files, T: Files> Copying<'_, S, T> {
    fn source(&self) -> &S {
        &self.transfer.source
    }

    fn target(&self) -> &T {
        &self.transfer.target
    }

    fn changed(&self) -> FileError {
        FileError::new(self.source().place(), "read", &self.from, Cause::Changed)
    }

    /// Fills the temporary file. A connection that breaks costs what was on its way, and a file that changes meanwhile is
    /// read once more from its beginning.
    async fn to_temporary(&self) -> Result<u64, FileError> {
        let mut expected = self.item.source.clone();
        let mut done = if self.transfer.options.resume { self.resume_point(&expected).await? } else { 0 };
        let (mut moved, mut attempts, mut changes) = (0, 0, 0);
        loop {
            let begun = done;
            let tried = self.attempt(&expected, &mut done).await;
            moved += done - begun;
            match tried {
                Ok(()) => break,
                Err(error) if error.is_lost() => {
                    attempts = if done > begun { 1 } else { attempts + 1 };
                    if attempts >= ATTEMPTS {
                        return Err(error);
                    }
                    tracing::debug!(%error, done, "the transfer of a file goes on where it was");
                }
                Err(error) if matches!(error.cause, Cause::Changed) && changes == 0 => {
                    changes += 1;
                    let now = self.source().meta(&self.from, false).await?;
                    expected = now.filter(|now| now.kind == Kind::File).ok_or(error)?;
                    self.transfer.taken_back(done);
                    done = 0;
                }
                Err(error) => return Err(error),
            }
        }
        if self.transfer.options.verify {
            self.verify(expected.size).await?;
        }
        Ok(moved)
    }

    /// From `done` to the end, with attributes. `done` is moved on by what has arrived for certain.
    async fn attempt(&self, expected: &Meta, done: &mut u64) -> Result<(), FileError> {
        let keep = *done > 0;
        let how = self.how(expected, keep);
        if !keep && expected.size <= self.chunk() {
            return self.small(expected, &how, done).await;
        }
        let open = self.source().open(&self.from, expected);
        let create = self.target().create(&self.temporary, keep, expected.size - *done);
        let (source, target) = futures::future::try_join(open, create).await?;
        let pumped = self.pump(&source, &target, expected, done).await;
        let closing = self.source().close(source);
        if let Err(error) = pumped {
            // Nothing is waited for on a connection that is gone.
            if !error.is_lost() {
                closing.await;
            }
            return Err(error);
        }
        let (finished, ()) = futures::future::join(self.target().finish(target, &how), closing).await;
        finished
    }

    fn chunk(&self) -> u64 {
        self.source().chunk().min(self.target().chunk()).into()
    }

    fn how(&self, expected: &Meta, keep: bool) -> Finish {
        let options = &self.transfer.options;
        let replaced = self.item.target.as_ref().filter(|target| target.kind == Kind::File);
        Finish {
            size: keep.then_some(expected.size),
            // Without being asked to, nobody is given a program that runs as its owner.
            mode: expected.mode & if options.preserve { 0o7777 } else { 0o777 },
            times: options.preserve.then_some((expected.accessed, expected.modified)),
            owner: replaced.and_then(|replaced| replaced.owner),
            durable: options.durable,
        }
    }

    /// A file that fits into one block.
    async fn small(&self, expected: &Meta, how: &Finish, done: &mut u64) -> Result<(), FileError> {
        let room = self.transfer.window.room(expected.size, expected.size == self.chunk()).await;
        let (data, now) = self.source().take(&self.from, expected).await?;
        if !is_same(&now, expected) || data.len() as u64 != expected.size {
            return Err(self.changed());
        }
        self.target().put(&self.temporary, data, how).await?;
        room.done();
        *done = expected.size;
        self.transfer.arrived(expected.size);
        Ok(())
    }

    /// Moves the blocks, and looks whether the file is still what it was.
    async fn pump(&self, source: &S::File, target: &T::File, expected: &Meta, done: &mut u64) -> Result<(), FileError> {
        let (chunk, size) = (self.chunk(), expected.size);
        let mut next = *done;
        let mut outstanding = BTreeSet::new();
        let mut moving = FuturesUnordered::new();
        loop {
            while next < size && moving.len() < BLOCKS {
                let (offset, length) = (next, chunk.min(size - next));
                outstanding.insert(offset);
                moving.push(async move {
                    self.block(source, target, offset, length, length == chunk).await.map(|()| offset)
                });
                next += length;
            }
            match moving.next().await {
                Some(Ok(offset)) => {
                    outstanding.remove(&offset);
                    *done = outstanding.first().copied().unwrap_or(next);
                }
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        if is_same(&self.source().look(source).await?, expected) { Ok(()) } else { Err(self.changed()) }
    }

    async fn block(
        &self,
        source: &S::File,
        target: &T::File,
        offset: u64,
        length: u64,
        whole: bool,
    ) -> Result<(), FileError> {
        let room = self.transfer.window.room(length, whole).await;
        let data = self.source().read(source, offset, length as u32).await?;
        if (data.len() as u64) < length {
            return Err(self.changed());
        }
        self.target().write(target, offset, data).await?;
        room.done();
        self.transfer.arrived(length);
        Ok(())
    }

    /// How much of the file is there already and is the same: in our temporary file, or under the real name.
    async fn resume_point(&self, expected: &Meta) -> Result<u64, FileError> {
        let size = expected.size;
        let partial = self.target().meta(&self.temporary, false).await?.filter(|partial| partial.kind == Kind::File);
        if let Some(partial) = partial
            && (1..=size).contains(&partial.size)
            && self.is_same(&self.temporary, partial.size).await?
        {
            return Ok(self.transfer.spared(partial.size));
        }
        let Some(there) = &self.item.target else { return Ok(0) };
        let to = self.transfer.to(&self.item.path);
        if there.kind == Kind::File
            && (1..=size).contains(&there.size)
            && self.is_same(&to, there.size).await?
            && self.target().clone_prefix(&to, &self.temporary, there.size).await?
        {
            return Ok(self.transfer.spared(there.size));
        }
        Ok(0)
    }

    /// Whether the file at the target begins as ours does.
    async fn is_same(&self, target: &Path, length: u64) -> Result<bool, FileError> {
        let ours = digest(self.source(), &self.from, length);
        let theirs = digest(self.target(), target, length);
        let (ours, theirs) = futures::future::try_join(ours, theirs).await?;
        Ok(ours == theirs)
    }

    async fn verify(&self, size: u64) -> Result<(), FileError> {
        if self.is_same(&self.temporary, size).await? {
            return Ok(());
        }
        Err(FileError::new(self.target().place(), "verify", &self.temporary, Cause::Corrupt))
    }
}

/// Nobody has written to it in between, as far as can be told.
fn is_same(now: &Meta, before: &Meta) -> bool {
    (now.size, now.modified) == (before.size, before.modified)
}

/// SHA-256 of the first `length` bytes of a file: where it is if that is possible, else by reading it.
pub async fn digest<F: Files>(files: &F, path: &Path, length: u64) -> Result<[u8; 32], FileError> {
    let chunk = u64::from(files.chunk());
    // A command on the server takes longer than reading a block from it.
    if length > chunk
        && let Some(digest) = files.digest(path, length).await?
    {
        return Ok(digest);
    }
    let Some(meta) = files.meta(path, false).await? else {
        return Err(FileError::new(files.place(), "read", path, Cause::NotFound));
    };
    if meta.size <= chunk {
        let (data, _) = files.take(path, &meta).await?;
        return Ok(Sha256::digest(data.get(..length as usize).unwrap_or(&data)).into());
    }
    let file = files.open(path, &meta).await?;
    let offsets = (0..length.div_ceil(chunk)).map(|block| block * chunk);
    let reads = offsets.map(|offset| files.read(&file, offset, chunk.min(length - offset) as u32));
    let mut blocks = stream::iter(reads).buffered(8);
    let mut hasher = Sha256::new();
    while let Some(block) = blocks.next().await {
        hasher.update(block?);
    }
    drop(blocks);
    files.close(file).await;
    Ok(hasher.finalize().into())
}
