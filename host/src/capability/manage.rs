//! Adding, verifying and removing servers, and what the wire needs to reach one.

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::Servers;
use crate::call::Call;
use crate::config::expand_home;
use crate::error::{Code, Problem};
use crate::inventory::{Jump, Server, ServerPatch, secret_name};
use crate::secrets::{Secret, StoredSecret};
use crate::ssh::{Login, Purpose, Target};

/// How many servers a connection may go through. A longer chain is a mistake, or a loop.
const MAX_JUMPS: usize = 8;

/// What `server_add` is given: only what is `Some` changes.
pub struct NewServer {
    pub alias: String,
    pub host: Option<String>,
    pub port: Option<u64>,
    pub user: Option<String>,
    pub key_path: Option<String>,
    pub passphrase: Option<Secret>,
    pub password: Option<Secret>,
    pub agent: Option<bool>,
    pub jump: Option<String>,
    pub host_key: Option<String>,
    pub tags: Option<Vec<String>>,
    pub description: Option<String>,
}

/// What a server proved to be.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Verified {
    /// Of its host key, in OpenSSH's notation.
    pub fingerprint: String,
    pub key_type: String,
    /// pinned or known_hosts.
    pub trusted_by: String,
    /// To connect and log in.
    pub duration_ms: u64,
}

impl Servers {
    /// Every server in full, sorted by alias; secrets in it are sealed or references.
    pub fn all(&self) -> Vec<Arc<Server>> {
        self.parts().inventory.list()
    }

    /// Adds a server, or changes the given fields of one. Its connections are closed when it changed, since they may
    /// lead elsewhere. Says whether it is new.
    pub async fn add(&self, new: NewServer) -> Result<(Arc<Server>, bool), Problem> {
        let parts = self.parts();
        let keep = async |what: &str, secret: Option<Secret>| match secret {
            None => Ok(None),
            Some(secret) if secret.expose().is_empty() => Ok(Some(None)),
            Some(secret) => {
                parts.vault.keep(&secret_name(&new.alias, what), secret.expose()).await.map(|kept| Some(Some(kept)))
            }
        };
        let patch = ServerPatch {
            password: keep("password", new.password).await?,
            passphrase: keep("passphrase", new.passphrase).await?,
            alias: new.alias,
            host: new.host,
            port: new.port,
            user: new.user,
            key_path: new.key_path,
            agent: new.agent,
            jump: new.jump,
            host_key: new.host_key,
            tags: new.tags,
            description: new.description,
        };
        let (server, created) = parts.inventory.upsert(patch).await?;
        if !created {
            parts.pool.close(&server.alias);
        }
        Ok((server, created))
    }

    /// Forgets a server, its sealed secrets and its connections.
    pub async fn remove(&self, alias: &str) -> Result<(), Problem> {
        let parts = self.parts();
        parts.inventory.remove(alias).await?;
        parts.pool.close(alias);
        Ok(())
    }

    /// Connects and logs in, and says what the server proved to be.
    pub async fn verify(&self, call: &Call, alias: &str) -> Result<Verified, Problem> {
        let server = self.find(alias)?;
        let started = Instant::now();
        let connect = async {
            let lease = self.parts().pool.channel(alias, Purpose::Commands, || self.target(&server), call).await;
            lease.map_err(Problem::from)
        };
        // Somebody wants to know now, however often it failed before.
        self.parts().pool.forgive(alias);
        let lease = self.audited(call, alias, "verify", None, connect, |_| None).await?;
        let key = lease.server_key().ok_or_else(|| Problem::internal("a connection without a host key"))?;
        Ok(Verified {
            fingerprint: key.fingerprint.clone(),
            key_type: key.key_type.clone(),
            trusted_by: if server.host_key.is_some() { "pinned" } else { "known_hosts" }.to_owned(),
            duration_ms: started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        })
    }

    /// The server of that name, or `SERVER_NOT_FOUND` with the nearest known alias in the hint.
    pub(super) fn find(&self, alias: &str) -> Result<Arc<Server>, Problem> {
        Ok(self.parts().inventory.get(alias)?)
    }

    /// What the wire needs to reach a server. Secrets are opened here, for this one connection.
    pub(super) async fn target(&self, server: &Server) -> Result<Target, Problem> {
        // From the server itself to the hop that is nearest to us. The inventory lets no circle in.
        let mut way = vec![self.hop(server, &server.alias).await?];
        let mut next = server.jump.clone();
        let mut behind = server.clone();
        while let Some(jump) = next.take() {
            if way.len() > MAX_JUMPS {
                return Err(Problem::invalid(format!("the way to {} has more than {MAX_JUMPS} jumps", server.alias)));
            }
            match jump.parse::<Jump>().map_err(Problem::invalid)? {
                Jump::Alias(alias) => {
                    behind = Server::clone(&*self.find(&alias)?);
                    next = behind.jump.clone();
                    way.push(self.hop(&behind, &alias).await?);
                }
                // One that is no server of ours is logged in to as the server behind it is, with that one's secrets.
                Jump::Address { user, host, port } => {
                    let hop = Server { alias: jump, user, host, port, host_key: None, jump: None, ..behind.clone() };
                    way.push(self.hop(&hop, &behind.alias).await?);
                }
            }
        }
        let mut through = None;
        while let Some(mut hop) = way.pop() {
            hop.jump = through;
            through = Some(Box::new(hop));
        }
        through.map(|target| *target).ok_or_else(|| Problem::internal("a server without a target"))
    }

    /// What sudo may be told on this server: the password that is known of its user, if one is.
    pub(super) async fn sudo_password(&self, alias: &str, sudo: bool) -> Result<Option<Secret>, Problem> {
        if !sudo {
            return Ok(None);
        }
        let server = self.find(alias)?;
        match &server.password {
            Some(stored) => self.open(&server, alias, "password", stored).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open(
        &self,
        server: &Server,
        secrets_of: &str,
        kind: &str,
        stored: &StoredSecret,
    ) -> Result<Secret, Problem> {
        self.parts().vault.open(&secret_name(secrets_of, kind), stored).await.map_err(|error| {
            Problem::new(Code::AuthFailed, format!("the {kind} of {} can't be read: {error}", server.alias))
                .detail("alias", server.alias.as_str())
                .detail("step", "login")
                .hint(format!("Set it again with server_add, alias {:?}.", server.alias))
        })
    }

    async fn hop(&self, server: &Server, secrets_of: &str) -> Result<Target, Problem> {
        let open = async |kind: &str, stored: &Option<StoredSecret>| match stored {
            Some(stored) => self.open(server, secrets_of, kind, stored).await.map(Some),
            None => Ok(None),
        };
        let mut logins = Vec::new();
        if let Some(path) = server.key_path.as_deref().map(expand_home) {
            logins.push(Login::Key {
                path,
                passphrase: open("passphrase", &server.passphrase).await?.map(Secret::into_inner),
            });
        }
        if server.agent {
            logins.push(Login::Agent);
        }
        if let Some(password) = open("password", &server.password).await? {
            logins.push(Login::Password(password.into_inner()));
        }
        Ok(Target {
            alias: server.alias.clone(),
            host: server.host.clone(),
            port: server.port,
            user: server.user.clone(),
            logins,
            pin: server.host_key.clone(),
            jump: None,
        })
    }
}
