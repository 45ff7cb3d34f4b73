//! One entry of the catalogue, and a change to it. Pure: nothing is kept or asked for here.
//!
//! An entry holds no secret. Whether it has one is told by its way to authenticate.

use orchestrator_sdk::prelude::*;

const MAX_URL: usize = 2048;
const MAX_TEXT: usize = 1000;

/// The method of a health check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Post,
    Head,
}

impl Method {
    pub fn word(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Head => "HEAD",
        }
    }
}

/// How a request says who asks: a key in a header, HTTP basic authentication (RFC 7617), or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    #[default]
    None,
    ApiKey,
    Htpasswd,
    Both,
}

impl Auth {
    pub fn has_key(self) -> bool {
        matches!(self, Auth::ApiKey | Auth::Both)
    }

    pub fn has_password(self) -> bool {
        matches!(self, Auth::Htpasswd | Auth::Both)
    }

    fn of(secrets: Kept) -> Auth {
        match (secrets.api_key, secrets.htpasswd_pass) {
            (false, false) => Auth::None,
            (true, false) => Auth::ApiKey,
            (false, true) => Auth::Htpasswd,
            (true, true) => Auth::Both,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Auth::None => "no authentication",
            Auth::ApiKey => "API key",
            Auth::Htpasswd => "user and password",
            Auth::Both => "API key, user and password",
        }
    }
}

/// An API as it is kept and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    pub alias: String,
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_endpoint: Option<String>,
    pub health_check_method: Method,
    pub auth_method: Auth,
    pub auth_header_name: String,
    pub auth_scheme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub htpasswd_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
}

impl Entry {
    /// The entry in one line.
    pub fn line(&self) -> String {
        let endpoint = self.health_check_endpoint.as_deref().unwrap_or_default();
        let notes = self.notes.as_deref().map(|notes| format!(" - {}", one_line(notes))).unwrap_or_default();
        let Entry { alias, url, .. } = self;
        format!("{alias}: {} {url}{endpoint}, {}{notes}", self.health_check_method.word(), self.auth_method.word())
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What `api_add` is given.
#[derive(Deserialize, JsonSchema)]
pub struct Change {
    /// Name.
    pub alias: String,
    /// Needed for a new one.
    pub url: Option<String>,
    /// Path below url.
    pub health_check_endpoint: Option<String>,
    /// Default GET.
    pub health_check_method: Option<Method>,
    /// Default: by the secrets.
    pub auth_method: Option<Auth>,
    /// Sealed.
    pub api_key: Option<String>,
    /// Default Authorization.
    pub auth_header_name: Option<String>,
    /// Default Bearer; '' for none.
    pub auth_scheme: Option<String>,
    /// User.
    pub htpasswd_user: Option<String>,
    /// Sealed.
    pub htpasswd_pass: Option<String>,
    /// Free text.
    pub notes: Option<String>,
    /// Healthy status.
    pub expect_status: Option<u16>,
    /// Text in a healthy body.
    pub expect_body: Option<String>,
}

/// Which secrets there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub api_key: bool,
    pub htpasswd_pass: bool,
}

impl Change {
    /// The entry after the change. `kept` are the secrets stored before, `given` those that come with the change.
    pub fn apply(self, old: Option<Entry>, kept: Kept, given: Kept) -> Result<Entry, Problem> {
        let url = match (&self.url, &old) {
            (Some(url), _) => check_url(url)?,
            (None, Some(old)) => old.url.clone(),
            (None, None) => {
                return Err(Problem::invalid(format!("`url` is needed: there is no API {:?} yet", self.alias)));
            }
        };
        let all =
            Kept { api_key: kept.api_key || given.api_key, htpasswd_pass: kept.htpasswd_pass || given.htpasswd_pass };
        let auth_method = self.auth_method.unwrap_or_else(|| Auth::of(all));
        let needs = [
            ("api_key", auth_method.has_key(), given.api_key, kept.api_key),
            ("htpasswd_pass", auth_method.has_password(), given.htpasswd_pass, kept.htpasswd_pass),
        ];
        // A stored secret must not be sent to another host only because somebody changed the URL.
        let moved = old.as_ref().is_some_and(|old| origin(&old.url) != origin(&url));
        for (name, needed, given, kept) in needs {
            if given && !needed {
                return Err(Problem::invalid(format!("`{name}` is given, but `auth_method` does not use it")));
            }
            if needed && !given && !kept {
                return Err(Problem::invalid(format!("`{name}` is needed with this `auth_method`")));
            }
            if needed && !given && moved {
                return Err(Problem::invalid(format!(
                    "`{name}` must be given again, because `url` leads to another host than the one it was stored for"
                )));
            }
        }
        let old = old.unwrap_or_else(|| Entry {
            alias: self.alias.clone(),
            url: String::new(),
            health_check_endpoint: None,
            health_check_method: Method::Get,
            auth_method: Auth::None,
            auth_header_name: "Authorization".to_owned(),
            auth_scheme: "Bearer".to_owned(),
            htpasswd_user: None,
            notes: None,
            expect_status: None,
            expect_body: None,
        });
        let entry = Entry {
            alias: self.alias,
            url,
            health_check_endpoint: self
                .health_check_endpoint
                .map(|path| check_endpoint(&path))
                .transpose()?
                .or(old.health_check_endpoint),
            health_check_method: self.health_check_method.unwrap_or(old.health_check_method),
            auth_method,
            auth_header_name: self.auth_header_name.unwrap_or(old.auth_header_name),
            auth_scheme: self.auth_scheme.unwrap_or(old.auth_scheme),
            htpasswd_user: self.htpasswd_user.or(old.htpasswd_user).filter(|_| auth_method.has_password()),
            notes: self.notes.or(old.notes),
            expect_status: self.expect_status.or(old.expect_status),
            expect_body: self.expect_body.or(old.expect_body),
        };
        entry.check()
    }
}

impl Entry {
    fn check(self) -> Result<Entry, Problem> {
        if self.expect_status.is_some_and(|status| !(100..=599).contains(&status)) {
            return Err(Problem::invalid("`expect_status` must be an HTTP status from 100 to 599"));
        }
        if self.expect_body.is_some() && self.health_check_method == Method::Head {
            return Err(Problem::invalid("`expect_body` needs `health_check_method` GET or POST: HEAD brings no body"));
        }
        if !is_token(&self.auth_header_name) {
            return Err(Problem::invalid("`auth_header_name` must be the name of an HTTP header, such as X-Api-Key"));
        }
        if !self.auth_scheme.is_empty() && !is_token(&self.auth_scheme) {
            return Err(Problem::invalid("`auth_scheme` must be one word such as Bearer, or '' for none"));
        }
        if self.auth_method == Auth::Both && self.auth_header_name.eq_ignore_ascii_case("Authorization") {
            return Err(Problem::invalid(
                "`auth_header_name` must be another one than Authorization with `auth_method` both: the password is sent in that",
            ));
        }
        if self.auth_method.has_password() && self.htpasswd_user.is_none() {
            return Err(Problem::invalid("`htpasswd_user` is needed with this `auth_method`"));
        }
        // RFC 7617, 2: a user-id with a colon cannot be told from the password.
        if self.htpasswd_user.as_ref().is_some_and(|user| user.contains(':') || user.chars().any(char::is_control)) {
            return Err(Problem::invalid("`htpasswd_user` must hold no colon and no control characters"));
        }
        let texts =
            [("notes", &self.notes), ("expect_body", &self.expect_body), ("htpasswd_user", &self.htpasswd_user)];
        for (name, text) in texts {
            if text.as_ref().is_some_and(|text| text.chars().count() > MAX_TEXT) {
                return Err(Problem::invalid(format!("`{name}` may have at most {MAX_TEXT} characters")));
            }
        }
        Ok(self)
    }
}

/// `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`: it is part of the names that values and secrets are kept under.
pub fn check_alias(alias: &str) -> Result<(), Problem> {
    let starts_well = alias.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if starts_well
        && alias.len() <= 64
        && alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return Ok(());
    }
    Err(Problem::invalid(
        "`alias` must have 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first",
    ))
}

/// A secret becomes part of a header, so it must not be able to begin another one. The message does not repeat it.
pub fn check_secret(argument: &str, secret: &str) -> Result<(), Problem> {
    if secret.is_empty() || secret.chars().any(char::is_control) {
        return Err(Problem::invalid(format!("`{argument}` must not be empty and must hold no control characters")));
    }
    Ok(())
}

/// The URL without a last slash, if it is one that a health check can be sent to. The message does not repeat it: a password may
/// stand in it.
fn check_url(url: &str) -> Result<String, Problem> {
    let refuse = |what: &str| Err(Problem::invalid(format!("`url` {what}")));
    let Some((scheme, rest)) = url.split_once("://") else {
        return refuse("must begin with http:// or https://");
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return refuse("must begin with http:// or https://");
    }
    if url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['\\', '#', '?']) {
        return refuse(
            "may have at most 2048 printable ASCII characters, and none of \\ # ?; a query goes into `health_check_endpoint`",
        );
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return refuse("must not hold a user or password: give htpasswd_user and htpasswd_pass");
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand inside of its brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return refuse("must name a host, and after a colon a port from 1 to 65535");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Scheme, host and port, in lower case: what decides who gets a request.
fn origin(url: &str) -> String {
    let lower = url.to_ascii_lowercase();
    lower.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// A path, which begins with a slash: without one it could change the host that the URL names.
fn check_endpoint(path: &str) -> Result<String, Problem> {
    if path.len() > MAX_URL || !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['\\', '#']) {
        return Err(Problem::invalid("`health_check_endpoint` must be a path such as /health, in printable ASCII"));
    }
    Ok(if path.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// A token of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_scheme_and_host_and_hides_no_password() {
        let check = |url: &str, expected: Result<&str, &str>| match (check_url(url), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url, expected),
            (Err(problem), Err(expected)) => assert!(problem.message.contains(expected), "{url}: {problem}"),
            (found, _) => panic!("{url}: {found:?}"),
        };
        check("https://api.example.org/v1/", Ok("https://api.example.org/v1"));
        check("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080"));
        check("http://[::1]", Ok("http://[::1]"));
        check("http://[::1]:80/a", Ok("http://[::1]:80/a"));
        check("ftp://example.org", Err("http:// or https://"));
        check("example.org", Err("http:// or https://"));
        check("https://", Err("must name a host"));
        check("https://:80", Err("must name a host"));
        check("https://a:0", Err("a port from 1"));
        check("https://a:99999", Err("a port from 1"));
        check("https://ann:pw@a", Err("htpasswd_user"));
        check("https://a/ b", Err("printable ASCII"));
        check("https://a\\@b", Err("none of"));
    }

    #[test]
    fn the_origin_is_what_decides_who_gets_a_request() {
        let same = |one: &str, other: &str| origin(one) == origin(other);
        assert!(same("https://a.org/v1", "https://A.org/v2/x"));
        assert!(!same("https://a.org", "http://a.org"));
        assert!(!same("https://a.org", "https://a.org.evil.net"));
        assert!(!same("https://a.org", "https://a.org:8443"));
    }

    #[test]
    fn an_endpoint_is_a_path() {
        assert_eq!(check_endpoint("health"), Ok("/health".to_owned()));
        assert_eq!(check_endpoint("@evil.net/x"), Ok("/@evil.net/x".to_owned()));
        assert_eq!(check_endpoint("/a?b=c"), Ok("/a?b=c".to_owned()));
        assert!(check_endpoint("/a\r\nb").is_err());
    }

    #[test]
    fn an_alias_is_safe_inside_of_a_key() {
        for (alias, good) in [("a", true), ("a.b-c_1", true), ("", false), (".a", false), ("a/b", false), ("ä", false)]
        {
            assert_eq!(check_alias(alias).is_ok(), good, "{alias}");
        }
    }
}
