//! Power loss and a full disk.
//!
//! The story: the machine loses its power while the database writes. What was synced is on the disk; of what was written since,
//! any part may be: nothing, some pages and not others, half a page. Everything that was acknowledged must be there when the
//! file is opened again, and the file must not be taken for a damaged one.

use redb::{Builder, TableDefinition};

use super::disk::Disk;
use super::*;

const NUMBERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("numbers");

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
        disk.platter().cuts.clear();
        put(&store, next, (next as usize * 97) % 9_000).await.unwrap();
        let cuts = std::mem::take(&mut disk.platter().cuts);
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
    let before = disk.platter().now.len();
    disk.platter().cuts.clear();
    assert!(database.compact().unwrap());
    let cuts = std::mem::take(&mut disk.platter().cuts);
    assert!(cuts.len() > 2, "the power went {} times", cuts.len());
    for image in &cuts {
        assert_eq!(found(image), (900..1_000).collect::<Vec<_>>());
    }
    drop(database);
    let after = disk.platter().now.len();
    assert!(after * 2 < before, "{before} bytes became {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_write_and_loses_nothing_that_was_acknowledged() {
    let disk = Disk::default();
    let store = disk.store();
    put(&store, 0, 10).await.unwrap();
    let full = disk.platter().now.len() as u64;
    disk.platter().room = Some(full);
    let mut last = 0;
    let error = loop {
        match put(&store, last + 1, 200_000).await {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
    };
    // Again: the cause is still told, and nobody is told that it has worked.
    let again = put(&store, last + 1, 200_000).await.unwrap_err();
    for error in [error, again] {
        let problem = crate::error::Problem::from(error);
        assert!(problem.message.contains("no storage space"), "{}", problem.message);
        assert!(problem.retryable && problem.hint.is_some_and(|hint| hint.contains("disk is not full")));
    }
    let image = disk.platter().now.clone();
    assert_eq!(found(&image), (0..=last).collect::<Vec<_>>());
    // Once there is room again, it goes on without a restart.
    disk.platter().room = None;
    put(&store, last + 1, 200_000).await.unwrap();
    drop(store);
    let image = disk.platter().now.clone();
    assert_eq!(found(&image), (0..=last + 1).collect::<Vec<_>>());
}
