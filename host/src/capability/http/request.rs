//! A request as plugins ask for it, and what comes back.

use std::time::Duration;

use bytes::Bytes;

use super::redirect::Next;
use super::scrub;
use crate::http::{Answer, HeaderMap, HeaderName, HeaderValue, Method, Target, Timings};
use crate::secrets::Secret;

/// One header of a request.
#[derive(Clone)]
pub struct Header {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// What of it is secret, in every form in which it stands there. Such a header is sent to the first origin only.
    pub hides: Vec<Secret>,
}

/// One request.
pub struct HttpRequest {
    pub method: Method,
    pub target: Target,
    pub headers: Vec<Header>,
    pub body: Bytes,
    /// For all hops together, connecting included.
    pub timeout: Duration,
    /// The server from whose point of view it is sent.
    pub via: Option<String>,
    /// How many are followed; of one more, the answer that redirects is the answer.
    pub redirects: u8,
    /// Bytes that are kept of the answer's body.
    pub max_body: usize,
}

/// What came back at the last hop.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub body_truncated: bool,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// Where the answer came from, without the query.
    pub url: String,
    /// How many redirects were followed.
    pub redirects: u8,
    /// RFC 3339; absent without TLS.
    pub certificate_not_after: Option<String>,
    /// Of the last hop.
    pub timings: Timings,
    /// Of all hops.
    pub total: Duration,
}

impl HttpResponse {
    pub(super) fn new(answer: Answer, hop: &Next, sent: &[Header], total: Duration) -> Self {
        let secrets: Vec<&[u8]> =
            sent.iter().flat_map(|header| &header.hides).map(|secret| secret.expose().as_bytes()).collect();
        // `HTTP/2.0` is how the library writes it and nobody else (RFC 9113, 1).
        let version = format!("{:?}", answer.version);
        HttpResponse {
            status: answer.status.as_u16(),
            headers: scrub::headers(answer.headers, &secrets),
            body: scrub::bytes(answer.body, &secrets),
            body_truncated: answer.body_truncated,
            version: version
                .strip_suffix(".0")
                .filter(|short| *short == "HTTP/2")
                .map_or(version.clone(), str::to_owned),
            url: hop.target.to_string(),
            redirects: hop.redirects,
            certificate_not_after: answer.certificate.map(|certificate| certificate.not_after.to_string()),
            timings: answer.timings,
            total,
        }
    }
}
