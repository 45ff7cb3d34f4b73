//! A proxy for connections to servers, as operators write it. Pure; how one is talked to is the wire's business.

use std::fmt;
use std::str::FromStr;

/// The proxy to go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// `none`: no proxy, also where the settings name one.
    Direct,
    Through {
        kind: Kind,
        host: String,
        port: u16,
        /// As whom to log in there. The password is never part of this.
        user: Option<String>,
    },
}

impl Proxy {
    pub fn user(&self) -> Option<&str> {
        match self {
            Proxy::Direct => None,
            Proxy::Through { user, .. } => user.as_deref(),
        }
    }
}

/// What it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 1928; names are resolved by the proxy.
    Socks5,
    /// The method CONNECT of HTTP/1.1 (RFC 9110, 9.3.6).
    Http,
}

impl Kind {
    fn scheme(self) -> &'static str {
        match self {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        }
    }
}

impl FromStr for Proxy {
    type Err = &'static str;

    /// Reads `socks5://[user@]host[:port]`, the same with `http`, or `none`. `socks5h` is the same as `socks5`. A user is
    /// taken as it stands, since some have an `@` or a `\` in them.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Proxy::Direct);
        }
        let wrong = "socks5://[user@]host:port, http://[user@]host:port or none is accepted";
        let (scheme, place) = text.split_once("://").ok_or(wrong)?;
        let (kind, usual) = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            "http" => (Kind::Http, 8080),
            _ => return Err(wrong),
        };
        let place = place.trim_end_matches('/');
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        if let Some(user) = user {
            // RFC 7617 has no such user, and what stands behind it would be shown wherever the proxy is.
            if user.contains(':') {
                return Err("leave the password out of it: it goes to proxyPassword (MCP_PROXY_PASSWORD)");
            }
            if user.is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
                return Err(wrong);
            }
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(wrong)?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(wrong)?) })
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            None => usual,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(wrong)?,
        };
        let is_host = |char: char| char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || host.len() > 255 || !host.chars().all(is_host) {
            return Err(wrong);
        }
        Ok(Proxy::Through { kind, host: host.to_owned(), port, user: user.map(str::to_owned) })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proxy::Direct => f.write_str("none"),
            Proxy::Through { kind, host, port, user } => {
                write!(f, "{}://", kind.scheme())?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                match host.contains(':') {
                    true => write!(f, "[{host}]:{port}"),
                    false => write!(f, "{host}:{port}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_written() {
        let check = |text: &str, expected: &str| assert_eq!(text.parse::<Proxy>().unwrap().to_string(), expected);
        check("socks5://127.0.0.1", "socks5://127.0.0.1:1080");
        check("SOCKS5H://proxy.example.org:9050/", "socks5://proxy.example.org:9050");
        check("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128");
        check("http://proxy", "http://proxy:8080");
        check("None", "none");
        check("socks5://ada@proxy", "socks5://ada@proxy:1080");
        check("http://CORP\\ada@corp.example@[::1]:3128", "http://CORP\\ada@corp.example@[::1]:3128");
        for wrong in [
            "",
            "proxy:1080",
            "https://proxy",
            "socks4://proxy",
            "socks5://",
            "socks5://a b",
            "http://p:0",
            "http://[::1",
            "http://@proxy",
            "http://a\nb@proxy",
        ] {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
        assert!("http://ada:secret@proxy:8080".parse::<Proxy>().unwrap_err().contains("proxyPassword"));
    }
}
