//! Adding, verifying and removing servers. What the wire needs to reach one is in `reach`.

use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Servers;
use super::reach::PROXY_PASSWORD;
use crate::call::Call;
use crate::error::Problem;
use crate::inventory::{Server, ServerPatch, secret_name};
use crate::secrets::Secret;
use crate::ssh::{Purpose, Question, Standing};

/// What `server_add` is given: only what is `Some` changes.
pub struct NewServer {
    pub alias: String,
    pub host: Option<String>,
    pub port: Option<u64>,
    pub user: Option<String>,
    pub key_paths: Option<Vec<String>>,
    pub passphrase: Option<Secret>,
    pub password: Option<Secret>,
    pub agent: Option<bool>,
    pub jump: Option<String>,
    pub proxy: Option<String>,
    pub proxy_password: Option<Secret>,
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
    /// pinned, known_hosts or certificate authority.
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
        let secrets = new.password.is_some() || new.passphrase.is_some() || new.proxy_password.is_some();
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
            proxy_password: keep(PROXY_PASSWORD, new.proxy_password).await?,
            alias: new.alias,
            host: new.host,
            port: new.port,
            user: new.user,
            key_paths: new.key_paths,
            agent: new.agent,
            jump: new.jump,
            proxy: new.proxy,
            host_key: new.host_key,
            tags: new.tags,
            description: new.description,
        };
        let before = parts.inventory.get(&patch.alias).ok();
        let (server, created) = parts.inventory.upsert(patch).await?;
        // Commands that run on a connection end with it: one that leads where it did stays.
        let same =
            |before: Arc<Server>| !secrets && Server { updated: server.updated, ..Server::clone(&before) } == *server;
        if !created && !before.is_some_and(same) {
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
        let lease = self.audited(call, Some(alias), "verify", None, connect, |_| None).await?;
        let key = lease.server_key().ok_or_else(|| Problem::internal("a connection without a host key"))?;
        Ok(Verified {
            fingerprint: key.fingerprint.clone(),
            key_type: key.key_type.clone(),
            trusted_by: match server.host_key {
                Some(_) => "pinned",
                None if key.certified => "certificate authority",
                None => "known_hosts",
            }
            .to_owned(),
            duration_ms: started.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        })
    }

    /// Trusts a host key that a server has shown, on a person's word. `line` is how known_hosts has it.
    pub async fn vouch(&self, call: &Call, line: &str) -> Result<(), Problem> {
        let place = line.split(' ').next().unwrap_or_default();
        let vouch = async {
            let vouched = self.parts().pool.keys().vouch(line).await;
            let written =
                vouched.map_err(|error| Problem::internal(format!("known_hosts was not written: {error}")))?;
            written.then_some(()).ok_or_else(|| Problem::invalid("no server has shown this host key lately"))
        };
        self.audited(call, Some(place), "trust", Some(line.to_owned()), vouch, |()| None).await
    }

    /// What a login came to lately and only a person can answer.
    pub fn question(&self, id: &str) -> Option<Standing> {
        self.parts().pool.question(id)
    }

    /// Keeps what a person answered for the next login that asks it; see [`crate::ssh::Pool::answer`]. The audit line says
    /// that it was answered, and not what.
    pub async fn answer(&self, call: &Call, question: &Question, texts: Vec<Zeroizing<String>>) -> Result<(), Problem> {
        let answer = async {
            let kept = self.parts().pool.answer(question, texts);
            kept.then_some(()).ok_or_else(|| Problem::invalid("no server asks this any more"))
        };
        self.audited(call, Some(&question.at.alias), "answer", None, answer, |()| None).await
    }

    /// The server of that name, or `SERVER_NOT_FOUND` with the nearest known alias in the hint.
    pub(super) fn find(&self, alias: &str) -> Result<Arc<Server>, Problem> {
        Ok(self.parts().inventory.get(alias)?)
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
}
