//! `http`: requests for a guest. It checks what the guest asks for, puts its secrets in and hands it to the capability layer;
//! where a request may go is asked there, hop by hop, of the guest's grants.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use futures::future::join_all;
use wasmtime::component::{HasSelf, Linker};
use zeroize::Zeroizing;

use super::servers;
use crate::call::Call;
use crate::capability::{Gate, Header, Http, HttpRequest, HttpResponse, Servers};
use crate::error::{Code, Problem};
use crate::http::{HeaderName, HeaderValue, Method, Target};
use crate::plugins::bindings::orchestrator::plugin::{http as wit, types};
use crate::plugins::error::Stopped;
use crate::plugins::grants::Granted;
use crate::plugins::kept::Namespace;
use crate::plugins::ticker::Stopwatch;
use crate::secrets::Secret;

/// Requests of one `send-all`.
const MAX_REQUESTS: usize = 32;
const MAX_HEADERS: usize = 64;
/// Bytes of all names and values.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Bytes of a body, in either direction.
const MAX_BODY: usize = 1 << 20;
const MAX_REDIRECTS: u8 = 10;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A longer time is as good as none, and later arithmetic with it cannot overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What the connection is about, and what decides who gets the request: a `host` of the guest's own would be another place than
/// the one that is granted.
const OURS: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "expect",
    "http2-settings",
];

/// What requests need of the host. Nothing of it is there while a plugin describes itself.
pub struct Web {
    pub http: Option<Http>,
    pub servers: Option<Servers>,
    pub kept: Option<Namespace>,
}

pub struct Context {
    pub granted: Arc<Granted>,
    pub web: Web,
    pub call: Call,
    /// Told while an answer is waited for.
    pub watch: Stopwatch,
}

impl Context {
    async fn run(&self, request: wit::Request) -> Answer {
        Ok(self.send_one(request).await?.into())
    }

    async fn send_one(&self, request: wit::Request) -> Result<HttpResponse, Problem> {
        let (Some(http), Some(kept)) = (&self.web.http, &self.web.kept) else {
            return Err(Problem::new(
                Code::NotGranted,
                "a plugin sends nothing while it describes itself: do it in a call",
            ));
        };
        let Plan { mut request, secrets } = plan(request)?;
        if let Some(alias) = &request.via {
            servers::find(&self.granted, self.web.servers.as_ref(), alias)?;
        }
        // Before any secret is opened.
        self.granted.host(&request.method, &request.target)?;
        for secret in secrets {
            request.headers.push(secret.open(kept).await?);
        }
        http.send(&self.call, request, &*self.granted).await
    }

    /// A guest whose call was cancelled does not go on: it could not do anything useful with the answer.
    fn go_on(&self) -> wasmtime::Result<()> {
        if self.call.cancel.is_cancelled() { Err(Stopped::Cancelled.into()) } else { Ok(()) }
    }
}

/// A request as far as it can be made without its secrets.
struct Plan {
    request: HttpRequest,
    secrets: Vec<Wanted>,
}

/// A header whose value is a secret of the plugin's.
struct Wanted {
    header: HeaderName,
    /// The secret's name.
    name: String,
    form: Form,
}

enum Form {
    /// The secret behind a prefix.
    Prefixed(String),
    /// A password, with its user.
    Basic(String),
}

impl Wanted {
    async fn open(self, kept: &Namespace) -> Result<Header, Problem> {
        let secret = kept
            .open_secret(&self.name)
            .await?
            .ok_or_else(|| Problem::invalid(format!("the plugin keeps no secret named {:?}", self.name)))?;
        let mut hides = vec![secret.clone()];
        let value = match self.form {
            Form::Prefixed(prefix) => Zeroizing::new(format!("{prefix}{}", secret.expose())),
            Form::Basic(user) => {
                let pair = Zeroizing::new(format!("{user}:{}", secret.expose()));
                let encoded = Secret::new(BASE64.encode(pair.as_bytes()));
                let value = Zeroizing::new(format!("Basic {}", encoded.expose()));
                hides.push(encoded);
                value
            }
        };
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Problem::invalid(format!("the secret {:?} holds a character that no header may have", self.name))
        })?;
        // It is printed as `Sensitive` then, and not kept in HTTP/2's table of headers (RFC 7541, 7.1.3).
        value.set_sensitive(true);
        Ok(Header { name: self.header, value, hides })
    }
}

/// The request, if it is one.
fn plan(asked: wit::Request) -> Result<Plan, Problem> {
    let method = Method::from_bytes(asked.method.as_bytes()).ok().filter(|method| {
        asked.method.len() <= 32
            && asked.method.bytes().all(|byte| byte.is_ascii_uppercase())
            && !matches!(*method, Method::CONNECT | Method::TRACE)
    });
    let method = method.ok_or_else(|| {
        Problem::invalid("the method must be one in capital letters, such as GET, and neither CONNECT nor TRACE")
    })?;
    let target = Target::parse(&asked.url).map_err(|error| Problem::invalid(error.to_string()))?;
    if asked.headers.len() > MAX_HEADERS {
        return Err(Problem::invalid(format!("a request may have at most {MAX_HEADERS} headers")));
    }
    let size = |(name, value): &(String, wit::Value)| match value {
        wit::Value::Plain(value) => name.len() + value.len(),
        wit::Value::Secret(secret) => name.len() + secret.prefix.len(),
    };
    if asked.headers.iter().map(size).sum::<usize>() > MAX_HEADER_BYTES {
        return Err(Problem::invalid(format!("the headers of a request may have at most {MAX_HEADER_BYTES} bytes")));
    }
    let body = asked.body.unwrap_or_default();
    if body.len() > MAX_BODY {
        return Err(Problem::invalid(format!("the body of a request may have at most {MAX_BODY} bytes")));
    }
    let (mut headers, mut secrets) = (Vec::new(), Vec::new());
    for (name, value) in asked.headers {
        let header = header_name(&name)?;
        match value {
            wit::Value::Plain(value) => headers.push(Header {
                value: HeaderValue::from_str(&value).map_err(|_| {
                    Problem::invalid(format!("the value of the header {header} holds control characters"))
                })?,
                name: header,
                hides: Vec::new(),
            }),
            wit::Value::Secret(secret) => {
                HeaderValue::from_str(&secret.prefix).map_err(|_| {
                    Problem::invalid(format!("the prefix of the header {header} holds control characters"))
                })?;
                secrets.push(Wanted { header, name: secret.name, form: Form::Prefixed(secret.prefix) });
            }
        }
    }
    if let Some(wit::Basic { user, password }) = asked.basic_auth {
        if user.contains(':') || user.chars().any(char::is_control) || user.len() > MAX_HEADER_BYTES {
            return Err(Problem::invalid(
                "the user of basic authentication must hold no colon and no control characters",
            ));
        }
        secrets.push(Wanted {
            header: HeaderName::from_static("authorization"),
            name: password,
            form: Form::Basic(user),
        });
    }
    if !headers.iter().any(|header| header.name == "user-agent") {
        headers.push(Header {
            name: HeaderName::from_static("user-agent"),
            value: HeaderValue::from_static(concat!("mcp-orchestrator/", env!("CARGO_PKG_VERSION"))),
            hides: Vec::new(),
        });
    }
    let request = HttpRequest {
        method,
        target,
        headers,
        body: body.into(),
        timeout: asked.timeout_ms.map_or(DEFAULT_TIMEOUT, |ms| Duration::from_millis(ms).min(MAX_TIMEOUT)),
        via: asked.via,
        redirects: asked.redirects.min(MAX_REDIRECTS),
        max_body: usize::try_from(asked.max_body).unwrap_or(MAX_BODY).min(MAX_BODY),
    };
    Ok(Plan { request, secrets })
}

fn header_name(name: &str) -> Result<HeaderName, Problem> {
    let shown: String = name.chars().take(64).collect();
    let header = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Problem::invalid(format!("{shown:?} is no name for a header (RFC 9110, 5.1)")))?;
    if OURS.contains(&header.as_str()) {
        return Err(Problem::invalid(format!("the header {header} is set by the host")));
    }
    Ok(header)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl From<HttpResponse> for wit::Response {
    fn from(response: HttpResponse) -> Self {
        let timings = response.timings;
        wit::Response {
            status: response.status,
            headers: response
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            body: response.body,
            body_truncated: response.body_truncated,
            url: response.url,
            redirects: response.redirects,
            http_version: response.version,
            certificate_not_after: response.certificate_not_after,
            timings: wit::Timings {
                resolve_ms: timings.resolve.map(ms),
                connect_ms: ms(timings.connect),
                tls_ms: timings.tls.map(ms),
                first_byte_ms: ms(timings.first_byte),
                total_ms: ms(response.total),
            },
        }
    }
}

type Answer = Result<wit::Response, types::Problem>;

impl wit::Host for Context {
    async fn send(&mut self, request: wit::Request) -> wasmtime::Result<Answer> {
        self.go_on()?;
        let waiting = self.watch.wait();
        let answer = self.run(request).await;
        drop(waiting);
        self.go_on()?;
        Ok(answer)
    }

    async fn send_all(&mut self, requests: Vec<wit::Request>) -> wasmtime::Result<Vec<Answer>> {
        self.go_on()?;
        if requests.len() > MAX_REQUESTS {
            let problem = Problem::invalid(format!(
                "send-all takes at most {MAX_REQUESTS} requests, not {}: none of them was sent",
                requests.len()
            ));
            return Ok(requests.iter().map(|_| Err(problem.clone().into())).collect());
        }
        let waiting = self.watch.wait();
        let this = &*self;
        let answers = join_all(requests.into_iter().map(|request| this.run(request))).await;
        drop(waiting);
        self.go_on()?;
        Ok(answers)
    }
}

pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    context: fn(&mut T) -> &mut Context,
) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSelf<Context>>(linker, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(url: &str) -> wit::Request {
        wit::Request {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            basic_auth: None,
            body: None,
            timeout_ms: None,
            via: None,
            redirects: 0,
            max_body: 0,
        }
    }

    fn plain(name: &str, value: &str) -> (String, wit::Value) {
        (name.to_owned(), wit::Value::Plain(value.to_owned()))
    }

    #[test]
    fn a_request_that_cannot_be_is_refused_with_the_reason() {
        let refused = |request: wit::Request, expected: &str| {
            let problem = plan(request).map(|_| ()).unwrap_err();
            assert_eq!(problem.code, Code::InvalidArgument);
            assert!(problem.message.contains(expected), "{}", problem.message);
        };
        let good = || get("https://example.org/");
        for method in ["", "get", "CONNECT", "TRACE", "GE T", "GET\r\n", &"G".repeat(33)] {
            refused(wit::Request { method: method.to_owned(), ..good() }, "method");
        }
        refused(get("ftp://example.org"), "http:// or https://");
        refused(get("https://ann:hunter2@example.org"), "basic authentication");
        for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
            refused(wit::Request { headers: vec![plain(name, "x")], ..good() }, "set by the host");
        }
        refused(wit::Request { headers: vec![plain("a b", "x")], ..good() }, "no name for a header");
        refused(wit::Request { headers: vec![plain("x-a", "b\r\nx-c: d")], ..good() }, "control characters");
        refused(wit::Request { headers: vec![plain("x-a", "b"); MAX_HEADERS + 1], ..good() }, "at most 64 headers");
        refused(wit::Request { headers: vec![plain("x-a", &"b".repeat(MAX_HEADER_BYTES))], ..good() }, "16384 bytes");
        refused(wit::Request { body: Some(vec![0; MAX_BODY + 1]), ..good() }, "1048576 bytes");
        let user = wit::Basic { user: "a:b".to_owned(), password: "p".to_owned() };
        refused(wit::Request { basic_auth: Some(user), ..good() }, "no colon");
    }

    #[test]
    fn what_a_guest_asks_for_is_bounded() {
        let asked = wit::Request {
            timeout_ms: Some(u64::MAX),
            redirects: 255,
            max_body: u32::MAX,
            ..get("https://example.org/")
        };
        let request = plan(asked).unwrap_or_else(|problem| panic!("{problem}")).request;
        assert_eq!((request.timeout, request.redirects, request.max_body), (MAX_TIMEOUT, MAX_REDIRECTS, MAX_BODY));
        assert_eq!(
            plan(get("https://a/")).unwrap_or_else(|problem| panic!("{problem}")).request.timeout,
            DEFAULT_TIMEOUT
        );
    }
}
