//! Opening the file: its mode, who else has it, and what happens to a damaged one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageError};

use super::StoreError;
use super::schema::{Migration, migrate, take_freed};

/// The whole process is to stay under 40 MB; the kernel caches the file's pages anyway.
const CACHE: usize = 8 << 20;

/// A smaller file is left as it is.
const WORTH_COMPACTING: u64 = 16 << 20;

/// Opens the database at `path`, or a new one in the place of a damaged one. Also returns what the operator should know.
pub(super) fn open(path: &Path, migrations: &[Migration]) -> Result<(Database, Vec<String>), StoreError> {
    let mut warnings = Vec::new();
    // Twice at most: a file that this process just created is not set aside again.
    for last in [false, true] {
        match try_open(path, migrations)? {
            Outcome::Open(mut database) => {
                if let Err(error) = compact(&mut database, path) {
                    // It is as good as it was, only larger than need be.
                    tracing::warn!(%error, "the database could not be made smaller");
                }
                return Ok((database, warnings));
            }
            Outcome::Damaged(reason) if last => {
                return Err(StoreError::Record { table: "(file)", key: path.display().to_string(), reason });
            }
            Outcome::Damaged(reason) => {
                if let Some(aside) = set_aside(path)? {
                    let warning = format!(
                        "the database {} was damaged ({reason}); it was kept as {} and a new, empty one was started",
                        path.display(),
                        aside.display()
                    );
                    tracing::error!("{warning}");
                    warnings.push(warning);
                }
            }
        }
    }
    Err(StoreError::Closed)
}

/// Opens a database that this process had open before. It is as this version left it, and nothing is set aside.
pub(super) fn once_more(path: &Path) -> Result<Database, StoreError> {
    let failed = |source: DatabaseError| StoreError::Open { path: path.to_owned(), source: Arc::new(source.into()) };
    let backend = FileBackend::new(open_private(path)?).map_err(failed)?;
    Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(failed)
}

enum Outcome {
    Open(Database),
    /// The file is there and ours, but what is in it is no database, or a broken one.
    Damaged(String),
}

fn try_open(path: &Path, migrations: &[Migration]) -> Result<Outcome, StoreError> {
    let file = open_private(path)?;
    let backend = match FileBackend::new(file) {
        Ok(backend) => backend,
        Err(error) => return classify(path, error),
    };
    // redb trusts a cleanly closed file and may panic on one that was changed behind its back.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
        database.map(|database| {
            let migrated = migrate(&database, path, migrations);
            (database, migrated)
        })
    }));
    match opened {
        Ok(Ok((database, Ok(())))) => Ok(Outcome::Open(database)),
        Ok(Ok((_, Err(error)))) => match &error {
            StoreError::Database(source) if matches!(&**source, redb::Error::Corrupted(_)) => {
                Ok(Outcome::Damaged(source.to_string()))
            }
            _ => Err(error),
        },
        Ok(Err(error)) => classify(path, error),
        Err(_) => Ok(Outcome::Damaged("its pages contradict each other".to_owned())),
    }
}

/// Gives the disk back what was removed, once that is half of the file: nobody else reads or writes now, which later somebody
/// always may. How long it takes depends on what is left in the file, not on what was removed.
///
/// The attempt is noted before it begins, so a start that is killed by an impatient client does not try again and again.
/// What is moved is committed in steps that each leave a whole database.
fn compact(database: &mut Database, path: &Path) -> Result<(), StoreError> {
    let size = || std::fs::metadata(path).map_or(0, |file| file.len());
    let before = size();
    // What was counted is contents, of which the pages around them are several times as much. So this tells only when a look
    // at the pages is worth its time.
    if before < WORTH_COMPACTING || !take_freed(database, before / 8)? {
        return Ok(());
    }
    if pages_in_use(database)? > before / 2 {
        return Ok(());
    }
    let started = Instant::now();
    database.compact().map_err(|error| StoreError::Database(Arc::new(error.into())))?;
    let took_ms = started.elapsed().as_millis();
    tracing::info!(before, after = size(), took_ms, "the database was made smaller");
    Ok(())
}

/// Bytes of the pages that hold something.
fn pages_in_use(database: &Database) -> Result<u64, StoreError> {
    let txn = database.begin_write()?;
    let stats = txn.stats()?;
    txn.abort()?;
    Ok(stats.allocated_pages().saturating_mul(stats.page_size() as u64))
}

fn classify(path: &Path, error: DatabaseError) -> Result<Outcome, StoreError> {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Err(StoreError::Locked { path: path.to_owned() }),
        DatabaseError::Storage(StorageError::Corrupted(reason)) => Ok(Outcome::Damaged(reason)),
        // A file that does not begin like a database.
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok(Outcome::Damaged(error.to_string()))
        }
        DatabaseError::UpgradeRequired(found) => Err(StoreError::Format { path: path.to_owned(), found }),
        other => Err(StoreError::Open { path: path.to_owned(), source: Arc::new(other.into()) }),
    }
}

/// Opens or creates a file that only its owner can read.
fn open_private(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::io("open", path, error))?;
    let metadata = file.metadata().map_err(|error| StoreError::io("read the mode of", path, error))?;
    if metadata.mode() & 0o077 != 0 {
        let mode = std::fs::Permissions::from_mode(0o600);
        file.set_permissions(mode).map_err(|error| StoreError::io("set the mode 0600 of", path, error))?;
    }
    Ok(file)
}

/// Renames a damaged file. `None` when another process did so first.
///
/// Two processes may find the damage at the same time. The file's own lock decides who renames it, and the inode tells the
/// other that the name meanwhile belongs to a new file.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io("open", path, error))?;
    if file.try_lock().is_err() {
        return Err(StoreError::Locked { path: path.to_owned() });
    }
    let ours = file.metadata().map_err(|error| StoreError::io("inspect", path, error))?;
    match std::fs::metadata(path) {
        Ok(named) if named.ino() == ours.ino() && named.dev() == ours.dev() => {}
        _ => return Ok(None),
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{stamp}"));
    let aside = PathBuf::from(name);
    std::fs::rename(path, &aside).map_err(|error| StoreError::io("set aside", path, error))?;
    Ok(Some(aside))
}
