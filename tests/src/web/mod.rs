//! An HTTP server inside this process, with or without TLS, that answers by path as a test needs it and writes down what it
//! was asked.
//!
//! It speaks HTTP/1.1, and HTTP/2 where it is told to offer it. Not a web server: nothing is looked up anywhere.

mod authority;
mod route;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub use authority::{Authority, Identity, VALID_BEFORE, VALID_UNTIL};
use route::Body;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// A running server. It ends with everything that it serves when it is dropped.
pub struct Web {
    pub address: SocketAddr,
    is_tls: bool,
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

impl Web {
    /// Without TLS.
    pub async fn start() -> Result<Web> {
        Web::run(None, false).await
    }

    /// With TLS, and HTTP/2 where it is offered.
    pub async fn secure(identity: &Identity, h2: bool) -> Result<Web> {
        Web::run(Some(identity.acceptor(h2)?), h2).await
    }

    async fn run(tls: Option<TlsAcceptor>, h2: bool) -> Result<Web> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let is_tls = tls.is_some();
        let served = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), served.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, false, seen).await,
                        // A client that does not trust us ends the handshake; it is not our fault and not our business.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let h2 = h2 && stream.get_ref().1.alpn_protocol() == Some(b"h2");
                                serve(stream, h2, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Web { address, is_tls, seen, _task: AbortOnDropHandle::new(task) })
    }

    /// A URL of this server, by its address.
    pub fn url(&self, path: &str) -> String {
        self.url_as("127.0.0.1", path)
    }

    /// A URL of this server, by a name that leads to it.
    pub fn url_as(&self, host: &str, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}{path}", self.address.port())
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Spawns what HTTP/2 needs within the connection's own task set, which ends with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            let _ = work.await;
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, h2: bool, seen: Arc<Mutex<Vec<Seen>>>) {
    let service = service_fn(move |request| answer(request, seen.clone()));
    let io = TokioIo::new(stream);
    // A client that goes away in the middle is what some tests are about.
    if h2 {
        let _ = http2::Builder::new(Tasks::default()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Vec<Seen>>>) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let arrived = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(arrived.clone());
    Ok(route::answer(&arrived).await)
}
