//! Logins and channels of one connection to the embedded server.

use std::sync::Arc;

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey};
use russh::{Channel, ChannelOpenFailure, server};
use tokio::task::JoinSet;

use super::asking::Progress;
use super::faults::{Refuse, Stall};
use super::{Shared, Wire, channel};

/// One connection. Its channels are tasks that end with it.
pub(super) struct Handler {
    shared: Arc<Shared>,
    wire: Wire,
    /// How far the login has come where the server asks.
    progress: Progress,
    channels: JoinSet<()>,
}

impl Handler {
    pub(super) fn new(shared: Arc<Shared>, wire: Wire) -> Handler {
        Handler { shared, wire, progress: Progress::default(), channels: JoinSet::new() }
    }

    async fn judge(&self, method: &'static str, accepted: bool) -> Auth {
        let faults = self.shared.faults();
        if faults.stall == Some(Stall::Login) {
            std::future::pending::<()>().await;
        }
        let accepted = accepted && !faults.refuse_logins;
        self.shared.saw(|seen| seen.logins.push((method, accepted)));
        if accepted { Auth::Accept } else { Auth::reject() }
    }

    fn knows(&self, user: &str, key: &PublicKey) -> bool {
        let accounts = &self.shared.accounts;
        user == accounts.user && accounts.keys.iter().any(|known| known.key_data() == key.key_data())
    }
}

impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        if self.shared.asks.is_some() {
            // The library hands over methods that were not offered, too.
            return Ok(Auth::reject());
        }
        let accounts = &self.shared.accounts;
        let right = user == accounts.user && accounts.password.as_deref() == Some(password);
        Ok(self.judge("password", right).await)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        // Only an attempt with a signature is judged and counted: an offer of an unknown key is simply turned down.
        Ok(if self.knows(user, offer.public_key) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if self.shared.asks.as_ref().is_some_and(|asks| !asks.takes_keys()) {
            return Ok(Auth::reject());
        }
        let judged = self.judge("publickey", self.knows(user, key.public_key)).await;
        Ok(match &self.shared.asks {
            Some(asks) if judged == Auth::Accept => asks.after_key(&mut self.progress),
            _ => judged,
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let Some(asks) = &self.shared.asks else { return Ok(Auth::reject()) };
        let texts = response.map(|texts| texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect());
        let accounts = &self.shared.accounts;
        let answer = asks.hear(texts, accounts.password.as_deref(), &mut self.progress);
        Ok(match answer {
            Auth::Accept | Auth::Reject { .. } => {
                self.judge("keyboard-interactive", answer == Auth::Accept && user == accounts.user).await
            }
            further => further,
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self.shared.faults().stall == Some(Stall::Channel) {
            // Dropping the reply would refuse the channel, so a task keeps it for as long as the connection lives.
            self.channels.spawn(async move {
                std::future::pending::<()>().await;
                drop(reply);
            });
            return Ok(());
        }
        if self.shared.faults().refuse == Some(Refuse::Channel) {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        reply.accept().await;
        self.channels.spawn(channel::serve(channel, session.handle(), self.shared.clone(), self.wire.clone()));
        while self.channels.try_join_next().is_some() {}
        Ok(())
    }
}
