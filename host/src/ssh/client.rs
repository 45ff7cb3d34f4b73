//! Our side of a connection, as the library calls it: it judges the host key, hears how the server takes its leave, and
//! refuses everything that a server could ask of a client.
//!
//! Not how a connection comes to be: that is `session`.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use russh::Channel;
use russh::client::{self, DisconnectReason, Msg};
use russh::keys::PublicKeyOrCertificate;
use tokio_util::sync::DropGuard;

use super::error::Endpoint;
use super::host_key::{self, Decision, HostKeys, Known};
use super::known_hosts;
use super::session::ServerKey;

/// How much is kept of what a server says at the end, in characters.
const MAX_FAREWELL: usize = 120;

/// What the library asks of us.
pub struct Client {
    pub(super) at: Arc<Endpoint>,
    pub(super) pin: Option<String>,
    pub(super) known: Vec<Known>,
    pub(super) keys: HostKeys,
    /// Filled with the key once it is trusted.
    pub(super) shown: Arc<OnceLock<ServerKey>>,
    /// Filled with what the server says when it ends the connection (RFC 4253, 11.1).
    pub(super) farewell: Arc<OnceLock<String>>,
    /// The library drops its handler when the connection has ended.
    pub(super) _ended: DropGuard,
}

/// Why a connection ended during the handshake.
#[derive(Debug)]
pub enum Failure {
    HostKey(Decision),
    /// A new key could not be looked up once more or written down.
    KnownHosts(PathBuf, io::Error),
    Wire(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Failure::Wire(error)
    }
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let key = offered.public_key();
        let mut decision = host_key::judge(self.pin.as_deref(), &self.known, &self.at.host, offered);
        if let Decision::Unknown { .. } = decision
            && self
                .keys
                .accepts(&self.at.host, self.at.port, &key)
                .await
                .map_err(|(file, cause)| Failure::KnownHosts(file, cause))?
        {
            decision = Decision::Trusted;
        }
        match decision {
            Decision::Trusted | Decision::Certified => {
                let certified = decision == Decision::Certified;
                let (fingerprint, key_type) = (host_key::fingerprint(&key), key.algorithm().to_string());
                // A rekey shows the key again; the first one stays.
                let _ = self.shown.set(ServerKey { fingerprint, key_type, certified });
                Ok(true)
            }
            refused => {
                if let Decision::Unknown { public, .. } = &refused {
                    self.keys.note(&format!("{} {public}", known_hosts::lookup_name(&self.at.host, self.at.port)));
                }
                Err(Failure::HostKey(refused))
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let plain = info.message.chars().filter(|char| !char.is_control()).take(MAX_FAREWELL).collect();
                // There is only one.
                let _ = self.farewell.set(plain);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Failure> {
        refuse(reply).await
    }
}

/// We never asked for any channel from the server's side.
async fn refuse(reply: client::ChannelOpenHandle) -> Result<(), Failure> {
    reply.reject(russh::ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}
