//! What is sent next when an answer leads elsewhere (RFC 9110, 15.4), and what is left out on the way to another origin. Pure.

use crate::http::{Answer, HeaderMap, HttpError, Method, StatusCode, Target};

use super::request::{Header, HttpRequest};

/// Headers that a browser would not take to another origin either, whether or not their values are known to be secret.
const PERSONAL: &[&str] = &["authorization", "cookie", "proxy-authorization"];

/// One hop of a request.
#[derive(Clone, Debug)]
pub struct Next {
    pub method: Method,
    pub target: Target,
    pub has_body: bool,
    /// Redirects that led here.
    pub redirects: u8,
    /// Every hop so far had the first one's origin. It never becomes true again: whoever was left once may have chosen where
    /// the rest leads.
    at_home: bool,
}

impl Next {
    pub fn first(request: &HttpRequest) -> Next {
        Next {
            method: request.method.clone(),
            target: request.target.clone(),
            has_body: true,
            redirects: 0,
            at_home: true,
        }
    }

    /// What is sent at this hop: away from the first origin nothing personal.
    pub fn headers(&self, all: &[Header]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for Header { name, value, hides } in all {
            let about_body = matches!(name.as_str(), "content-type" | "content-encoding" | "content-language");
            let personal = !hides.is_empty() || PERSONAL.contains(&name.as_str());
            if (self.at_home || !personal) && (self.has_body || !about_body) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers
    }

    /// The hop that an answer leads to, if it leads anywhere and so many are followed.
    pub fn after(&self, answer: &Answer, limit: u8) -> Result<Option<Next>, HttpError> {
        let Some(location) = answer.headers.get("location").filter(|_| leads_on(answer.status)) else {
            return Ok(None);
        };
        if self.redirects >= limit {
            return Ok(None);
        }
        let wrong =
            |reason: String| HttpError::Redirect { place: self.target.place(), status: answer.status.as_u16(), reason };
        let location = location.to_str().map_err(|_| wrong("its Location is no ASCII text".to_owned()))?;
        let target = self.target.join(location).map_err(|error| wrong(error.to_string()))?;
        let get = match answer.status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            // Every client does so since the beginning of the web (RFC 9110, 15.4.2, note).
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        Ok(Some(Next {
            method: if get { Method::GET } else { self.method.clone() },
            has_body: self.has_body && !get,
            redirects: self.redirects + 1,
            at_home: self.at_home && target.same_origin(&self.target),
            target,
        }))
    }
}

fn leads_on(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderName, Timings};
    use crate::secrets::Secret;

    fn header(name: &str, value: &str, secret: Option<&str>) -> Header {
        Header {
            name: name.parse::<HeaderName>().unwrap(),
            value: value.parse().unwrap(),
            hides: secret.map(Secret::new).into_iter().collect(),
        }
    }

    fn request(method: Method) -> HttpRequest {
        HttpRequest {
            method,
            target: Target::parse("https://a.org/x").unwrap(),
            headers: vec![
                header("x-key", "hunter2", Some("hunter2")),
                header("authorization", "given", None),
                header("accept", "text/plain", None),
                header("content-type", "text/plain", None),
            ],
            body: Default::default(),
            timeout: std::time::Duration::from_secs(1),
            via: None,
            redirects: 2,
            max_body: 0,
        }
    }

    fn answer(status: u16, location: Option<&str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert("location", location.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Vec::new(),
            body_truncated: false,
            version: Default::default(),
            certificate: None,
            timings: Timings::default(),
        }
    }

    #[test]
    fn what_is_personal_stays_at_the_first_origin_and_never_comes_back() {
        let request = request(Method::GET);
        let names = |next: &Next| {
            let mut names: Vec<_> = next.headers(&request.headers).keys().map(|name| name.to_string()).collect();
            names.sort();
            names
        };
        let first = Next::first(&request);
        assert_eq!(names(&first), ["accept", "authorization", "content-type", "x-key"]);
        let same = first.after(&answer(302, Some("/y")), 9).unwrap().unwrap();
        assert_eq!(names(&same), ["accept", "authorization", "content-type", "x-key"]);
        for elsewhere in ["https://b.org/", "http://a.org/x", "https://a.org:8443/x"] {
            let away = first.after(&answer(302, Some(elsewhere)), 9).unwrap().unwrap();
            assert_eq!(names(&away), ["accept", "content-type"], "{elsewhere}");
            let back = away.after(&answer(302, Some("https://a.org/x")), 9).unwrap().unwrap();
            assert_eq!(names(&back), ["accept", "content-type"], "{elsewhere}");
        }
    }

    #[test]
    fn a_post_becomes_a_get_where_every_client_makes_it_one() {
        let check = |method: Method, status: u16, becomes: Method, has_body: bool| {
            let next = Next::first(&request(method)).after(&answer(status, Some("/y")), 9).unwrap().unwrap();
            assert_eq!((next.method, next.has_body), (becomes, has_body), "{status}");
        };
        check(Method::POST, 301, Method::GET, false);
        check(Method::POST, 302, Method::GET, false);
        check(Method::POST, 303, Method::GET, false);
        check(Method::POST, 307, Method::POST, true);
        check(Method::POST, 308, Method::POST, true);
        check(Method::PUT, 302, Method::PUT, true);
        check(Method::HEAD, 303, Method::HEAD, true);
    }

    #[test]
    fn no_more_redirects_are_followed_than_were_allowed() {
        let first = Next::first(&request(Method::GET));
        assert!(first.after(&answer(302, Some("/y")), 0).unwrap().is_none());
        let second = first.after(&answer(302, Some("/y")), 1).unwrap().unwrap();
        assert!(second.after(&answer(302, Some("/z")), 1).unwrap().is_none());
        for (status, location) in [(200, Some("/y")), (304, Some("/y")), (302, None)] {
            assert!(first.after(&answer(status, location), 9).unwrap().is_none(), "{status}");
        }
        let error = first.after(&answer(302, Some("ftp://b.org/")), 9).unwrap_err().to_string();
        assert!(error.contains("302") && error.contains("http:// or https://"), "{error}");
    }
}
