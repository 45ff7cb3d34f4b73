//! A disk for tests that loses its power, is full, or fails.

use std::io;
use std::sync::{Mutex, MutexGuard};

use rand::RngExt;
use redb::{Builder, StorageBackend};

use super::*;

/// A disk with a cache that loses what is in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
pub(crate) struct Platter {
    /// What survives for certain.
    synced: Vec<u8>,
    /// What has happened since, in order.
    unsynced: Vec<Change>,
    /// As a process sees it.
    pub(super) now: Vec<u8>,
    /// What the disk would have held if the power had gone before each sync: every moment at which the most is at stake.
    pub(super) cuts: Vec<Vec<u8>>,
    /// Bytes that the disk has; `None` is no end.
    pub(super) room: Option<u64>,
    /// How many syncs succeed before everything fails; `None` is no end.
    pub(crate) syncs: Option<u32>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Length(length) => bytes.resize(*length, 0),
            Change::Write(at, data) => {
                let end = (at + data.len()).max(bytes.len());
                bytes.resize(end, 0);
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Platter {
    fn change(&mut self, change: Change) -> Result<(), io::Error> {
        if self.syncs == Some(0) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        change.apply(&mut self.now);
        self.unsynced.push(change);
        Ok(())
    }

    /// What the disk holds if the power goes now.
    fn without_power(&self) -> Vec<u8> {
        let mut rng = rand::rng();
        let mut image = self.synced.clone();
        for change in &self.unsynced {
            match (rng.random_range(0..4), change) {
                (0, _) => {}
                // A sector is written whole or not at all, a page need not be.
                (1, Change::Write(at, data)) if data.len() > 512 => {
                    let half = rng.random_range(1..data.len() / 512 + 1) * 512;
                    Change::Write(*at, data[..half.min(data.len())].to_vec()).apply(&mut image);
                }
                _ => change.apply(&mut image),
            }
        }
        image
    }
}

impl Disk {
    pub(crate) fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// A database on it.
    pub(crate) fn store(&self) -> Store {
        let disk = self.clone();
        let failed =
            |error: redb::DatabaseError| StoreError::Open { path: PathBuf::new(), source: Arc::new(error.into()) };
        let open = move || Builder::new().set_cache_size(1 << 20).create_with_backend(disk.clone()).map_err(failed);
        let database = Arc::new(Opened::new(open().unwrap(), open));
        let writer = writer::Writer::start(database.clone()).unwrap();
        Store(Arc::new(Inner { writer, database, path: PathBuf::new(), warnings: Vec::new() }))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.platter().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let (from, platter) = (offset as usize, self.platter());
        out.copy_from_slice(&platter.now[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut platter = self.platter();
        if platter.room.is_some_and(|room| len > room) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        platter.change(Change::Length(len as usize))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.platter();
        if let Some(left) = platter.syncs {
            platter.syncs = Some(left.saturating_sub(1));
            if left == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        let image = platter.without_power();
        platter.cuts.push(image);
        platter.synced = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.platter().change(Change::Write(offset as usize, data.to_vec()))
    }
}
