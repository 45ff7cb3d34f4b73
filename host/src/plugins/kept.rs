//! What plugins keep between calls: values and sealed secrets in the database, a namespace per plugin, within a quota.
//!
//! Not how a guest asks for it (that is `imports`), nor what a value means: that is the plugin's own business.

use redb::{ReadableTable, TableDefinition};

use crate::error::{Code, Problem};
use crate::secrets::{Secret, SecretError, StoredSecret, Vault};
use crate::store::{Store, StoreError};

/// Values by plugin and key.
const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("plugin_kv");
/// Sealed secrets as JSON, by plugin and name.
const SECRETS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("plugin_secrets");

/// Bytes of a key, and of a secret's name.
const MAX_KEY: usize = 256;
/// Bytes of a value.
const MAX_VALUE: usize = 64 << 10;
/// Keys of one plugin.
const MAX_KEYS: usize = 1000;
/// Bytes of all keys and values of one plugin.
const MAX_BYTES: usize = 1 << 20;
/// Bytes of a secret.
const MAX_SECRET: usize = 8 << 10;
/// Secrets of one plugin.
const MAX_SECRETS: usize = 200;

/// Why something was not kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error("a {what} must have 1 to {MAX_KEY} bytes and no control characters; this one has {length} bytes")]
    Key { what: &'static str, length: usize },
    #[error("the {what} {key:?} has {length} bytes; 1 to {limit} are allowed")]
    Length { what: &'static str, key: String, length: usize, limit: usize },
    #[error("the plugin {plugin} already keeps {count} {what}s, and {limit} are allowed: delete one first")]
    TooMany { plugin: String, what: &'static str, count: usize, limit: usize },
    #[error(
        "the plugin {plugin} would keep {bytes} bytes of keys and values with {key:?}; {MAX_BYTES} are allowed: delete some first"
    )]
    Full { plugin: String, key: String, bytes: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl From<KeptError> for Problem {
    fn from(error: KeptError) -> Problem {
        let message = error.to_string();
        match error {
            KeptError::Store(error) => error.into(),
            KeptError::Secret(error) => error.into(),
            KeptError::Key { .. } | KeptError::Length { .. } | KeptError::TooMany { .. } | KeptError::Full { .. } => {
                Problem::new(Code::InvalidArgument, message)
            }
        }
    }
}

/// What all plugins keep. Clones share it.
#[derive(Clone, Debug)]
pub struct Kept {
    store: Store,
    vault: Vault,
}

/// What one plugin keeps: it can name nothing outside of it.
#[derive(Clone, Debug)]
pub struct Namespace {
    kept: Kept,
    plugin: String,
}

impl Kept {
    /// Creates the tables that are not there yet.
    pub async fn open(store: Store, vault: Vault) -> Result<Kept, StoreError> {
        store
            .write(|txn| {
                txn.open_table(VALUES)?;
                txn.open_table(SECRETS)?;
                Ok(())
            })
            .await?;
        Ok(Kept { store, vault })
    }

    /// What the plugin of this name keeps.
    pub fn of(&self, plugin: &str) -> Namespace {
        Namespace { kept: self.clone(), plugin: plugin.to_owned() }
    }
}

impl Namespace {
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeptError> {
        check_key("key", key)?;
        Ok(self.kept.store.read(|txn| {
            let value = txn.open_table(VALUES)?.get((self.plugin.as_str(), key))?;
            Ok(value.map(|value| value.value().to_vec()))
        })?)
    }

    /// Committed when this returns. The quota is checked in the transaction that writes, so two calls cannot both pass it.
    pub async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeptError> {
        check_key("key", key)?;
        if value.len() > MAX_VALUE {
            let (key, length) = (key.to_owned(), value.len());
            return Err(KeptError::Length { what: "value of the key", key, length, limit: MAX_VALUE });
        }
        let (plugin, key) = (self.plugin.clone(), key.to_owned());
        let written = self.kept.store.write(move |txn| {
            let mut table = txn.open_table(VALUES)?;
            let (mut count, mut bytes) = (0, key.len() + value.len());
            for row in table.range((plugin.as_str(), "")..)? {
                let (name, value) = row?;
                let (owner, other) = name.value();
                if owner != plugin {
                    break;
                }
                if other != key {
                    count += 1;
                    bytes += other.len() + value.value().len();
                }
            }
            if let Err(full) = check_quota(&plugin, &key, count, bytes) {
                return Ok(Err(full));
            }
            table.insert((plugin.as_str(), key.as_str()), value.as_slice())?;
            Ok(Ok(()))
        });
        written.await?
    }

    /// Whether the key was there. Committed when this returns.
    pub async fn delete(&self, key: &str) -> Result<bool, KeptError> {
        check_key("key", key)?;
        Ok(self.remove(VALUES, key).await?)
    }

    /// The keys that begin with `prefix`, in the order of their bytes.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, KeptError> {
        let (plugin, prefix) = (self.plugin.clone(), prefix.to_owned());
        let listed = self.kept.store.scan(move |txn| {
            let mut keys = Vec::new();
            for row in txn.open_table(VALUES)?.range((plugin.as_str(), prefix.as_str())..)? {
                let (name, _) = row?;
                let (owner, key) = name.value();
                if owner != plugin || !key.starts_with(&prefix) {
                    break;
                }
                keys.push(key.to_owned());
            }
            Ok(keys)
        });
        Ok(listed.await?)
    }

    /// Seals a secret. It is never taken for a reference: that would let a guest read files and run commands here.
    pub async fn put_secret(&self, name: &str, secret: &str) -> Result<(), KeptError> {
        check_key("name of a secret", name)?;
        if secret.is_empty() || secret.len() > MAX_SECRET {
            let (key, length) = (name.to_owned(), secret.len());
            return Err(KeptError::Length { what: "secret", key, length, limit: MAX_SECRET });
        }
        let sealed = self.kept.vault.seal(&sealed_name(&self.plugin, name), secret).await?;
        let bytes = serde_json::to_vec(&sealed).map_err(|error| StoreError::record("plugin_secrets", name, error))?;
        let (plugin, name) = (self.plugin.clone(), name.to_owned());
        let written = self.kept.store.write(move |txn| {
            let mut table = txn.open_table(SECRETS)?;
            let mut count = 0;
            for row in table.range((plugin.as_str(), "")..)? {
                let (key, _) = row?;
                let (owner, other) = key.value();
                if owner != plugin {
                    break;
                }
                count += usize::from(other != name);
            }
            if count >= MAX_SECRETS {
                let plugin = plugin.clone();
                return Ok(Err(KeptError::TooMany { plugin, what: "secret", count, limit: MAX_SECRETS }));
            }
            table.insert((plugin.as_str(), name.as_str()), bytes.as_slice())?;
            Ok(Ok(()))
        });
        written.await?
    }

    /// Whether the secret was there. Committed when this returns.
    pub async fn delete_secret(&self, name: &str) -> Result<bool, KeptError> {
        check_key("name of a secret", name)?;
        Ok(self.remove(SECRETS, name).await?)
    }

    /// The secret in the clear, for the host's own use. No import returns it.
    pub async fn open_secret(&self, name: &str) -> Result<Option<Secret>, KeptError> {
        check_key("name of a secret", name)?;
        let stored = self.kept.store.read(|txn| {
            let value = txn.open_table(SECRETS)?.get((self.plugin.as_str(), name))?;
            Ok(value.map(|value| value.value().to_vec()))
        })?;
        let Some(stored) = stored else { return Ok(None) };
        let sealed: StoredSecret =
            serde_json::from_slice(&stored).map_err(|error| StoreError::record("plugin_secrets", name, error))?;
        // Written by `put_secret` only, which stores no references; one from elsewhere is not followed.
        if !matches!(sealed, StoredSecret::Sealed(_)) {
            return Ok(None);
        }
        Ok(Some(self.kept.vault.open(&sealed_name(&self.plugin, name), &sealed).await?))
    }

    pub fn has_secret(&self, name: &str) -> Result<bool, KeptError> {
        check_key("name of a secret", name)?;
        let found =
            self.kept.store.read(|txn| Ok(txn.open_table(SECRETS)?.get((self.plugin.as_str(), name))?.is_some()));
        Ok(found?)
    }

    async fn remove(
        &self,
        table: TableDefinition<'static, (&'static str, &'static str), &'static [u8]>,
        key: &str,
    ) -> Result<bool, StoreError> {
        let (plugin, key) = (self.plugin.clone(), key.to_owned());
        let removed = self.kept.store.write(move |txn| {
            let mut table = txn.open_table(table)?;
            let there = table.remove((plugin.as_str(), key.as_str()))?.is_some();
            Ok(there)
        });
        removed.await
    }
}

/// The name that a plugin's secret is sealed under. A plugin's name has no slash, so no two pairs share one.
fn sealed_name(plugin: &str, name: &str) -> String {
    format!("plugin/{plugin}/{name}")
}

fn check_key(what: &'static str, key: &str) -> Result<(), KeptError> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(KeptError::Key { what, length: key.len() });
    }
    Ok(())
}

/// Whether one more key fits beside `count` others, where all keys and values have `bytes` with it.
fn check_quota(plugin: &str, key: &str, count: usize, bytes: usize) -> Result<(), KeptError> {
    if count >= MAX_KEYS {
        return Err(KeptError::TooMany { plugin: plugin.to_owned(), what: "key", count, limit: MAX_KEYS });
    }
    if bytes > MAX_BYTES {
        return Err(KeptError::Full { plugin: plugin.to_owned(), key: key.to_owned(), bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kept() -> (tempfile::TempDir, Kept) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("orchestrator.redb")).unwrap();
        let vault = Vault::new(store.clone(), home.path(), None);
        let kept = Kept::open(store, vault).await.unwrap();
        (home, kept)
    }

    #[tokio::test]
    async fn a_value_is_found_by_its_own_plugin_only() {
        let (_home, kept) = kept().await;
        let (api, apis) = (kept.of("api"), kept.of("apis"));
        api.set("entry/a", b"1".to_vec()).await.unwrap();
        api.set("entry/b", b"2".to_vec()).await.unwrap();
        api.set("entry0", b"3".to_vec()).await.unwrap();
        apis.set("entry/c", b"4".to_vec()).await.unwrap();
        assert_eq!(api.get("entry/a").unwrap().as_deref(), Some(b"1".as_slice()));
        assert_eq!((api.get("entry/c").unwrap(), apis.get("entry/a").unwrap()), (None, None));
        assert_eq!(api.list("entry/").await.unwrap(), ["entry/a", "entry/b"]);
        assert_eq!(api.list("").await.unwrap(), ["entry/a", "entry/b", "entry0"]);
        assert_eq!(apis.list("").await.unwrap(), ["entry/c"]);
        assert!(!apis.delete("entry/a").await.unwrap());
        assert!(api.delete("entry/a").await.unwrap());
        assert!(!api.delete("entry/a").await.unwrap());
    }

    #[tokio::test]
    async fn keys_and_values_that_are_too_long_or_odd_are_refused_with_the_limit() {
        let (_home, kept) = kept().await;
        let space = kept.of("api");
        for key in ["", "a\nb", "a\0", &"k".repeat(MAX_KEY + 1)] {
            let problem = Problem::from(space.set(key, Vec::new()).await.unwrap_err());
            assert_eq!(problem.code, Code::InvalidArgument);
            assert!(problem.message.contains("1 to 256 bytes"), "{problem}");
            assert!(space.get(key).is_err() && space.delete(key).await.is_err());
            assert!(space.put_secret(key, "s").await.is_err() && space.has_secret(key).is_err());
        }
        space.set(&"k".repeat(MAX_KEY), vec![0; MAX_VALUE]).await.unwrap();
        let error = space.set("k", vec![0; MAX_VALUE + 1]).await.unwrap_err().to_string();
        assert!(error.contains("\"k\" has 65537 bytes"), "{error}");
        for secret in ["", &"s".repeat(MAX_SECRET + 1)] {
            let error = space.put_secret("key", secret).await.unwrap_err().to_string();
            assert!(error.contains("1 to 8192 are allowed"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_quota_of_bytes_counts_keys_and_values_and_gives_back_what_is_replaced_or_deleted() {
        let (_home, kept) = kept().await;
        let space = kept.of("api");
        for number in 0..15 {
            space.set(&format!("key-{number:02}"), vec![0; MAX_VALUE]).await.unwrap();
        }
        let left = MAX_BYTES - 15 * (MAX_VALUE + 6) - 6;
        let problem = Problem::from(space.set("key-15", vec![0; left + 1]).await.unwrap_err());
        assert!(problem.message.contains("would keep 1048577 bytes"), "{problem}");
        assert_eq!(space.get("key-15").unwrap(), None);
        space.set("key-15", vec![0; left]).await.unwrap();
        // Replacing by the same size fits; another plugin has a quota of its own.
        space.set("key-00", vec![1; MAX_VALUE]).await.unwrap();
        kept.of("other").set("key-15", vec![0; MAX_VALUE]).await.unwrap();
        space.delete("key-00").await.unwrap();
        space.set("key-16", vec![0; MAX_VALUE]).await.unwrap();
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        assert!(check_quota("api", "k", MAX_KEYS - 1, 1).is_ok());
        let error = check_quota("api", "k", MAX_KEYS, 1).unwrap_err().to_string();
        assert_eq!(error, "the plugin api already keeps 1000 keys, and 1000 are allowed: delete one first");
    }

    #[tokio::test]
    async fn a_secret_is_sealed_for_its_plugin_and_its_name() {
        let (_home, kept) = kept().await;
        let space = kept.of("api");
        // Taken as it is, though it looks like a reference.
        space.put_secret("key", "cmd:hunter2").await.unwrap();
        assert!(space.has_secret("key").unwrap() && !kept.of("other").has_secret("key").unwrap());
        let stored = kept.store.read(|txn| {
            let value = txn.open_table(SECRETS)?.get(("api", "key"))?;
            Ok(value.map(|value| value.value().to_vec()))
        });
        let stored = stored.unwrap().unwrap();
        assert!(!stored.windows(7).any(|window| window == b"hunter2"));
        let sealed = serde_json::from_slice(&stored).unwrap();
        let open = |name: String| {
            let (vault, sealed) = (kept.vault.clone(), &sealed);
            async move { vault.open(&name, sealed).await }
        };
        assert_eq!(open(sealed_name("api", "key")).await.unwrap().expose(), "cmd:hunter2");
        assert!(open(sealed_name("api", "other")).await.is_err());
        assert!(open(sealed_name("other", "key")).await.is_err());
        assert_eq!(space.open_secret("key").await.unwrap().unwrap().expose(), "cmd:hunter2");
        assert!(space.open_secret("other").await.unwrap().is_none());
        assert!(kept.of("other").open_secret("key").await.unwrap().is_none());
        assert!(space.delete_secret("key").await.unwrap());
        assert!(!space.delete_secret("key").await.unwrap() && !space.has_secret("key").unwrap());
    }

    #[tokio::test]
    async fn the_number_of_secrets_is_bounded_and_one_can_still_be_replaced() {
        let (_home, kept) = kept().await;
        let space = kept.of("api");
        for number in 0..MAX_SECRETS {
            space.put_secret(&number.to_string(), "s").await.unwrap();
        }
        let error = space.put_secret("more", "s").await.unwrap_err().to_string();
        assert!(error.contains("already keeps 200 secrets"), "{error}");
        space.put_secret("0", "t").await.unwrap();
    }
}
