//! Power loss and a full disk.
//!
//! The story: the machine loses its power while the database writes. What was synced is on the disk; of what was written since,
//! any part may be: nothing, some pages and not others, half a page. Everything that was acknowledged must be there when the
//! file is opened again, and the file must not be taken for a damaged one.

use std::io;
use std::sync::Mutex;

use rand::RngExt;
use redb::{Builder, StorageBackend, TableDefinition};

use super::*;

const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");

/// A disk with a cache that loses what is in it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What survives for certain.
    synced: Vec<u8>,
    /// What has happened since, in order.
    unsynced: Vec<Change>,
    /// As a process sees it.
    now: Vec<u8>,
    /// What the disk would have held if the power had gone before each sync: every moment at which the most is at stake.
    cuts: Vec<Vec<u8>>,
    /// Bytes that the disk has; `None` is no end.
    room: Option<u64>,
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
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
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
    fn store(&self) -> Store {
        let database = Builder::new().set_cache_size(1 << 20).create_with_backend(self.clone()).unwrap();
        let database = Arc::new(database);
        let writer = writer::Writer::start(database.clone()).unwrap();
        Store(Arc::new(Inner { writer, database, path: PathBuf::new(), warnings: Vec::new() }))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let (from, platter) = (offset as usize, self.0.lock().unwrap());
        out.copy_from_slice(&platter.now[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut platter = self.0.lock().unwrap();
        if platter.room.is_some_and(|room| len > room) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        platter.change(Change::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.0.lock().unwrap();
        let image = platter.without_power();
        platter.cuts.push(image);
        platter.synced = platter.now.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.lock().unwrap().change(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

async fn put(store: &Store, number: u64, size: usize) -> Result<(), StoreError> {
    let value = vec![number as u8; size];
    store
        .write(move |txn| {
            txn.open_table(NUMBERS)?.insert(number, value.as_slice())?;
            Ok(())
        })
        .await
}

/// The numbers in a file, after it was opened as the program opens it.
fn found(image: &[u8]) -> Vec<u64> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orchestrator.redb");
    std::fs::write(&path, image).unwrap();
    let store = Store::open(&path).unwrap();
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    let numbers = store.read(|txn| {
        let mut numbers = Vec::new();
        for row in redb::ReadableTable::iter(&txn.open_table(NUMBERS)?)? {
            let (number, value) = row?;
            assert!(value.value().iter().all(|byte| *byte == number.value() as u8), "{} is torn", number.value());
            numbers.push(number.value());
        }
        Ok(numbers)
    });
    numbers.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_loss_of_power_at_any_moment() {
    let disk = Disk::default();
    let store = disk.store();
    put(&store, 0, 10).await.unwrap();
    let mut checked = 0;
    for next in 1..60_u64 {
        disk.0.lock().unwrap().cuts.clear();
        put(&store, next, (next as usize * 97) % 9_000).await.unwrap();
        let cuts = std::mem::take(&mut disk.0.lock().unwrap().cuts);
        for image in &cuts {
            let numbers = found(image);
            // The one that was being written may be there, all before it must be.
            assert!(numbers.len() as u64 >= next, "{} of {next} acknowledged ones are left", numbers.len());
            assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
            checked += 1;
        }
    }
    assert!(checked >= 59, "the power went {checked} times");
}

#[test]
fn a_loss_of_power_while_the_file_is_made_smaller_costs_nothing_that_is_left() {
    let disk = Disk::default();
    let mut database = Builder::new().set_cache_size(1 << 20).create_with_backend(disk.clone()).unwrap();
    let change = |numbers: std::ops::Range<u64>, put: bool| {
        let txn = database.begin_write().unwrap();
        let mut table = txn.open_table(NUMBERS).unwrap();
        for number in numbers {
            match put {
                true => drop(table.insert(number, vec![number as u8; 3_000].as_slice()).unwrap()),
                false => drop(table.remove(number).unwrap()),
            }
        }
        drop(table);
        txn.commit().unwrap();
    };
    change(0..1_000, true);
    change(0..900, false);
    let before = disk.0.lock().unwrap().now.len();
    disk.0.lock().unwrap().cuts.clear();
    assert!(database.compact().unwrap());
    let cuts = std::mem::take(&mut disk.0.lock().unwrap().cuts);
    assert!(cuts.len() > 2, "the power went {} times", cuts.len());
    for image in &cuts {
        assert_eq!(found(image), (900..1_000).collect::<Vec<_>>());
    }
    drop(database);
    let after = disk.0.lock().unwrap().now.len();
    assert!(after * 2 < before, "{before} bytes became {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_write_and_loses_nothing_that_was_acknowledged() {
    let disk = Disk::default();
    let store = disk.store();
    put(&store, 0, 10).await.unwrap();
    let full = disk.0.lock().unwrap().now.len() as u64;
    disk.0.lock().unwrap().room = Some(full);
    let mut last = 0;
    let error = loop {
        match put(&store, last + 1, 200_000).await {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
    };
    let problem = crate::error::Problem::from(error);
    assert!(problem.hint.is_some_and(|hint| hint.contains("disk is not full")));
    drop(store);
    let image = disk.0.lock().unwrap().now.clone();
    assert_eq!(found(&image), (0..=last).collect::<Vec<_>>());
}
