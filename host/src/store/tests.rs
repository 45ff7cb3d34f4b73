//! Tests of the database file: grouping, reopening, damage, locks and versions.

use std::os::unix::fs::PermissionsExt;

use redb::{ReadableTable, TableDefinition};

use super::*;

const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("orchestrator.redb")
}

async fn put(store: &Store, key: u64, value: u64) -> Result<(), StoreError> {
    store
        .write(move |txn| {
            txn.open_table(NUMBERS)?.insert(key, value)?;
            Ok(())
        })
        .await
}

fn all(store: &Store) -> Vec<(u64, u64)> {
    store
        .read(|txn| {
            let table = txn.open_table(NUMBERS)?;
            let mut found = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                found.push((key.value(), value.value()));
            }
            Ok(found)
        })
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    put(&store, 1, 10).await.unwrap();
    drop(store);
    let store = Store::open(&file(&directory)).unwrap();
    assert_eq!(all(&store), [(1, 10)]);
    assert!(store.warnings().is_empty());
    assert!(store.file_size().unwrap() > 0);
}

#[tokio::test]
async fn the_file_can_be_read_by_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    drop(Store::open(&path).unwrap());
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_no_hurry_is_left_to_the_writer_with_whatever_else_comes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    let write = |number: u64, haste: Haste| {
        store.write_with(haste, move |txn| {
            txn.open_table(NUMBERS)?.insert(number, number)?;
            Ok(std::thread::current().name() == Some("store-writer"))
        })
    };
    assert!(!write(0, Haste::Now).await.unwrap(), "alone and in a hurry it is committed on the spot");
    assert!(write(1, Haste::Soon).await.unwrap());
    let many = futures::future::join_all((2..40).map(|number| write(number, Haste::Soon)));
    let (many, urgent) = tokio::join!(many, write(40, Haste::Now));
    assert!(urgent.is_ok() && many.into_iter().all(Result::unwrap));
    assert_eq!(all(&store).len(), 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_all_arrive_and_failing_ones_fail_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    let mut tasks = Vec::new();
    for number in 0..600_u64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            store
                .write(move |txn| {
                    txn.open_table(NUMBERS)?.insert(number, number)?;
                    match number % 10 {
                        3 => Err(StoreError::record("numbers", number, "refused by the test")),
                        7 => panic!("panicked by the test"),
                        _ => Ok(number),
                    }
                })
                .await
        }));
    }
    for (number, task) in tasks.into_iter().enumerate() {
        let number = number as u64;
        match (number % 10, task.await.unwrap()) {
            (3, Err(StoreError::Record { key, .. })) => assert_eq!(key, number.to_string()),
            (7, Err(StoreError::Panicked)) => {}
            (_, Ok(value)) => assert_eq!(value, number),
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
    let expected: Vec<_> = (0..600).filter(|n| n % 10 != 3 && n % 10 != 7).map(|n| (n, n)).collect();
    assert_eq!(all(&store), expected);
}

/// The first operation holds the writer until all others wait; these then fit into one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_the_same_time_shares_one_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (runs, is_running) = tokio::sync::oneshot::channel();
    let mut runs = Some(runs);
    let blocker = {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .write(move |_| {
                    runs.take().unwrap().send(()).unwrap();
                    let _ = held.recv();
                    Ok(())
                })
                .await
        })
    };
    // Its group is complete once it runs, so none of the others can be in it.
    is_running.await.unwrap();
    let mut others = tokio::task::JoinSet::new();
    for number in 0..100 {
        let store = store.clone();
        others.spawn(async move {
            store
                .write(move |txn| {
                    let mut table = txn.open_table(NUMBERS)?;
                    table.insert(number, number)?;
                    // Rows of the same, still uncommitted transaction are visible here.
                    Ok(table.iter()?.count())
                })
                .await
                .unwrap()
        });
    }
    // All others but the one that the writer's thread holds are in the queue once its free places say so.
    while store.0.writer.free_places() > QUEUE_PLACES - 99 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    blocker.await.unwrap().unwrap();
    let mut counts = others.join_all().await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
    assert_eq!(all(&store).len(), 100);
}

const QUEUE_PLACES: usize = 256;

#[tokio::test]
async fn a_file_in_use_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    let error = Store::open(&file(&directory)).unwrap_err().to_string();
    assert!(error.contains("orchestrator.redb is in use by another process"), "{error}");
    assert!(error.contains("MCP_DATA_DIR"), "{error}");
    drop(store);
    Store::open(&file(&directory)).unwrap();
}

/// A damaged file must neither stop the start for ever nor be thrown away.
async fn check_set_aside(damage: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    damage(&path);
    let damaged = std::fs::read(&path).unwrap();
    let store = Store::open(&path).unwrap();
    let [warning] = store.warnings() else { panic!("{:?}", store.warnings()) };
    let kept: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("orchestrator.redb.corrupt-"))
        .collect();
    let [name] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(warning.contains(name.as_str()), "{warning}");
    assert_eq!(std::fs::read(directory.path().join(name)).unwrap(), damaged);
    put(&store, 1, 1).await.unwrap();
    drop(store);
    assert!(Store::open(&path).unwrap().warnings().is_empty());
}

#[tokio::test]
async fn a_file_that_is_no_database_is_set_aside() {
    check_set_aside(|path| std::fs::write(path, "not a database\n".repeat(1000)).unwrap()).await;
}

#[tokio::test]
async fn a_short_file_is_set_aside() {
    check_set_aside(|path| std::fs::write(path, "x").unwrap()).await;
}

#[tokio::test]
async fn a_truncated_database_is_set_aside() {
    check_set_aside(|path| {
        drop(Store::open(path).unwrap());
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, &whole[..whole.len() / 3]).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_database_with_overwritten_pages_is_set_aside() {
    check_set_aside(|path| {
        drop(Store::open(path).unwrap());
        let mut bytes = std::fs::read(path).unwrap();
        for byte in bytes.iter_mut().skip(320) {
            *byte = 0xa5;
        }
        std::fs::write(path, bytes).unwrap();
    })
    .await;
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let step: schema::Migration = |_| Ok(());
    let newer = &vec![step; SCHEMA as usize + 1];
    drop(open::open(&path, newer).unwrap());
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found, known, .. } if found == SCHEMA + 1 && known == SCHEMA));
    assert!(error.to_string().contains("newer mcp-orchestrator"), "{error}");
    drop(open::open(&path, newer).unwrap());
}

#[test]
fn an_older_schema_is_migrated_once_step_by_step() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    drop(open::open(&path, &[|_| Ok(())]).unwrap());
    let steps: &[schema::Migration] = &[
        |_| panic!("schema 0 is past"),
        |txn| {
            txn.open_table(NUMBERS)?.insert(1, 1)?;
            Ok(())
        },
        |txn| {
            let mut table = txn.open_table(NUMBERS)?;
            let value = table.get(1)?.unwrap().value();
            table.insert(1, value + 1)?;
            Ok(())
        },
    ];
    for _ in 0..2 {
        let (database, _) = open::open(&path, steps).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&database).unwrap();
        assert_eq!(txn.open_table(NUMBERS).unwrap().get(1).unwrap().unwrap().value(), 2);
    }
}

#[test]
fn a_migration_that_fails_leaves_the_old_schema() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    drop(open::open(&path, &[|_| Ok(())]).unwrap());
    let failing: &[schema::Migration] = &[|_| Ok(()), |_| Err(StoreError::Closed)];
    let error = open::open(&path, failing).unwrap_err();
    assert!(matches!(error, StoreError::Migrate { from: 1, .. }), "{error}");
    open::open(&path, &[|_| Ok(())]).unwrap();
}

#[tokio::test]
async fn a_file_of_which_half_was_removed_is_smaller_after_the_next_start() {
    const TEXTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("texts");
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&file(&directory)).unwrap();
    let write = |range: std::ops::Range<u64>| {
        store.write(move |txn| {
            let mut table = txn.open_table(TEXTS)?;
            for key in range.clone() {
                table.insert(key, [key as u8; 1000].as_slice())?;
            }
            Ok(())
        })
    };
    write(0..50_000).await.unwrap();
    let full = store.file_size().unwrap();
    store
        .write(|txn| {
            let mut table = txn.open_table(TEXTS)?;
            for key in 0..45_000 {
                table.remove(key)?;
            }
            drop(table);
            Store::freed(txn, 45_000_000)
        })
        .await
        .unwrap();
    drop(store);
    let store = Store::open(&file(&directory)).unwrap();
    let small = store.file_size().unwrap();
    assert!(small * 4 < full, "{full} bytes became {small}");
    let left = store.read(|txn| {
        let table = txn.open_table(TEXTS)?;
        let mut left = Vec::new();
        for row in table.iter()? {
            let (key, text) = row?;
            assert_eq!(text.value(), [key.value() as u8; 1000]);
            left.push(key.value());
        }
        Ok(left)
    });
    assert_eq!(left.unwrap(), (45_000..50_000).collect::<Vec<_>>());
    // Once: there is nothing more to give back.
    let again = store.0.database.with(|database| schema::take_freed(database, 1));
    assert!(!again.unwrap());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = Store::open(Path::new("/nonexistent/orchestrator.redb")).unwrap_err().to_string();
    assert!(error.starts_with("could not open /nonexistent/orchestrator.redb: "), "{error}");
}
