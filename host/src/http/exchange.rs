//! One request and its answer over a stream that is there already: TLS where the URL wants it, HTTP/1.1 or HTTP/2 as the
//! server chooses, and no more of the body than was asked for.
//!
//! The connection is used once. Whoever checks a service wants to know how long a new one takes.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::bounds::Bounds;
use super::certificate::Certificate;
use super::error::{HttpError, Step};
use super::target::Target;
use super::tls::Tls;
use super::{Stream, Timings};

/// Bytes of the headers of an answer.
const MAX_HEADERS: usize = 64 << 10;

/// What is sent.
#[derive(Clone)]
pub struct Message {
    pub method: Method,
    /// Without `Host`, which follows from the target.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What comes back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// There was more of it than was asked for.
    pub body_truncated: bool,
    /// `HTTP/1.1`, `HTTP/2.0` …
    pub version: Version,
    pub certificate: Option<Certificate>,
    pub timings: Timings,
}

/// The tasks that move a connection's bytes. They end with it, since dropping the set aborts them; the lock is held for one
/// spawn, and HTTP/2 spawns from within others.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            // How a connection ended is seen by whoever waits for the answer.
            let _ = work.await;
        });
    }
}

/// Sends a message and reads at most `max_body` bytes of the answer's body. `timings` come with what was measured before.
pub async fn exchange<S: Stream>(
    stream: S,
    target: &Target,
    message: Message,
    max_body: usize,
    tls: &Tls,
    bounds: &Bounds,
    mut timings: Timings,
) -> Result<Answer, HttpError> {
    let place = target.place();
    let tasks = Tasks::default();
    // The tasks hold the set themselves where HTTP/2 keeps its executor, so it is emptied by hand however this ends.
    let _end = End(tasks.clone());
    let (response, certificate) = if target.is_tls() {
        let started = Instant::now();
        let secured = bounds.step(&place, Step::Tls, tls.connect(stream, target)).await??;
        timings.tls = Some(started.elapsed());
        let request = pin!(send(secured.stream, secured.is_h2, target, message, &tasks));
        (timed(bounds.step(&place, Step::Request, request), &mut timings).await?, secured.certificate)
    } else {
        let request = pin!(send(stream, false, target, message, &tasks));
        (timed(bounds.step(&place, Step::Request, request), &mut timings).await?, None)
    };
    let response = response.map_err(|cause| HttpError::Exchange {
        place: place.clone(),
        step: Step::Request,
        cause,
        status: None,
    })?;
    let (parts, body) = response.into_parts();
    let status = Some(parts.status.as_u16());
    let read = bounds.step(&place, Step::Body, read(body, max_body)).await.map_err(|error| match error {
        HttpError::Timeout { place, step, after, .. } => HttpError::Timeout { place, step, after, status },
        other => other,
    })?;
    let (body, body_truncated) =
        read.map_err(|cause| HttpError::Exchange { place, step: Step::Body, cause, status })?;
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
        body_truncated,
        version: parts.version,
        certificate,
        timings,
    })
}

async fn timed<T>(work: impl Future<Output = T>, timings: &mut Timings) -> T {
    let started = Instant::now();
    let done = work.await;
    timings.first_byte = started.elapsed();
    done
}

/// Aborts what still runs for a connection.
struct End(Tasks);

impl Drop for End {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

async fn send<S: Stream>(
    stream: S,
    is_h2: bool,
    target: &Target,
    message: Message,
    tasks: &Tasks,
) -> Result<Response<Incoming>, hyper::Error> {
    let io = TokioIo::new(stream);
    let mut request = Request::new(Full::new(message.body));
    *request.method_mut() = message.method;
    *request.headers_mut() = message.headers;
    if is_h2 {
        let (mut sender, connection) =
            http2::Builder::new(tasks.clone()).max_header_list_size(MAX_HEADERS as u32).handshake(io).await?;
        tasks.execute(connection);
        // The whole URL: HTTP/2 sends scheme and host as fields of their own (RFC 9113, 8.3.1).
        *request.uri_mut() = target.uri();
        return sender.send_request(request).await;
    }
    let (mut sender, connection) = http1::Builder::new().max_buf_size(MAX_HEADERS).handshake(io).await?;
    tasks.execute(connection);
    *request.uri_mut() = target.path_and_query();
    if let Ok(host) = target.authority().parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    sender.send_request(request).await
}

/// The beginning of a body, and whether there was more.
async fn read(mut body: Incoming, limit: usize) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - kept.len();
        kept.extend_from_slice(data.get(..room).unwrap_or(&data));
        if data.len() > room {
            return Ok((kept, true));
        }
    }
    Ok((kept, false))
}
