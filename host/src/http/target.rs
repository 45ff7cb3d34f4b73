//! What a URL asks for: scheme, host, port and path, parsed once and by one parser for grants, connection and request alike.
//!
//! Not where its host leads: that is `address`.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use url::{Host, Url};

/// Bytes of a URL.
const MAX_URL: usize = 8 << 10;

/// An `http` or `https` URL that a request can be sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// The same for the wire, whose own parser must not read it differently.
    uri: Uri,
    host: String,
    port: u16,
}

/// Why a URL is none. Never holds the URL: a password may stand in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the URL does not parse: {0}")]
    Syntax(String),
    #[error("the URL has {0} bytes; at most {MAX_URL} are allowed")]
    Length(usize),
    #[error("the URL must begin with http:// or https://")]
    Scheme,
    #[error("the URL holds a user or a password, which belong into basic authentication")]
    Credentials,
    #[error("the URL names no host or the port 0")]
    Host,
}

impl Target {
    /// Reads a URL as browsers do (WHATWG): `http://0x7f.1/` is `http://127.0.0.1/` here as everywhere below.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        if text.len() > MAX_URL {
            return Err(TargetError::Length(text.len()));
        }
        Target::of(Url::parse(text).map_err(|error| TargetError::Syntax(error.to_string()))?)
    }

    /// Where a redirect from here leads, which may be a relative reference (RFC 9110, 10.2.2).
    pub fn join(&self, location: &str) -> Result<Target, TargetError> {
        if location.len() > MAX_URL {
            return Err(TargetError::Length(location.len()));
        }
        Target::of(self.url.join(location).map_err(|error| TargetError::Syntax(error.to_string()))?)
    }

    fn of(mut url: Url) -> Result<Target, TargetError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or(TargetError::Host)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(TargetError::Host)?.to_owned();
        url.set_fragment(None);
        let uri: Uri = url.as_str().parse().map_err(|error| TargetError::Syntax(format!("{error}")))?;
        let same = uri.host() == Some(host.as_str()) && uri.port_u16().unwrap_or(port) == port;
        if !same {
            return Err(TargetError::Host);
        }
        Ok(Target { url, uri, host, port })
    }

    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// In small letters; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as resolvers and SSH servers take it: an IPv6 address without brackets.
    pub fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// The address, when the host is one.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, as a connection names them.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of `Host` (RFC 9110, 7.2): without the scheme's own port.
    pub fn authority(&self) -> String {
        if self.url.port().is_some() { self.place() } else { self.host.clone() }
    }

    /// The whole, as HTTP/2 takes it. Not for logs and messages: a key may stand in its query.
    pub fn uri(&self) -> Uri {
        self.uri.clone()
    }

    /// Path and query, as HTTP/1.1 takes them.
    pub fn path_and_query(&self) -> Uri {
        self.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
    }

    /// Whether both are served by the same host, port and scheme (RFC 6454, 4): only then may one be told the other's secrets.
    pub fn same_origin(&self, other: &Target) -> bool {
        (self.url.scheme(), &self.host, self.port) == (other.url.scheme(), &other.host, other.port)
    }
}

/// Without the query, which may hold a key.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.url.query().is_some() { "?…" } else { "" };
        write!(f, "{}://{}{}{query}", self.url.scheme(), self.authority(), self.url.path())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_shown_without_its_query() {
        let target = Target::parse("https://API.example.org:8443/a/../b?key=hunter2#part").unwrap();
        assert_eq!(target.to_string(), "https://api.example.org:8443/b?…");
        assert_eq!(target.path_and_query(), "/b?key=hunter2");
        assert_eq!((target.host(), target.port(), target.is_tls()), ("api.example.org", 8443, true));
        assert_eq!(Target::parse("http://example.org:80").unwrap().authority(), "example.org");
    }

    #[test]
    fn an_address_in_any_clothes_is_the_same_address() {
        for text in
            ["http://127.0.0.1/", "http://0x7f.1/", "http://2130706433/", "http://0177.0.0.1/", "http://１27.1/"]
        {
            assert_eq!(Target::parse(text).unwrap().literal(), Some("127.0.0.1".parse().unwrap()), "{text}");
        }
        let v6 = Target::parse("http://[::1]:8080/").unwrap();
        assert_eq!((v6.host(), v6.bare_host(), v6.literal()), ("[::1]", "::1", Some("::1".parse().unwrap())));
    }

    #[test]
    fn what_is_no_target_is_refused_without_repeating_it() {
        let check = |text: &str, expected: TargetError| assert_eq!(Target::parse(text), Err(expected), "{text}");
        check("ftp://example.org", TargetError::Scheme);
        check("file:///etc/passwd", TargetError::Scheme);
        check("https://ann:hunter2@example.org", TargetError::Credentials);
        check("https://example.org:0", TargetError::Host);
        for text in ["", "example.org", "http://", "http://a b/", "https://example.org:99999"] {
            assert!(matches!(Target::parse(text), Err(TargetError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn a_redirect_may_be_relative_and_changes_the_origin_with_scheme_host_or_port() {
        let from = Target::parse("https://a.org/x/y").unwrap();
        let check = |location: &str, shown: &str, same: bool| {
            let to = from.join(location).unwrap();
            assert_eq!((to.to_string().as_str(), to.same_origin(&from)), (shown, same));
        };
        check("../z", "https://a.org/z", true);
        check("//b.org/z", "https://b.org/z", false);
        check("http://a.org/z", "http://a.org/z", false);
        check("https://a.org:8443/z", "https://a.org:8443/z", false);
        check("https://A.org:443/z", "https://a.org/z", true);
        assert_eq!(from.join("javascript:alert(1)"), Err(TargetError::Scheme));
    }
}
