//! What the wire needs to reach a server: the way to it and the logins on that way, from the inventory and the settings.

use super::Servers;
use crate::config::{LegacyConfig, Proxy, Settings, expand_home};
use crate::error::{Code, Problem};
use crate::inventory::{Jump, Server, secret_name};
use crate::secrets::{Secret, StoredSecret};
use crate::ssh::{Login, Target, Via};

/// How many servers a connection may go through. A longer chain is a mistake, or a loop.
const MAX_JUMPS: usize = 8;
/// What the secret of a proxy's user is called, in the vault and in errors.
pub(super) const PROXY_PASSWORD: &str = "proxy password";

/// What the operator has said about all servers.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    proxy: Option<Proxy>,
    /// As it was given: it may be a reference.
    proxy_password: Option<Secret>,
    legacy: LegacyConfig,
}

impl From<&Settings> for Ways {
    fn from(settings: &Settings) -> Self {
        Ways {
            proxy: settings.proxy.clone(),
            proxy_password: settings.proxy_password.as_deref().map(Secret::new),
            legacy: settings.legacy.clone(),
        }
    }
}

impl Ways {
    /// The proxy for servers that say nothing of one.
    async fn proxy(&self) -> Result<Option<Via>, Problem> {
        let Some(proxy) = self.proxy.clone() else { return Ok(None) };
        let password = match &self.proxy_password {
            None => None,
            Some(given) => Some(given.resolved().await.map_err(|error| {
                Problem::new(Code::AuthFailed, format!("the password of the proxy {proxy} can't be read: {error}"))
                    .detail("step", "connect")
                    .hint("Correct MCP_PROXY_PASSWORD.")
            })?),
        };
        Ok(Some(Via { proxy, password: password.map(Secret::into_inner) }))
    }
}

impl Servers {
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
                // One that is no server of ours is logged in to as the server behind it is, with that one's secrets. Its
                // tags are not: they may allow algorithms.
                Jump::Address { user, host, port } => {
                    let (alias, tags, behind_it) = (jump, Vec::new(), behind.clone());
                    let hop = Server { alias, user, host, port, tags, host_key: None, jump: None, ..behind_it };
                    way.push(self.hop(&hop, &behind.alias).await?);
                }
            }
        }
        if let Some(nearest) = way.last_mut().filter(|nearest| nearest.proxy.is_none()) {
            nearest.proxy = self.parts().ways.proxy().await?;
        }
        let mut through = None;
        while let Some(mut hop) = way.pop() {
            hop.jump = through;
            through = Some(Box::new(hop));
        }
        through.map(|target| *target).ok_or_else(|| Problem::internal("a server without a target"))
    }

    pub(super) async fn open(
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
        if !server.key_paths.is_empty() {
            let passphrase = open("passphrase", &server.passphrase).await?.map(Secret::into_inner);
            let key = |path: &String| Login::Key { path: expand_home(path), passphrase: passphrase.clone() };
            logins.extend(server.key_paths.iter().map(key));
        }
        if server.agent {
            logins.push(Login::Agent);
        }
        if let Some(password) = open("password", &server.password).await? {
            logins.push(Login::Password(password.into_inner()));
        }
        let proxy = match server.proxy.as_deref().map(str::parse).transpose().map_err(Problem::invalid)? {
            None => None,
            Some(proxy) => {
                let password = open(PROXY_PASSWORD, &server.proxy_password).await?.map(Secret::into_inner);
                Some(Via { proxy, password })
            }
        };
        Ok(Target {
            alias: server.alias.clone(),
            host: server.host.clone(),
            port: server.port,
            user: server.user.clone(),
            logins,
            pin: server.host_key.clone(),
            proxy,
            jump: None,
            legacy: self.parts().ways.legacy.of(&server.alias, &server.tags).to_vec(),
        })
    }
}
