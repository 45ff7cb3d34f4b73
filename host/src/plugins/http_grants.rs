//! Which requests a plugin may send: method, host and the kind of address that the host has. Pure.
//! Not what is refused to everybody (metadata services): that is the capability layer's.
//!
//! A scope is a list of words: the method or `*`; the host, a glob, either with `:PORT`; then the kinds of address that may
//! be reached beside public ones: `private`, `loopback`, `link-local`.

use std::fmt;

use super::describe::Want;
use super::grants::{Granted, Grants, Need, matches};
use crate::capability::Gate;
use crate::error::Problem;
use crate::http::{Method, Reach, Target};

/// A request that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// In small letters; an IPv6 address in brackets.
    pub host: &'a str,
    pub port: u16,
    /// `None` while it is not known yet.
    pub reach: Option<Reach>,
}

impl<'a> Asked<'a> {
    pub fn new(method: &'a Method, target: &'a Target, reach: Option<Reach>) -> Self {
        Asked { method: method.as_str(), host: target.host(), port: target.port(), reach }
    }

    /// The scope to suggest: the one that the plugin says it wants, else this very place.
    pub fn scope(&self, wants: &[Want]) -> Vec<String> {
        let wanted = wants.iter().find(|want| want.capability == "http" && covers(&want.scope, self));
        if let Some(want) = wanted {
            return want.scope.clone();
        }
        let reach = self.reach.filter(|reach| *reach != Reach::Public).map(|reach| reach.as_str().to_owned());
        [self.method.to_owned(), format!("{}:{}", self.host, self.port)].into_iter().chain(reach).collect()
    }
}

/// As it reads behind "may not".
impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "send {} to {}:{}", self.method, self.host, self.port)?;
        match self.reach {
            Some(reach) if reach != Reach::Public => write!(f, ", whose address is {reach}"),
            _ => Ok(()),
        }
    }
}

impl Grants {
    pub fn allows_http(&self, asked: &Asked<'_>) -> bool {
        self.http.iter().any(|scope| covers(scope, asked))
    }
}

/// Whether `scope` covers the request. One scope has to cover all of it: a method of one and an address of another do not add up.
fn covers(scope: &[String], asked: &Asked<'_>) -> bool {
    let Some((method, [host, reaches @ ..])) = scope.split_first() else { return false };
    let host = host.to_ascii_lowercase();
    let place = format!("{}:{}", asked.host, asked.port);
    let reached = match asked.reach {
        None | Some(Reach::Public) => true,
        Some(reach) => reaches.iter().any(|word| word == reach.as_str()),
    };
    (method == "*" || method == asked.method) && (matches(&host, asked.host) || matches(&host, &place)) && reached
}

impl Gate for Granted {
    fn host(&self, method: &Method, target: &Target) -> Result<(), Problem> {
        self.check_http(Asked::new(method, target, None))
    }

    fn reach(&self, method: &Method, target: &Target, reach: Reach) -> Result<(), Problem> {
        self.check_http(Asked::new(method, target, Some(reach)))
    }
}

impl Granted {
    fn check_http(&self, asked: Asked<'_>) -> Result<(), Problem> {
        if self.grants.allows_http(&asked) { Ok(()) } else { Err(self.refuse(Need::Http(asked))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GrantsConfig;
    use crate::error::Code;

    fn words(scope: &[&str]) -> Vec<String> {
        scope.iter().map(|word| (*word).to_owned()).collect()
    }

    fn granted(scopes: &[&[&str]]) -> Granted {
        let grants = Grants { http: scopes.iter().map(|scope| words(scope)).collect(), ..Grants::default() };
        Granted { plugin: "web".into(), version: "1.0.0".into(), grants, wants: Vec::new() }
    }

    fn asked(host: &str, reach: Option<Reach>) -> Asked<'_> {
        Asked { method: "GET", host, port: 443, reach }
    }

    #[test]
    fn nothing_may_be_sent_anywhere_by_default() {
        assert!(!Grants::default().allows_http(&asked("example.org", None)));
        assert!(!Grants::default().allows_http(&asked("example.org", Some(Reach::Public))));
    }

    #[test]
    fn a_host_is_granted_by_its_name_a_glob_or_with_its_port() {
        let check = |pattern: &str, host: &str, expected: bool| {
            let allowed = granted(&[&["GET", pattern]]).grants.allows_http(&asked(host, Some(Reach::Public)));
            assert_eq!(allowed, expected, "{pattern} {host}");
        };
        check("example.org", "example.org", true);
        check("Example.ORG", "example.org", true);
        check("example.org", "a.example.org", false);
        check("example.org", "example.org.evil.net", false);
        check("*.example.org", "a.example.org", true);
        check("*.example.org", "a.b.example.org", true);
        check("*.example.org", "example.org", false);
        check("*.example.org", "example.org.evil.net", false);
        check("*", "example.org", true);
        check("example.org:443", "example.org", true);
        check("example.org:8443", "example.org", false);
        check("*:443", "example.org", true);
        check("[::1]", "[::1]", true);
        check("", "example.org", false);
    }

    #[test]
    fn a_method_is_granted_by_its_name_or_all_are() {
        let check = |pattern: &str, expected: bool| {
            let allowed = granted(&[&[pattern, "*"]]).grants.allows_http(&asked("example.org", None));
            assert_eq!(allowed, expected, "{pattern}");
        };
        check("GET", true);
        check("*", true);
        check("POST", false);
        check("get", false);
        check("G*", false);
    }

    #[test]
    fn an_address_that_is_not_public_has_to_be_named() {
        let check = |scope: &[&str], expected: [bool; 4]| {
            let grants = granted(&[scope]).grants;
            let reaches = [Reach::Public, Reach::Private, Reach::Loopback, Reach::LinkLocal];
            assert_eq!(reaches.map(|reach| grants.allows_http(&asked("a.org", Some(reach)))), expected, "{scope:?}");
            assert!(!grants.allows_http(&asked("a.org", Some(Reach::Metadata))), "{scope:?}");
        };
        check(&["GET", "*"], [true, false, false, false]);
        check(&["GET", "*", "private"], [true, true, false, false]);
        check(&["GET", "a.org", "loopback"], [true, false, true, false]);
        check(&["*", "*", "private", "loopback", "link-local"], [true, true, true, true]);
        check(&["GET", "*", "*"], [true, false, false, false]);
        check(&["GET", "*", "public"], [true, false, false, false]);
    }

    #[test]
    fn two_scopes_do_not_add_up() {
        let grants = granted(&[&["GET", "*"], &["POST", "*", "private"]]).grants;
        assert!(!grants.allows_http(&asked("a.org", Some(Reach::Private))));
    }

    #[test]
    fn the_line_in_a_refusal_grants_what_was_refused() {
        let mut plugin = granted(&[&["GET", "b.org"]]);
        let target = Target::parse("https://a.org/x?key=hunter2").unwrap();
        let method = Method::GET;
        for reach in [None, Some(Reach::Public), Some(Reach::Private)] {
            let checked = |plugin: &Granted| match reach {
                None => plugin.host(&method, &target),
                Some(reach) => plugin.reach(&method, &target, reach),
            };
            if reach == Some(Reach::Public) {
                checked(&plugin).unwrap();
                continue;
            }
            let problem = checked(&plugin).unwrap_err();
            assert_eq!((problem.code, &problem.details["capability"]), (Code::NotGranted, &"http".into()));
            for part in ["web 1.0.0", "GET", "a.org:443"] {
                assert!(problem.message.contains(part), "{}", problem.message);
            }
            assert!(!format!("{problem:?}").contains("hunter2"));
            let text = problem.details["orchestrator_toml"].as_str().unwrap();
            let file: toml::Table = text.parse().unwrap();
            let config: GrantsConfig = file["plugins"]["web"]["grants"].clone().try_into().unwrap();
            plugin.grants = Grants::from_config(&config);
            checked(&plugin).unwrap();
        }
        assert!(plugin.grants.allows_http(&asked("b.org", None)), "what was granted before is kept");
    }

    #[test]
    fn a_refusal_suggests_what_the_plugin_says_it_wants() {
        let mut plugin = granted(&[]);
        let scope = words(&["GET", "*.org", "private"]);
        plugin.wants = vec![Want { capability: "http".into(), scope: scope.clone(), reason: "to look".into() }];
        let target = Target::parse("http://a.org/").unwrap();
        assert_eq!(plugin.host(&Method::GET, &target).unwrap_err().details["scope"], serde_json::json!(scope));
        let other = plugin.host(&Method::POST, &target).unwrap_err();
        assert_eq!(other.details["scope"], serde_json::json!(["POST", "a.org:80"]));
    }
}
