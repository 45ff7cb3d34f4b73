//! What can go wrong with a request, by step and subject, and how a caller is told.
//!
//! Not what an answer means: a status of 500 is an answer. Never holds a header's value or a query, which may be secrets.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_rustls::rustls::{self, CertificateError};

use super::certificate::Certificate;
use crate::error::{Code, Problem};
use crate::net::errno;

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Connect,
    Tls,
    /// Sending the request and waiting for the first byte of the answer.
    Request,
    Body,
}

impl Step {
    /// As it stands in an error's `details.step`.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Resolve => "resolve",
            Step::Connect => "connect",
            Step::Tls => "tls",
            Step::Request => "request",
            Step::Body => "body",
        }
    }

    /// As it reads in a sentence behind "timed out while".
    fn doing(self) -> &'static str {
        match self {
            Step::Resolve => "resolving the host name",
            Step::Connect => "connecting",
            Step::Tls => "agreeing on keys (TLS handshake)",
            Step::Request => "waiting for the first byte of the answer",
            Step::Body => "reading the body",
        }
    }
}

/// Why there is no answer. `place` is host and port.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{place}: the host name does not resolve: {cause}")]
    Resolve { place: String, cause: io::Error },
    #[error("{place}: cannot connect: {cause}")]
    Connect { place: String, cause: io::Error },
    /// A server that we are logged in to cannot, or will not, connect.
    #[error("{place}: {server} cannot connect to it: {cause}")]
    Forward { place: String, server: String, cause: &'static str, prohibited: bool },
    #[error("{place}: {}", tls_words(.cause, .certificate.as_ref()))]
    Tls { place: String, cause: Box<rustls::Error>, certificate: Option<Certificate> },
    #[error("{place}: the connection broke during the TLS handshake: {cause}")]
    Handshake { place: String, cause: io::Error },
    #[error("no certificate authority is known, so that no https:// server can be verified: {reason}")]
    Roots { reason: String },
    #[error("cannot read certificate authorities from {}: {reason}", .path.display())]
    CaFile { path: PathBuf, reason: String },
    #[error("{place}: the exchange failed while {}: {cause}", .step.doing())]
    Exchange { place: String, step: Step, cause: hyper::Error, status: Option<u16> },
    #[error("{place}: timed out after {:.1} s while {}{}", .after.as_secs_f64(), .step.doing(), status_words(*.status))]
    Timeout { place: String, step: Step, after: Duration, status: Option<u16> },
    #[error("{place}: cancelled while {}", .step.doing())]
    Cancelled { place: String, step: Step },
    #[error("{place}: the status {status} leads to a place that cannot be followed: {reason}")]
    Redirect { place: String, status: u16, reason: String },
}

fn status_words(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(" of an answer with status {status}"))
}

/// What is wrong with a handshake, most often with the certificate, in the words of an administrator.
fn tls_words(error: &rustls::Error, certificate: Option<&Certificate>) -> String {
    let until = certificate.map(|certificate| certificate.not_after);
    let rustls::Error::InvalidCertificate(cause) = error else { return format!("the TLS handshake failed: {error}") };
    match (cause, until) {
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, Some(until)) => {
            format!("the certificate expired on {until}")
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            let from = certificate.map_or_else(|| "later".to_owned(), |certificate| certificate.not_before.to_string());
            format!("the certificate is not valid before {from}")
        }
        (cause, _) if is_self_signed(cause, certificate) => {
            "the certificate is self-signed and not trusted here".to_owned()
        }
        (CertificateError::UnknownIssuer, _) => {
            "the certificate's issuer is not trusted here, or the server does not send the whole chain".to_owned()
        }
        (CertificateError::NotValidForNameContext { presented, .. }, _) => {
            let names: Vec<&str> = presented.iter().map(String::as_str).take(5).collect();
            format!("the certificate is for another name: {}", names.join(", "))
        }
        (cause, _) => format!("the certificate is not accepted: {cause}"),
    }
}

/// Whether what is wrong is that the certificate vouches for itself. One that `openssl req -x509` makes is an authority's by its
/// own words, and refused as such before anybody asks who signed it; the library has no name for that.
fn is_self_signed(cause: &CertificateError, certificate: Option<&Certificate>) -> bool {
    certificate.is_some_and(|certificate| certificate.self_issued)
        && matches!(cause, CertificateError::UnknownIssuer | CertificateError::Other(_))
}

impl HttpError {
    /// It says nothing about the place that was asked.
    pub fn is_ours(&self) -> bool {
        match self {
            HttpError::Roots { .. } | HttpError::CaFile { .. } | HttpError::Cancelled { .. } => true,
            HttpError::Connect { cause, .. } => cause.kind() == io::ErrorKind::NetworkUnreachable,
            _ => false,
        }
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        match self {
            HttpError::Resolve { .. } => Step::Resolve,
            HttpError::Connect { .. } | HttpError::Forward { .. } => Step::Connect,
            HttpError::Tls { .. }
            | HttpError::Handshake { .. }
            | HttpError::Roots { .. }
            | HttpError::CaFile { .. } => Step::Tls,
            HttpError::Exchange { step, .. } | HttpError::Timeout { step, .. } | HttpError::Cancelled { step, .. } => {
                *step
            }
            HttpError::Redirect { .. } => Step::Request,
        }
    }

    /// The same request may be answered later without any change, and had no effect so far.
    fn is_retryable(&self) -> bool {
        match self {
            HttpError::Resolve { .. } | HttpError::Connect { .. } | HttpError::Handshake { .. } => true,
            HttpError::Forward { prohibited, .. } => !prohibited,
            HttpError::Timeout { step, .. } => matches!(step, Step::Resolve | Step::Connect | Step::Tls),
            // The other side may have acted on the request already.
            HttpError::Exchange { .. }
            | HttpError::Tls { .. }
            | HttpError::Roots { .. }
            | HttpError::CaFile { .. }
            | HttpError::Cancelled { .. }
            | HttpError::Redirect { .. } => false,
        }
    }

    fn code(&self) -> Code {
        match self {
            HttpError::Cancelled { .. } => Code::Cancelled,
            HttpError::Timeout { step: Step::Request | Step::Body, .. } => Code::CommandTimeout,
            _ => Code::ConnectionFailed,
        }
    }

    /// A short word for programs.
    fn reason(&self) -> Option<String> {
        Some(match self {
            HttpError::Resolve { .. } => "ENOTFOUND".to_owned(),
            HttpError::Connect { cause, .. } | HttpError::Handshake { cause, .. } => errno(cause),
            HttpError::Forward { prohibited: true, .. } => "FORWARDING_PROHIBITED".to_owned(),
            HttpError::Forward { .. } => "ECONNREFUSED".to_owned(),
            HttpError::Timeout { .. } => "ETIMEDOUT".to_owned(),
            HttpError::Tls { cause, certificate, .. } => match &**cause {
                rustls::Error::InvalidCertificate(cause) => match cause {
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => "CERT_EXPIRED",
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "CERT_NOT_YET_VALID",
                    cause if is_self_signed(cause, certificate.as_ref()) => "CERT_SELF_SIGNED",
                    CertificateError::UnknownIssuer => "CERT_UNKNOWN_ISSUER",
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        "CERT_WRONG_NAME"
                    }
                    _ => "CERT_INVALID",
                }
                .to_owned(),
                _ => "TLS".to_owned(),
            },
            HttpError::Roots { .. } | HttpError::CaFile { .. } => "NO_ROOTS".to_owned(),
            HttpError::Exchange { cause, .. } if cause.is_parse() => "NOT_HTTP".to_owned(),
            HttpError::Exchange { .. } => "BROKEN".to_owned(),
            HttpError::Redirect { .. } => "BAD_REDIRECT".to_owned(),
            HttpError::Cancelled { .. } => return None,
        })
    }

    /// What to do next.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            HttpError::Resolve { .. } => "Check the spelling of the host, and the name servers of this machine.",
            HttpError::Connect { cause, .. } if cause.kind() == io::ErrorKind::ConnectionRefused => {
                "The host answers, but nothing listens on this port: check the port and that the service runs."
            }
            HttpError::Connect { .. } => "Check host, port, network and firewall.",
            HttpError::Forward { prohibited: true, .. } => {
                "The server's sshd does not allow forwarding: see AllowTcpForwarding and PermitOpen in its sshd_config."
            }
            HttpError::Forward { .. } => {
                "Check on the server that the name resolves, that the service runs and that it listens on this address."
            }
            HttpError::Tls { cause, .. } => match **cause {
                rustls::Error::InvalidCertificate(
                    CertificateError::Expired | CertificateError::ExpiredContext { .. },
                ) => "Renew the certificate.",
                rustls::Error::InvalidCertificate(CertificateError::Other(_)) => {
                    "Give the service a certificate that an authority has signed, which may be your own (MCP_CA_FILE). One that \
                     is itself an authority's (CA:TRUE) is not accepted."
                }
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    "If it is meant to be so, the operator can trust its authority: MCP_CA_FILE names a PEM file."
                }
                rustls::Error::InvalidCertificate(_) => "Check the certificate that the service is set up with.",
                _ => "Check that this port speaks TLS (https://), in version 1.2 or 1.3.",
            },
            HttpError::Handshake { .. } => "Check that this port speaks TLS (https://).",
            HttpError::Roots { .. } => "Install the system's certificates (ca-certificates), or set MCP_CA_FILE.",
            HttpError::CaFile { .. } => "MCP_CA_FILE must name a readable file with certificates in PEM.",
            HttpError::Exchange { cause, .. } if cause.is_parse() => "Check that this port speaks HTTP.",
            HttpError::Exchange { .. } => "The other side ended the connection: look into its log.",
            HttpError::Timeout { step: Step::Resolve | Step::Connect, .. } => {
                "The host does not answer: check host, port, network and firewall."
            }
            HttpError::Timeout { .. } => "The service is too slow: look at its load and its log.",
            HttpError::Redirect { .. } => "Check the Location header that the service sends.",
            HttpError::Cancelled { .. } => return None,
        })
    }
}

impl From<HttpError> for Problem {
    fn from(error: HttpError) -> Problem {
        let mut problem = Problem::new(error.code(), error.to_string())
            .retryable(error.is_retryable())
            .detail("step", error.step().as_str());
        if let Some(reason) = error.reason() {
            problem = problem.detail("reason", reason);
        }
        if let HttpError::Tls { certificate: Some(certificate), .. } = &error {
            problem = problem.detail("certificate_not_after", certificate.not_after.to_string());
        }
        if let HttpError::Exchange { status: Some(status), .. } | HttpError::Timeout { status: Some(status), .. } =
            &error
        {
            problem = problem.detail("http_code", *status);
        }
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
