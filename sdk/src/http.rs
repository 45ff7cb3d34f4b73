//! An HTTP request and its answer. What the host does with them, and every limit, is in `wit/http.wit`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    Plain(String),
    /// A secret that the host puts in, behind a prefix such as `Bearer `.
    Secret {
        prefix: String,
        name: String,
    },
}

/// A request to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, HeaderValue)>,
    /// User, and the name of the secret that is the password.
    pub basic_auth: Option<(String, String)>,
    pub body: Option<Vec<u8>>,
    pub timeout: Option<Duration>,
    pub via: Option<String>,
    pub redirects: u8,
    pub max_body: u32,
}

/// Bytes of a body that are kept unless said otherwise.
const MAX_BODY: u32 = 64 << 10;

impl HttpRequest {
    /// `method` in capital letters. No redirect is followed and 64 KiB of the body are kept unless said otherwise.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        HttpRequest { method: method.into(), url: url.into(), max_body: MAX_BODY, ..HttpRequest::default() }
    }

    pub fn get(url: impl Into<String>) -> Self {
        HttpRequest::new("GET", url)
    }

    /// Adds a header. Never for a secret: use [`secret_header`](HttpRequest::secret_header).
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), HeaderValue::Plain(value.into())));
        self
    }

    /// Adds a header whose value is `prefix` and then the secret of this name.
    pub fn secret_header(
        mut self,
        header: impl Into<String>,
        prefix: impl Into<String>,
        secret: impl Into<String>,
    ) -> Self {
        self.headers.push((header.into(), HeaderValue::Secret { prefix: prefix.into(), name: secret.into() }));
        self
    }

    /// Basic authentication with the secret of this name as password.
    pub fn basic_auth(mut self, user: impl Into<String>, secret: impl Into<String>) -> Self {
        self.basic_auth = Some((user.into(), secret.into()));
        self
    }

    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Some(bytes.into());
        self
    }

    /// For all of it, redirects included; 30 s unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it from this server's point of view.
    pub fn via(mut self, server: impl Into<String>) -> Self {
        self.via = Some(server.into());
        self
    }

    /// Follows so many redirects.
    pub fn redirects(mut self, redirects: u8) -> Self {
        self.redirects = redirects;
        self
    }

    /// Keeps so many bytes of the answer's body.
    pub fn max_body(mut self, bytes: u32) -> Self {
        self.max_body = bytes;
        self
    }
}

/// `GET https://example.org/ via web`, for messages and for [`Mock`](crate::mock::Mock).
impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)?;
        self.via.as_ref().map_or(Ok(()), |server| write!(f, " via {server}"))
    }
}

/// How long the steps of a request took, in milliseconds. All but `total_ms` are of the last hop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    pub resolve_ms: Option<f64>,
    pub connect_ms: f64,
    pub tls_ms: Option<f64>,
    pub first_byte_ms: f64,
    pub total_ms: f64,
}

/// An answer, of whatever status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpResponse {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub body_truncated: bool,
    /// Where the answer came from, without the query.
    pub url: String,
    /// How many redirects were followed.
    pub redirects: u8,
    /// `HTTP/1.1`, `HTTP/2` …
    pub http_version: String,
    /// RFC 3339; absent without TLS.
    pub certificate_not_after: Option<String>,
    pub timings: Timings,
}

impl HttpResponse {
    /// The body as text; what is not UTF-8 becomes U+FFFD.
    pub fn body_text(&self) -> Cow<'_, str> {
        crate::command::text(&self.body)
    }

    /// The first value of a header, as text. `name` in small letters.
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| String::from_utf8_lossy(value))
    }
}
