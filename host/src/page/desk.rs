//! One request to a page, and its answer: who may see the form, and which answer to it counts.
//!
//! The page is on the loopback, where every program and every website of the machine can knock. It answers only to its own
//! name (a website whose name was made to lead here has another one), only under a path that cannot be guessed, and takes an
//! answer only from the form that it has shown.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::form::{self, Form};

/// Of an answer with all its fields, in bytes.
const MAX_BODY: usize = 32 << 10;

/// What becomes of an answer, a text per field. It says whether the answer was taken.
pub type Take = Box<dyn FnOnce(Vec<Zeroizing<String>>) -> BoxFuture<'static, bool> + Send>;

/// How a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered,
    /// The person does not want to answer, nobody came, or the answer was of no use any more.
    Unanswered,
}

/// Stands behind all connections to one page.
pub(super) struct Desk {
    form: Form,
    /// As the browser writes where it is: `127.0.0.1:PORT`.
    host: String,
    /// With its `/`.
    path: String,
    /// Gone with the first answer. A plain lock, held for taking it out.
    take: Mutex<Option<Take>>,
    pub(super) end: watch::Sender<Option<End>>,
}

impl Desk {
    pub(super) fn new(form: Form, host: String, path: String, take: Take) -> Desk {
        Desk { form, host, path, take: Mutex::new(Some(take)), end: watch::Sender::new(None) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}{}", self.host, self.path)
    }

    /// Ends the page, if it has not ended before.
    pub(super) fn end(&self, end: End) {
        self.end.send_if_modified(|known| known.is_none() && known.replace(end).is_none());
    }

    pub(super) async fn answer<B: Body<Data = Bytes>>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (status, html) = match self.judge(request).await {
            Ok(html) => (StatusCode::OK, html),
            Err((status, why)) => (status, form::note(why)),
        };
        let mut response = Response::new(Full::new(Bytes::from(html)));
        *response.status_mut() = status;
        *response.headers_mut() = headers();
        response
    }

    async fn judge<B: Body<Data = Bytes>>(&self, request: Request<B>) -> Result<String, (StatusCode, &'static str)>
    where
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let headers = request.headers();
        if !is(headers, header::HOST, &self.host) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "This page has another address."));
        }
        if request.uri().path() != self.path {
            return Err((StatusCode::NOT_FOUND, "There is no such page."));
        }
        match *request.method() {
            Method::GET | Method::HEAD if self.is_open() => return Ok(self.form.html()),
            Method::POST | Method::GET | Method::HEAD if !self.is_open() => {
                return Err((StatusCode::GONE, "This was answered. You can close this page."));
            }
            Method::POST => {}
            _ => return Err((StatusCode::METHOD_NOT_ALLOWED, "This page is looked at and answered, nothing else.")),
        }
        if headers.contains_key(header::ORIGIN) && !is(headers, header::ORIGIN, &format!("http://{}", self.host)) {
            return Err((StatusCode::FORBIDDEN, "This answer comes from another page."));
        }
        if !is(headers, header::CONTENT_TYPE, "application/x-www-form-urlencoded") {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "This is no form."));
        }
        let body = read(request.into_body()).await?;
        let text = std::str::from_utf8(&body).map_err(|_| (StatusCode::BAD_REQUEST, "This is no text."))?;
        let Some(texts) = self.read_form(text)? else {
            self.end(End::Unanswered);
            return Ok(form::note("Nothing was answered. You can close this page."));
        };
        let take = self.take.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(take) = take else { return Err((StatusCode::GONE, "This was answered before.")) };
        if take(texts).await {
            self.end(End::Answered);
            return Ok(form::note("Thank you. You can close this page."));
        }
        self.end(End::Unanswered);
        Err((StatusCode::GONE, "This is not asked any more. You can close this page."))
    }

    fn is_open(&self) -> bool {
        self.end.borrow().is_none() && self.take.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The text of each field. `None`: the person does not want to answer.
    fn read_form(&self, text: &str) -> Result<Option<Vec<Zeroizing<String>>>, (StatusCode, &'static str)> {
        let sent: Vec<(String, Zeroizing<String>)> = url::form_urlencoded::parse(text.as_bytes())
            .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
            .collect();
        if sent.iter().any(|(name, _)| name == "cancel") {
            return Ok(None);
        }
        let one = |index| {
            let name = form::name(index);
            sent.iter().find(|(sent, _)| *sent == name).map(|(_, text)| text.clone())
        };
        let texts: Option<Vec<_>> = (0..self.form.fields.len()).map(one).collect();
        texts.map(Some).ok_or((StatusCode::BAD_REQUEST, "An answer is missing."))
    }
}

/// Whether a header is there once and says this.
fn is(headers: &HeaderMap, name: HeaderName, expected: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|value| value.as_bytes() == expected.as_bytes()) && values.next().is_none()
}

/// Overwritten when it is dropped.
async fn read<B: Body<Data = Bytes>>(body: B) -> Result<Zeroizing<Vec<u8>>, (StatusCode, &'static str)>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(Limited::new(body, MAX_BODY));
    // With room for all of it, so that no copy is left behind where it grew.
    let mut read = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "This answer is too long."))?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(data);
        }
    }
    Ok(read)
}

fn headers() -> HeaderMap {
    let text = HeaderValue::from_static;
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, text("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, text("no-store")),
        (
            header::CONTENT_SECURITY_POLICY,
            text(
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            ),
        ),
        // Not `no-referrer`: with that, browsers say of the form itself that it comes from nowhere (`Origin: null`).
        (header::REFERRER_POLICY, text("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, text("nosniff")),
    ])
}
