//! The face: the Model Context Protocol, versions 2024-11-05 to 2026-07-28, over any pair of byte streams.
//!
//! The only place that knows MCP's wire types. What the tools do is not known here.

mod server;
mod session;
mod gate;
mod render;
mod tasks;
mod progress;
mod question;

use std::sync::Arc;
use std::time::Duration;

use rmcp::service::{QuitReason, ServerInitializeError};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{RoleServer, ServiceExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::tools::Registry;

use session::Session;

/// The longest message that is read, in bytes. A longer one is dropped with a line in the log, and the connection stays.
const MAX_MESSAGE: usize = 32 << 20;

/// How long calls that are cancelled because the program ends may take to answer.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Why a client could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    #[error("the MCP session did not begin: {0}")]
    Begin(#[source] Box<ServerInitializeError>),
    #[error("the MCP session was broken off: {0}")]
    Session(#[from] tokio::task::JoinError),
}

/// Serves one client until it closes its side or `stop` fires. Requests run concurrently; those that are not answered a few
/// seconds after the client has gone are given up, and their jobs go on.
///
/// `number` tells the clients of one process apart, where there can be several.
pub async fn serve<R, W>(
    registry: Arc<Registry>,
    read: R,
    write: W,
    number: Option<u64>,
    stop: CancellationToken,
) -> Result<(), McpError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let session = Session::new(number, stop.clone());
    let transport = AsyncRwTransport::new(session.gate.guard(read), write).with_max_line_length(MAX_MESSAGE);
    // A token of its own: rmcp fires the one that it is given when the session ends, and other sessions go on.
    let own = CancellationToken::new();
    let served = converse(server::Server::new(registry, Arc::clone(&session)), transport, own.clone());
    let stopping = async {
        stop.cancelled().await;
        // The same token cancels the calls. Their answers say what became of the work, so they are waited for.
        let _ = tokio::time::timeout(LAST_ANSWERS, session.quiet()).await;
        own.cancel();
        std::future::pending::<()>().await;
    };
    let served = tokio::select! {
        served = served => served,
        () = stopping => Ok(()),
    };
    session.end();
    served
}

/// The session from the handshake to the end.
async fn converse<R, W>(
    server: server::Server,
    transport: AsyncRwTransport<RoleServer, R, W>,
    stop: CancellationToken,
) -> Result<(), McpError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let running = match server.serve_with_ct(transport, stop).await {
        Ok(running) => running,
        // A client that closes without a word, or a stop before it spoke, is no fault.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => return Ok(()),
        Err(error) => return Err(McpError::Begin(Box::new(error))),
    };
    match running.waiting().await? {
        QuitReason::JoinError(error) => Err(McpError::Session(error)),
        _ => Ok(()),
    }
}
