//! HTTP on the wire: one request over a stream, TLS below it, how long each step took, and where an address leads.
//!
//! Not which stream that is, who may send what where, and what is written down about it: that is above.

mod target;
mod address;
mod certificate;
mod tls;
mod bounds;
mod exchange;
mod error;

pub use address::{Reach, of_address, of_name};
pub use bounds::Bounds;
pub use certificate::Certificate;
pub use error::{HttpError, Step};
pub use exchange::{Answer, Message, exchange};
pub use target::{Target, TargetError};
pub use tls::Tls;

pub use hyper::header::{HeaderMap, HeaderName, HeaderValue};
pub use hyper::{Method, StatusCode};

/// A connection that a request can be sent over.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// How long the steps of a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Finding the host's addresses. Absent where the host is one, and where a server finds them.
    pub resolve: Option<std::time::Duration>,
    pub connect: std::time::Duration,
    /// The TLS handshake. Absent without TLS.
    pub tls: Option<std::time::Duration>,
    /// From the request to the first byte of its answer.
    pub first_byte: std::time::Duration,
}
