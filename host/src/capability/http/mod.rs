//! HTTP requests for the rest of the program: every one passes here, hop by hop, whoever asks for it.
//!
//! Each hop's place is resolved once, judged, and connected to as it was judged, so that a name cannot lead elsewhere in
//! between. Then the audit line, the deadline and the cancel token. Not how HTTP is spoken: that is the wire's business.

mod redirect;
mod request;
mod scrub;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::Servers;
use crate::call::Call;
use crate::error::{Code, Problem};
use crate::http::{self, Answer, Bounds, HttpError, Message, Reach, Target, Timings, Tls};
use crate::net;
use crate::ssh::{SshError, Step as SshStep};

pub use request::{Header, HttpRequest, HttpResponse};

use redirect::Next;

/// Says whether a hop is allowed. Asked for each hop of a request, the first and every redirect.
pub trait Gate: Sync {
    /// Whether this method may be sent to this host at all. Asked before its name is resolved.
    fn host(&self, method: &http::Method, target: &Target) -> Result<(), Problem>;

    /// Whether it may be, now that it is known where the host is.
    fn reach(&self, method: &http::Method, target: &Target, reach: Reach) -> Result<(), Problem>;
}

/// The way to the web, from here and from servers. Cheap to clone.
#[derive(Clone)]
pub struct Http(Arc<Parts>);

struct Parts {
    servers: Servers,
    tls: Tls,
    beside_proxy: bool,
}

impl Http {
    pub fn new(servers: Servers, tls: Tls) -> Self {
        Http(Arc::new(Parts { servers, tls, beside_proxy: false }))
    }

    /// Connections to servers go through a proxy (`MCP_PROXY`) and requests from here do not: the proxy would resolve the
    /// name, and what it connects to could not be judged. Who cannot get there without it is told so.
    pub fn beside_proxy(self, is_set: bool) -> Self {
        let Parts { servers, tls, .. } = &*self.0;
        Http(Arc::new(Parts { servers: servers.clone(), tls: tls.clone(), beside_proxy: is_set }))
    }

    /// Sends a request and follows as many redirects as it allows. An answer of any status is an answer.
    pub async fn send(&self, call: &Call, request: HttpRequest, gate: &impl Gate) -> Result<HttpResponse, Problem> {
        // The job is on disk before anything is looked up or connected to, unless it only reads and so does this (RFC 9110, 9.2.1).
        // What is ours to do is done before the clock starts: how long it takes is no news about the other side.
        match request.method.is_safe() {
            true => call.recorded.wait_to_read().await?,
            false => call.recorded.wait().await?,
        }
        if request.target.is_tls() {
            // Should it fail, the handshake says so.
            let _ = self.0.tls.ready().await;
        }
        let bounds = Bounds::new(request.timeout, call.deadline, call.cancel.clone());
        // For the way through SSH, which knows calls and not requests.
        let call = Call { deadline: Some(bounds.deadline()), ..call.clone() };
        let mut next = Next::first(&request);
        loop {
            let shown = format!("{} {}", next.method, next.target);
            let status = |answer: &Answer| Some(answer.status.as_u16().to_string());
            let via = request.via.as_deref();
            let answer = {
                let hop = pin!(self.hop(&call, &request, &next, gate, &bounds));
                self.0.servers.audited(&call, via, "http", Some(shown), hop, status).await
            };
            let answer = answer.map_err(|problem| {
                let was_direct = self.0.beside_proxy && request.via.is_none();
                told(if was_direct { without_proxy(problem) } else { problem }, &next, &bounds)
            })?;
            match next.after(&answer, request.redirects) {
                Ok(Some(following)) => next = following,
                Ok(None) => return Ok(HttpResponse::new(answer, &next, &request.headers, bounds.elapsed())),
                Err(error) => return Err(told(at_target(error), &next, &bounds)),
            }
        }
    }

    /// One request and its answer.
    async fn hop(
        &self,
        call: &Call,
        request: &HttpRequest,
        next: &Next,
        gate: &impl Gate,
        bounds: &Bounds,
    ) -> Result<Answer, Problem> {
        let (method, target) = (&next.method, &next.target);
        refuse_special(target, named(target))?;
        gate.host(method, target)?;
        let message = Message {
            method: method.clone(),
            headers: next.headers(&request.headers),
            body: if next.has_body { request.body.clone() } else { Default::default() },
        };
        let (tls, place, max_body) = (&self.0.tls, target.place(), request.max_body);
        let mut timings = Timings::default();
        let answer = match &request.via {
            Some(server) => {
                self.judge_unresolved(method, target, gate, bounds).await?;
                let started = Instant::now();
                let stream = self.0.servers.forward(call, server, target.bare_host(), target.port()).await;
                let stream = stream.map_err(|error| beyond(error, server, &place, bounds))?;
                timings.connect = started.elapsed();
                http::exchange(stream, target, message, max_body, tls, bounds, timings).await
            }
            None => {
                let started = Instant::now();
                let found = bounds.step(&place, http::Step::Resolve, net::resolve(target.bare_host(), target.port()));
                let addresses = found
                    .await
                    .map_err(at_target)?
                    .map_err(|cause| at_target(HttpError::Resolve { place: place.clone(), cause }))?;
                timings.resolve = target.literal().is_none().then(|| started.elapsed());
                // All of them must be allowed: a name of which only some are would be allowed by luck.
                for address in &addresses {
                    let reach = http::of_address(address.ip());
                    refuse_special(target, Some(reach))?;
                    gate.reach(method, target, reach)?;
                }
                let started = Instant::now();
                let connect = net::connect(&addresses, bounds.deadline());
                let stream = bounds.step(&place, http::Step::Connect, connect).await.map_err(at_target)?;
                let stream = stream.map_err(|cause| at_target(unconnected(&place, cause, bounds)))?;
                timings.connect = started.elapsed();
                http::exchange(net::Prompt::new(stream), target, message, max_body, tls, bounds, timings).await
            }
        };
        answer.map_err(at_target)
    }

    /// Where a host leads that another machine resolves. A literal address and a special name tell it. Of any other name it is
    /// not known, so it counts as private; and where it leads to credentials by our own resolver, it most likely does there.
    async fn judge_unresolved(
        &self,
        method: &http::Method,
        target: &Target,
        gate: &impl Gate,
        bounds: &Bounds,
    ) -> Result<(), Problem> {
        if let Some(reach) = named(target) {
            return gate.reach(method, target, reach);
        }
        gate.reach(method, target, Reach::Private)?;
        let resolve = tokio::time::timeout(OWN_LOOKUP, net::resolve(target.bare_host(), target.port()));
        let found = bounds.step(&target.place(), http::Step::Resolve, resolve).await.map_err(at_target)?;
        for address in found.into_iter().flatten().flatten() {
            refuse_special(target, Some(http::of_address(address.ip())).filter(|reach| *reach == Reach::Metadata))?;
        }
        Ok(())
    }
}

/// How long our own resolver may take for a name that a server resolves: it is asked for safety's sake only.
const OWN_LOOKUP: std::time::Duration = std::time::Duration::from_secs(2);

/// Where a host leads, as far as it can be told without a resolver.
fn named(target: &Target) -> Option<Reach> {
    target.literal().map(http::of_address).or_else(|| http::of_name(target.host()))
}

/// Where nobody may go, whatever was granted.
fn refuse_special(target: &Target, reach: Option<Reach>) -> Result<(), Problem> {
    let what = match reach {
        Some(Reach::Metadata) => "a cloud's metadata service, which hands out the machine's credentials",
        Some(Reach::Nowhere) => "an address that no server has (multicast, broadcast or reserved)",
        _ => return Ok(()),
    };
    Err(Problem::new(Code::PolicyDenied, format!("{} is {what}: no request is sent there", target.place()))
        .detail("host", target.host())
        .hint("This is refused always; no grant changes it."))
}

/// With the word that what is wrong is the place that was asked, where it is not this machine or the caller.
fn at_target(error: HttpError) -> Problem {
    let ours = error.is_ours();
    let problem = Problem::from(error);
    if ours { problem } else { problem.detail("subject", "target") }
}

/// Nobody accepted the connection. Which address used up the time does not matter, so running out of it has one name.
fn unconnected(place: &str, cause: std::io::Error, bounds: &Bounds) -> HttpError {
    let place = place.to_owned();
    if cause.kind() == std::io::ErrorKind::TimedOut {
        return HttpError::Timeout { place, step: http::Step::Connect, after: bounds.elapsed(), status: None };
    }
    HttpError::Connect { place, cause }
}

/// The server does not connect further, or is itself not to be reached.
fn beyond(error: SshError, server: &str, place: &str, bounds: &Bounds) -> Problem {
    let place = place.to_owned();
    if let Some(prohibited) = error.forbids_forwarding() {
        let cause =
            if prohibited { "its sshd does not allow it" } else { "the name is not known there, or nobody answers" };
        let error = HttpError::Forward { place, server: server.to_owned(), cause, prohibited };
        return Problem::from(error).detail("subject", if prohibited { "server" } else { "target" });
    }
    match error {
        SshError::Timeout { step: SshStep::Forward, .. } => {
            let after = bounds.elapsed();
            at_target(HttpError::Timeout { place, step: http::Step::Connect, after, status: None })
        }
        other => Problem::from(other),
    }
}

/// With the word that no proxy was used, where the place was not reached and one might have helped.
fn without_proxy(mut problem: Problem) -> Problem {
    let step = problem.details.get("step").and_then(|step| step.as_str());
    if matches!(step, Some("resolve" | "connect")) {
        let hint = problem.hint.take().unwrap_or_default();
        problem = problem.hint(format!(
            "{hint} MCP_PROXY is for SSH and not for this: where only it leads there, ask from a server's point of view."
        ));
    }
    problem
}

/// With the facts that every problem of a request has.
fn told(problem: Problem, next: &Next, bounds: &Bounds) -> Problem {
    let tenths = (bounds.elapsed().as_secs_f64() * 10_000.0).round();
    let mut problem = problem.detail("url", next.target.to_string()).detail("elapsed_ms", tenths / 10.0);
    if next.redirects > 0 {
        problem.message.push_str(&format!(" (after {} redirects)", next.redirects));
        problem = problem.detail("redirects", next.redirects);
    }
    problem
}
