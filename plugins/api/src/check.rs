//! One health check: which request it is, and what its answer says of the API. Pure.
//!
//! An API is UP when it answered as it should, DOWN when it did not, and ERROR when it could not be asked: that says something
//! about the way there and nothing about the API.

use std::time::Duration;

use orchestrator_sdk::prelude::*;
use orchestrator_sdk::{Timings, data};

use crate::entry::Entry;
use crate::secret_names;

/// For one check, redirects included.
const TIMEOUT: Duration = Duration::from_secs(15);
const REDIRECTS: u8 = 5;
/// Bytes of a body that are read: for a look at it, and where something is looked for in it.
const PEEK: u32 = 4 << 10;
const SEARCHED: u32 = 1 << 20;
/// Lines and characters of a body that are shown when something is wrong.
const SHOWN_LINES: usize = 10;
const SHOWN: usize = 500;
/// A certificate that holds for fewer days is worth a warning.
const SOON: i64 = 14;

/// How an API is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    #[default]
    Up,
    Down,
    Error,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Status::Up => "UP",
            Status::Down => "DOWN",
            Status::Error => "ERROR",
        }
    }
}

/// What is asked, and what a healthy answer looks like.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The catalogue's name of the API, if it is of the catalogue.
    pub alias: Option<String>,
    pub server: Option<String>,
    pub request: HttpRequest,
    pub expect_status: Option<u16>,
    pub expect_body: Option<String>,
    /// It says who asks.
    pub authenticates: bool,
}

impl Question {
    /// The health check of an API of the catalogue.
    pub fn of(entry: Entry, server: Option<String>) -> Question {
        let url = format!("{}{}", entry.url, entry.health_check_endpoint.as_deref().unwrap_or_default());
        let [key, password] = secret_names(&entry.alias);
        let mut request = HttpRequest::new(entry.health_check_method.word(), url);
        if entry.auth_method.has_key() {
            let prefix = if entry.auth_scheme.is_empty() { String::new() } else { format!("{} ", entry.auth_scheme) };
            request = request.secret_header(entry.auth_header_name, prefix, key);
        }
        if let Some(user) = entry.htpasswd_user.filter(|_| entry.auth_method.has_password()) {
            request = request.basic_auth(user, password);
        }
        Question {
            alias: Some(entry.alias),
            authenticates: entry.auth_method.has_key() || entry.auth_method.has_password(),
            ..Question::new(request, server, entry.expect_status, entry.expect_body)
        }
    }

    /// The health of a bare URL.
    pub fn bare(url: String, server: String) -> Question {
        Question::new(HttpRequest::get(url), Some(server), None, None)
    }

    fn new(
        request: HttpRequest,
        server: Option<String>,
        expect_status: Option<u16>,
        expect_body: Option<String>,
    ) -> Question {
        // Whoever expects a redirect wants to see it.
        let redirects = if expect_status.is_some_and(|status| (300..400).contains(&status)) { 0 } else { REDIRECTS };
        let request =
            request.timeout(TIMEOUT).redirects(redirects).max_body(if expect_body.is_some() { SEARCHED } else { PEEK });
        let request = HttpRequest { via: server.clone(), ..request };
        Question { alias: None, server, request, expect_status, expect_body, authenticates: false }
    }

    /// As it is called in the answer.
    pub fn name(&self) -> String {
        self.alias.clone().unwrap_or_else(|| data::plain(&self.request.url))
    }
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Checked {
    #[schemars(skip)]
    pub alias: Option<String>,
    /// Where the answer came from, without the query.
    #[schemars(skip)]
    pub url: Option<String>,
    #[schemars(skip)]
    pub server_alias: Option<String>,
    pub status: Status,
    pub http_code: Option<u16>,
    /// Why it is not UP.
    pub reason: Option<String>,
    #[schemars(skip)]
    pub hint: Option<String>,
    pub response_time_ms: Option<f64>,
    #[schemars(skip)]
    pub resolve_ms: Option<f64>,
    pub connect_ms: Option<f64>,
    pub tls_ms: Option<f64>,
    pub first_byte_ms: Option<f64>,
    pub certificate_not_after: Option<String>,
    pub certificate_days: Option<i64>,
    #[schemars(skip)]
    pub http_version: Option<String>,
    #[schemars(skip)]
    pub redirects: Option<u8>,
    /// The beginning of the body, where something is wrong.
    #[schemars(skip)]
    pub body: Option<Vec<String>>,
    /// The code of the problem that kept it from being asked.
    #[schemars(skip)]
    pub code: Option<String>,
}

impl Checked {
    /// What an answer means. `now` is in seconds since 1970.
    pub fn answered(question: &Question, response: &HttpResponse, now: i64) -> Checked {
        let reason = wrong(question, response);
        let Timings { resolve_ms, connect_ms, tls_ms, first_byte_ms, total_ms } = response.timings;
        let body = reason.is_some().then(|| excerpt(&response.body_text())).filter(|lines| !lines.is_empty());
        Checked {
            alias: question.alias.clone(),
            url: Some(data::plain(&response.url)),
            server_alias: question.server.clone(),
            status: if reason.is_some() { Status::Down } else { Status::Up },
            http_code: Some(response.status),
            reason,
            response_time_ms: Some(rounded(total_ms)),
            resolve_ms: resolve_ms.map(rounded),
            connect_ms: Some(rounded(connect_ms)),
            tls_ms: tls_ms.map(rounded),
            first_byte_ms: Some(rounded(first_byte_ms)),
            http_version: Some(response.http_version.clone()),
            redirects: Some(response.redirects).filter(|count| *count > 0),
            body,
            ..Checked::default()
        }
        .with_certificate(response.certificate_not_after.as_deref(), now)
    }

    /// What it means that there is no answer.
    pub fn failed(question: &Question, problem: &Problem, now: i64) -> Checked {
        let detail = |name: &str| problem.details.get(name);
        let text = |name: &str| detail(name).and_then(|value| value.as_str()).map(data::plain);
        let down = detail("subject").is_some_and(|subject| subject == "target");
        Checked {
            alias: question.alias.clone(),
            url: text("url"),
            server_alias: question.server.clone(),
            status: if down { Status::Down } else { Status::Error },
            http_code: detail("http_code").and_then(|code| u16::try_from(code.as_u64()?).ok()),
            reason: Some(data::safe(&problem.message)),
            hint: problem.hint.clone(),
            response_time_ms: detail("elapsed_ms").and_then(|elapsed| elapsed.as_f64()).map(rounded),
            code: (!down).then(|| problem.code.clone()),
            ..Checked::default()
        }
        .with_certificate(text("certificate_not_after").as_deref(), now)
    }

    fn with_certificate(mut self, not_after: Option<&str>, now: i64) -> Checked {
        self.certificate_days = not_after.and_then(|text| Some(day_of(text)? - now.div_euclid(86_400)));
        self.certificate_not_after = not_after.map(data::plain);
        self
    }

    /// A warning about a certificate that will not hold for long. One that has expired is the reason already.
    pub fn expires_soon(&self) -> Option<String> {
        let (days, until) = (self.certificate_days?, self.certificate_not_after.as_deref()?);
        (0..SOON).contains(&days).then(|| format!("its certificate expires in {days} days ({until})"))
    }
}

/// Why an answer is not the one of a healthy API.
fn wrong(question: &Question, response: &HttpResponse) -> Option<String> {
    let status = response.status;
    let expected = match question.expect_status {
        Some(expected) => status == expected,
        None => (200..300).contains(&status),
    };
    if !expected {
        let wanted = question.expect_status.map_or_else(String::new, |expected| format!(" instead of {expected}"));
        return Some(format!("status {status}{wanted}{}", explanation(question, response)));
    }
    let wanted = question.expect_body.as_deref()?;
    if response.body_text().contains(wanted) {
        return None;
    }
    let where_ = if response.body_truncated { "the first MiB of the body" } else { "the body" };
    Some(format!("{:?} is not in {where_}", data::plain(wanted)))
}

/// What a status most likely means, where there is something to say.
fn explanation(question: &Question, response: &HttpResponse) -> String {
    match response.status {
        300..=399 if response.redirects >= REDIRECTS => format!(", after {REDIRECTS} redirects"),
        300..=399 => match response.header("location") {
            Some(location) => format!(", which leads to {}", data::safe(&location)),
            None => String::new(),
        },
        401 | 403 if !question.authenticates => ": it wants to know who asks, and no authentication is set".to_owned(),
        401 | 403 if response.redirects > 0 => {
            ": the key or password was not accepted, or not sent, since it stays with the first host".to_owned()
        }
        401 | 403 => ": the key or password was not accepted".to_owned(),
        404 => ": there is nothing at this path".to_owned(),
        502 | 504 => ": the proxy in front of it does not reach it".to_owned(),
        503 => ": it says that it is not available".to_owned(),
        _ => String::new(),
    }
}

/// The beginning of a body, line by line, each as it may be shown.
fn excerpt(body: &str) -> Vec<String> {
    let beginning = body.char_indices().nth(SHOWN).map_or(body, |(end, _)| body.get(..end).unwrap_or(body));
    let mut lines: Vec<String> = beginning.lines().take(SHOWN_LINES).map(data::safe).collect();
    if beginning.lines().count() > SHOWN_LINES || beginning.len() < body.len() {
        lines.push("…".to_owned());
    }
    lines
}

/// Tenths of a millisecond are enough for anybody.
fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 10.0).round() / 10.0
}

/// The day of a date (RFC 3339) since 1970, as in "chrono-Compatible Low-Level Date Algorithms" by Howard Hinnant.
fn day_of(text: &str) -> Option<i64> {
    let mut parts = text.get(..10)?.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of a year.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_so_many_days_after_1970() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(day_of(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T12:00:00Z", Some(11_016));
        check("2026-11-22T22:00:06Z", Some(20_779));
        check("2100-03-01T00:00:00Z", Some(47_541));
        check("2026-13-01", None);
        check("soon", None);
        check("", None);
    }

    #[test]
    fn a_body_is_shown_in_part_and_as_data() {
        assert_eq!(excerpt("a\x1b[2J\nb"), ["a\\x1b[2J", "b"]);
        assert_eq!(excerpt(""), [""; 0]);
        let many: String = (0..20).map(|line| format!("{line}\n")).collect();
        assert_eq!((excerpt(&many).len(), excerpt(&many).last().map(String::as_str)), (SHOWN_LINES + 1, Some("…")));
        assert_eq!(excerpt(&"ü".repeat(600)), ["ü".repeat(SHOWN), "…".to_owned()]);
    }
}
