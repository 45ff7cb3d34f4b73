//! The servers that are known: added, changed, looked up by alias. Not how they are reached.

mod server;
mod validate;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use redb::{ReadableTable, TableDefinition};

use crate::error::{Code, Problem};
use crate::store::{Store, StoreError};

pub use server::{Jump, Server, ServerPatch, secret_name};

/// Every server, as JSON by alias.
const SERVERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("servers");
/// How alike two aliases must be (Jaro-Winkler) to be taken for a slip.
const ALIKE: f64 = 0.75;

/// Why the inventory refused something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("there is no server {alias:?}")]
    NotFound { alias: String, nearest: Option<String> },
    /// `field` is the argument to change.
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error("{alias} is the way to {}: change or remove that first", .by.join(", "))]
    UsedAsJump { alias: String, by: Vec<String> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InventoryError> for Problem {
    fn from(error: InventoryError) -> Problem {
        let message = error.to_string();
        match error {
            InventoryError::NotFound { alias, nearest } => {
                let hint = match nearest {
                    Some(nearest) => format!("did you mean {nearest:?}? server_list shows all"),
                    None => "server_list shows the servers that there are; server_add adds one".to_owned(),
                };
                Problem::new(Code::ServerNotFound, message).detail("alias", alias).hint(hint)
            }
            InventoryError::Invalid { field, .. } => Problem::invalid(message).detail("argument", field),
            InventoryError::UsedAsJump { alias, .. } => Problem::invalid(message).detail("alias", alias),
            InventoryError::Store(error) => error.into(),
        }
    }
}

/// The known servers. Clones share them.
#[derive(Clone, Debug)]
pub struct Inventory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    /// A copy of the table: look-ups are frequent and servers few. Held for a look-up only, never across an await.
    servers: RwLock<BTreeMap<String, Arc<Server>>>,
    /// Held from reading the present state until the new one is committed and copied, so that two changes cannot cross.
    /// An async lock, since it is held across the commit.
    changing: tokio::sync::Mutex<()>,
}

impl Inventory {
    /// Loads all servers. A record that cannot be read is left out with a line in the log.
    pub async fn open(store: Store) -> Result<Inventory, StoreError> {
        let servers = store
            .write(|txn| {
                let mut servers = BTreeMap::new();
                for row in txn.open_table(SERVERS)?.iter()? {
                    let (alias, bytes) = row?;
                    match serde_json::from_slice::<Server>(bytes.value()) {
                        Ok(server) => {
                            servers.insert(alias.value().to_owned(), Arc::new(server));
                        }
                        Err(error) => tracing::error!(alias = alias.value(), %error, "skipped a server"),
                    }
                }
                Ok(servers)
            })
            .await?;
        let servers = RwLock::new(servers);
        Ok(Inventory(Arc::new(Inner { store, servers, changing: tokio::sync::Mutex::new(()) })))
    }

    fn servers(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Server>>> {
        self.0.servers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server, or [`InventoryError::NotFound`] with the nearest alias.
    pub fn get(&self, alias: &str) -> Result<Arc<Server>, InventoryError> {
        let found = self.servers().get(alias).cloned();
        found.ok_or_else(|| InventoryError::NotFound { alias: alias.to_owned(), nearest: self.nearest(alias) })
    }

    /// Every server, sorted by alias.
    pub fn list(&self) -> Vec<Arc<Server>> {
        self.servers().values().cloned().collect()
    }

    /// The known alias that `alias` most looks like, if any does.
    pub fn nearest(&self, alias: &str) -> Option<String> {
        let wanted = alias.to_lowercase();
        let servers = self.servers();
        let scored = servers.keys().map(|known| (strsim::jaro_winkler(&wanted, &known.to_lowercase()), known));
        let best = scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0));
        best.map(|(_, known)| known.clone())
    }

    /// Adds the server `patch` names, or changes what `patch` gives of it. Committed when this returns.
    /// `true` says that it is new.
    pub async fn upsert(&self, patch: ServerPatch) -> Result<(Arc<Server>, bool), InventoryError> {
        let _changing = self.0.changing.lock().await;
        let old = self.servers().get(&patch.alias).cloned();
        let created = old.is_none();
        let server = patch.apply(old.as_deref(), Timestamp::now())?;
        validate::server(&server, |alias| self.servers().get(alias).cloned())?;
        let bytes = serde_json::to_vec(&server).map_err(|error| StoreError::record("servers", &server.alias, error))?;
        let alias = server.alias.clone();
        self.0
            .store
            .write(move |txn| {
                txn.open_table(SERVERS)?.insert(alias.as_str(), bytes.as_slice())?;
                Ok(())
            })
            .await?;
        let server = Arc::new(server);
        let mut servers = self.0.servers.write().unwrap_or_else(PoisonError::into_inner);
        servers.insert(server.alias.clone(), server.clone());
        Ok((server, created))
    }

    /// Removes the server with its secrets. Refuses while others are reached through it.
    pub async fn remove(&self, alias: &str) -> Result<Arc<Server>, InventoryError> {
        let _changing = self.0.changing.lock().await;
        let server = self.get(alias)?;
        let through = |other: &&Arc<Server>| other.jump.as_deref() == Some(alias);
        let by: Vec<_> = self.servers().values().filter(through).map(|other| other.alias.clone()).collect();
        if !by.is_empty() {
            return Err(InventoryError::UsedAsJump { alias: alias.to_owned(), by });
        }
        let key = alias.to_owned();
        self.0
            .store
            .write(move |txn| {
                txn.open_table(SERVERS)?.remove(key.as_str())?;
                Ok(())
            })
            .await?;
        self.0.servers.write().unwrap_or_else(PoisonError::into_inner).remove(alias);
        Ok(server)
    }
}

#[cfg(test)]
mod tests;
