//! The key that seals: 32 random bytes in a file of their own, or stretched from a passphrase with scrypt (RFC 7914).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use redb::{ReadableTable, TableDefinition, TableError};
use zeroize::Zeroizing;

use super::{Secret, SecretError, decrypt, encrypt};
use crate::store::{Store, StoreError};

const VAULT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vault");
/// A constant, sealed: opens with the right key only.
const CHECK: &str = "check";
const CHECK_PLAIN: &[u8] = b"mcp-orchestrator";
/// Salt of the passphrase with the parameters that it was stretched with.
const SALT: &str = "scrypt-15-8-3-salt";
/// 32 MiB and a fifth of a second: what a small machine can spare once per start.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 3;

type Key = Zeroizing<[u8; 32]>;

/// Gets the key, and makes one where there is none yet. Fails when it is not the one that was used before.
pub(super) async fn load(
    store: &Store,
    directory: &Path,
    master_key: Option<&Secret>,
) -> Result<XChaCha20Poly1305, SecretError> {
    let check = read(store, CHECK)?;
    let (key, origin) = match master_key {
        Some(given) => (from_passphrase(store, given).await?, "MCP_MASTER_KEY".to_owned()),
        None => {
            let path = directory.join("secret.key");
            (from_file(&path, check.is_some())?, path.display().to_string())
        }
    };
    let cipher = XChaCha20Poly1305::new((&*key).into());
    let check = match check {
        Some(check) => check,
        None => put_once(store, CHECK, encrypt(&cipher, CHECK, CHECK_PLAIN)?).await?,
    };
    match decrypt(&cipher, CHECK, &check) {
        Some(plain) if plain.as_slice() == CHECK_PLAIN => Ok(cipher),
        _ => Err(SecretError::WrongKey { origin }),
    }
}

async fn from_passphrase(store: &Store, given: &Secret) -> Result<Key, SecretError> {
    let passphrase = given.resolved().await?;
    if passphrase.expose().is_empty() {
        return Err(SecretError::EmptyMasterKey);
    }
    let salt = match read(store, SALT)? {
        Some(salt) => salt,
        None => put_once(store, SALT, rand::random::<[u8; 16]>().to_vec()).await?,
    };
    let stretch = move || -> Result<Key, SecretError> {
        let failed = |error: &dyn std::fmt::Display| SecretError::Derive(error.to_string());
        let params = scrypt::Params::new(LOG_N, R, P).map_err(|error| failed(&error))?;
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(passphrase.expose().as_bytes(), &salt, &params, &mut *key).map_err(|error| failed(&error))?;
        Ok(key)
    };
    match tokio::task::spawn_blocking(stretch).await {
        Ok(key) => key,
        Err(_) => Err(SecretError::Derive("the orchestrator is shutting down".to_owned())),
    }
}

/// Reads the key file; makes it when it is missing and nothing was ever sealed.
fn from_file(path: &Path, used: bool) -> Result<Key, SecretError> {
    let failed = |step| move |source| SecretError::KeyFile { step, path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => return read_key(file, path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("open")(error)),
        Err(_) if used => return Err(SecretError::KeyFileMissing { path: path.to_owned() }),
        Err(_) => {}
    }
    let key: Key = Zeroizing::new(rand::random());
    // Written beside it and linked to its name: another process sees no key or a whole one, and the first one wins.
    let draft = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let write = || -> io::Result<()> {
        let _ = std::fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&*key)?;
        file.sync_all()
    };
    let written = write();
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_key(File::open(path).map_err(failed("open"))?, path)
        }
        Err(error) => Err(failed("create")(error)),
    }
}

fn read_key(file: File, path: &Path) -> Result<Key, SecretError> {
    let failed = |source| SecretError::KeyFile { step: "read", path: path.to_owned(), source };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::KeyFileMode { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    file.take(33).read_to_end(&mut bytes).map_err(failed)?;
    let key: Result<[u8; 32], _> = bytes.as_slice().try_into();
    key.map(Zeroizing::new).map_err(|_| SecretError::KeyFileLength { path: path.to_owned(), length: bytes.len() })
}

fn read(store: &Store, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(|txn| match txn.open_table(VAULT) {
        Ok(table) => Ok(table.get(name)?.map(|value| value.value().to_vec())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// Stores a value unless there is one; returns the one that is then there.
async fn put_once(store: &Store, name: &'static str, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    store
        .write(move |txn| {
            let mut table = txn.open_table(VAULT)?;
            let found = table.get(name)?.map(|found| found.value().to_vec());
            match found {
                Some(found) => Ok(found),
                None => {
                    table.insert(name, value.as_slice())?;
                    Ok(value.clone())
                }
            }
        })
        .await
}
