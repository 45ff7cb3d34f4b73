//! The face: the Model Context Protocol, versions 2024-11-05 to 2026-07-28, over any pair of byte streams.
//!
//! The only place that knows MCP's wire types. What the tools do is not known here.

mod server;
mod render;
mod progress;

use std::sync::Arc;

use rmcp::ServiceExt;
use rmcp::service::{QuitReason, ServerInitializeError};
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::tools::Registry;

/// The longest message that is read, in bytes. A longer one is dropped with a line in the log, and the connection stays.
const MAX_MESSAGE: usize = 32 << 20;

/// Why a client could not be served to its end.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    #[error("the MCP session did not begin: {0}")]
    Begin(#[source] Box<ServerInitializeError>),
    #[error("the MCP session was broken off: {0}")]
    Session(#[from] tokio::task::JoinError),
}

/// Serves one client until it closes its side or `stop` fires. Requests run concurrently.
pub async fn serve<R, W>(registry: Arc<Registry>, read: R, write: W, stop: CancellationToken) -> Result<(), McpError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let transport = AsyncRwTransport::new(read, write).with_max_line_length(MAX_MESSAGE);
    let session = match server::Server::new(registry).serve_with_ct(transport, stop).await {
        Ok(session) => session,
        // A client that closes without a word, or a stop before it spoke, is no fault.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => return Ok(()),
        Err(error) => return Err(McpError::Begin(Box::new(error))),
    };
    match session.waiting().await? {
        QuitReason::JoinError(error) => Err(McpError::Session(error)),
        _ => Ok(()),
    }
}
