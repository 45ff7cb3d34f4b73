//! Checks as the model reads them: what is wrong first, each API in a line, the details only where there is one.
//! Nothing is decided here.

use std::fmt::Write;

use orchestrator_sdk::data;
use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

use crate::check::{Checked, Status};

/// What `api_check` and `check_api_health` answer: one check, or all of them with the worst status on top.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Report {
    #[serde(flatten)]
    pub check: Checked,
    /// Every API, those with something wrong first. The schema does not go deeper, to be short.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Map<String, Value>>")]
    pub apis: Vec<Checked>,
}

impl Report {
    pub fn one(name: &str, check: Checked) -> Output<Report> {
        let is_error = check.status == Status::Error;
        Output::new(in_full(name, &check), Report { check, apis: Vec::new() }).error(is_error)
    }

    /// `checks` come with the names of their APIs. Only that nothing could be asked is an error of the call.
    pub fn all(server: Option<String>, mut checks: Vec<(String, Checked)>) -> Output<Report> {
        let rank = |status: Status| match status {
            Status::Error => 0,
            Status::Down => 1,
            Status::Up => 2,
        };
        checks.sort_by_key(|(_, check)| (rank(check.status), check.expires_soon().is_none()));
        let count = |status: Status| checks.iter().filter(|(_, check)| check.status == status).count();
        let (up, down, errors) = (count(Status::Up), count(Status::Down), count(Status::Error));
        let from = server.as_deref().map_or_else(String::new, |server| format!(" as seen from {server}"));
        let are = if down == 1 { "is" } else { "are" };
        let mut text = match (down, errors) {
            (0, 0) if up == 1 => format!("the only API is UP{from}"),
            (0, 0) => format!("all {up} APIs are UP{from}"),
            (1, 0) if checks.len() == 1 => format!("the only API is DOWN{from}"),
            (0, 1) if checks.len() == 1 => format!("the only API could not be checked{from}"),
            (down, 0) => format!("{down} of {} APIs {are} DOWN{from}", checks.len()),
            (0, errors) => format!("{errors} of {} APIs could not be checked{from}", checks.len()),
            (down, errors) => {
                format!("{down} of {} APIs {are} DOWN, {errors} could not be checked{from}", checks.len())
            }
        };
        for (name, check) in &checks {
            text.push_str(&format!("\n{}", in_a_line(name, check)));
        }
        let worst = checks.iter().map(|(_, check)| check.status).max_by_key(|status| match status {
            // An API that is down matters more than one that could not be asked.
            Status::Down => 2,
            Status::Error => 1,
            Status::Up => 0,
        });
        let check = Checked { status: worst.unwrap_or_default(), server_alias: server, ..Checked::default() };
        let is_error = errors == checks.len();
        Output::new(text, Report { check, apis: checks.into_iter().map(|(_, check)| check).collect() }).error(is_error)
    }
}

fn in_a_line(name: &str, check: &Checked) -> String {
    let (mark, status) = (if check.status == Status::Up { "" } else { "! " }, check.status.word());
    let mut line = format!("{mark}{name} {status}");
    match (&check.reason, check.http_code) {
        (Some(reason), _) => line.push_str(&format!(": {reason}")),
        (None, Some(code)) => line.push_str(&format!(": {code}")),
        (None, None) => {}
    }
    if let Some(total) = check.response_time_ms.filter(|_| check.status == Status::Up) {
        line.push_str(&format!(" in {total} ms"));
    }
    if let Some(warning) = check.expires_soon() {
        line.push_str(&format!("; {warning}"));
    }
    line
}

fn in_full(name: &str, check: &Checked) -> String {
    let mut text = format!("{name} is {}", check.status.word());
    if let Some(reason) = &check.reason {
        text.push_str(&format!(": {reason}"));
    }
    let from = check.server_alias.as_deref().unwrap_or("here");
    // Writing to a string cannot fail.
    if let (Some(url), Some(total)) = (&check.url, check.response_time_ms) {
        let code = check.http_code.map_or_else(|| "no answer".to_owned(), |code| code.to_string());
        let _ = write!(text, "\n{code} from {url} in {total} ms, asked from {from}");
    }
    if let Some(redirects) = check.redirects {
        let _ = write!(text, ", after {redirects} redirects");
    }
    if let (Some(connect), Some(first_byte)) = (check.connect_ms, check.first_byte_ms) {
        let tls = check.tls_ms.map_or_else(String::new, |tls| format!(", TLS {tls} ms"));
        let version = check.http_version.as_deref().unwrap_or("HTTP");
        let _ = write!(text, "\n{version}: connected in {connect} ms{tls}, first byte after {first_byte} ms");
    }
    match (check.expires_soon(), &check.certificate_not_after, check.certificate_days) {
        (Some(warning), ..) => text.push_str(&format!("\n! {warning}")),
        (None, Some(until), Some(days)) if days >= 0 => {
            text.push_str(&format!("\ncertificate valid until {until} ({days} days)"));
        }
        _ => {}
    }
    if let Some(hint) = &check.hint {
        text.push_str(&format!("\n{hint}"));
    }
    if let Some(body) = &check.body {
        text.push_str(&format!("\n{}", data::block(&format!("body of {name}"), "its beginning", body)));
    }
    text
}
