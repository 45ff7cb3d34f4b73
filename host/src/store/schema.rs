//! Which schema the database has, and how an older one becomes the present one.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::StoreError;

/// The schema that this program writes.
pub const SCHEMA: u64 = MIGRATIONS.len() as u64;

/// One step from a schema to the next, inside the transaction that also writes the new version.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), StoreError>;

/// The step at index `n` leads from schema `n` to `n + 1`. A new file has schema 0.
/// Schema 1 needs no step: each module creates its tables when it starts.
pub(super) const MIGRATIONS: &[Migration] = &[|_| Ok(()), index_bad_ends];

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION: &str = "schema";
const FREED: &str = "freed";

/// From schema 1 to 2: an index of the jobs that came to a bad end, so that the newest of them are found without visiting
/// all. A step knows the tables as they were in its day, whatever becomes of them later.
fn index_bad_ends(txn: &WriteTransaction) -> Result<(), StoreError> {
    #[derive(serde::Deserialize)]
    struct Ended {
        status: String,
    }
    let jobs = txn.open_table(TableDefinition::<u64, &[u8]>::new("jobs"))?;
    let mut index = txn.open_table(TableDefinition::<(&str, u64), ()>::new("jobs_by_bad_end"))?;
    for row in jobs.iter()? {
        let (id, bytes) = row?;
        // A record that cannot be read is passed over wherever jobs are listed.
        let Ok(Ended { status }) = serde_json::from_slice(bytes.value()) else { continue };
        if matches!(status.as_str(), "failed" | "cancelled" | "timed_out" | "crashed") {
            index.insert((status.as_str(), id.value()), ())?;
        }
    }
    Ok(())
}

/// Counts bytes that were removed: see [`take_freed`].
pub(super) fn add_freed(txn: &WriteTransaction, bytes: u64) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META)?;
    let before = meta.get(FREED)?.map_or(0, |freed| freed.value());
    meta.insert(FREED, before.saturating_add(bytes))?;
    Ok(())
}

/// Whether at least `share` bytes were removed since the last time that this was so.
pub(super) fn take_freed(database: &Database, share: u64) -> Result<bool, StoreError> {
    let freed = database.begin_read()?.open_table(META)?.get(FREED)?.map_or(0, |freed| freed.value());
    if freed < share {
        return Ok(false);
    }
    let txn = database.begin_write()?;
    txn.open_table(META)?.remove(FREED)?;
    txn.commit()?;
    Ok(true)
}

/// Brings `database` to the schema after the last of `migrations`, in one transaction, or refuses a newer one.
pub(super) fn migrate(database: &Database, path: &Path, migrations: &[Migration]) -> Result<(), StoreError> {
    let known = migrations.len() as u64;
    let found = version(database)?;
    if found > known {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let failed = |source: StoreError| StoreError::Migrate { from: found, source: Box::new(source) };
    let txn = database.begin_write().map_err(|error| failed(error.into()))?;
    for step in migrations.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        step(&txn).map_err(failed)?;
    }
    let write_version = || -> Result<(), StoreError> {
        txn.open_table(META)?.insert(VERSION, known)?;
        Ok(())
    };
    write_version().map_err(failed)?;
    txn.commit().map_err(|error| failed(error.into()))?;
    if found > 0 {
        tracing::info!(from = found, to = known, "the database was migrated");
    }
    Ok(())
}

fn version(database: &Database) -> Result<u64, StoreError> {
    let txn = database.begin_read()?;
    match txn.open_table(META) {
        Ok(table) => Ok(table.get(VERSION)?.map_or(0, |version| version.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
