//! A form that one person fills in once, in a browser on this machine: for what must not pass through an MCP client.
//!
//! Not what is asked or why, and no web server: a page is there for one answer and a few minutes, on a port of its own.

mod form;
mod desk;
mod post;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use desk::Desk;
pub use desk::{End, Take};
pub use form::{Field, Form};
pub use post::post;

/// Connections at a time. A browser has a few, some of which it never uses.
const MAX_CONNECTIONS: usize = 16;
/// Bytes of a request without its body.
const MAX_HEAD: usize = 16 << 10;
/// How long a request may take to arrive.
const REQUEST: Duration = Duration::from_secs(10);
/// How long the last answers may take to be written.
const LAST: Duration = Duration::from_secs(2);

/// A page that is open until it is answered, its time is over, or this is dropped.
pub struct Page {
    desk: Arc<Desk>,
    _stop: DropGuard,
}

impl Page {
    /// Opens a page for so long at most. `take` gets the answer.
    pub fn open(form: Form, life: Duration, take: Take) -> io::Result<Page> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let host = listener.local_addr()?.to_string();
        let desk = Arc::new(Desk::new(form, host, format!("/{:032x}", rand::random::<u128>()), take));
        let stop = CancellationToken::new();
        // Nobody waits for it: it ends by itself, with its time or a moment after `stop`, so that a browser is still answered
        // when whoever waited for the answer has gone on.
        tokio::spawn(serve(listener, Arc::clone(&desk), life, stop.clone()));
        Ok(Page { desk, _stop: stop.drop_guard() })
    }

    /// Where it is. Whoever knows this can answer, so it is told only to whom the question is for.
    pub fn url(&self) -> String {
        self.desk.url()
    }

    /// Waits for the page's end.
    pub async fn ended(&self) -> End {
        let mut end = self.desk.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        // The sender is ours, so this cannot fail.
        ended.ok().and_then(|end| *end).unwrap_or(End::Unanswered)
    }

    pub fn is_open(&self) -> bool {
        self.desk.end.borrow().is_none()
    }

    /// Takes no answer any more.
    pub fn close(&self) {
        self.desk.end(End::Unanswered);
    }
}

impl fmt::Debug for Page {
    /// Without the address: that is for one person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

async fn serve(listener: tokio::net::TcpListener, desk: Arc<Desk>, life: Duration, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut end = desk.end.subscribe();
    let over = sleep(life);
    tokio::pin!(over);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&desk)));
                }
                // Out of file descriptors: whoever asked is told, rather than kept waiting for nobody.
                Err(_) => break,
            },
            Some(_) = connections.join_next() => {}
            _ = end.wait_for(Option::is_some) => break,
            () = &mut over => break,
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    desk.end(End::Unanswered);
    let _ = timeout(LAST, async { while connections.join_next().await.is_some() {} }).await;
}

/// One request: what a browser does not get on this connection, it gets on the next.
async fn converse(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(REQUEST).max_buf_size(MAX_HEAD).keep_alive(false);
    // How it ended matters to the browser alone.
    let _ = timeout(2 * REQUEST, connection.serve_connection(TokioIo::new(stream), service)).await;
}
