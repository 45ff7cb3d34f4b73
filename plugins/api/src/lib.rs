//! The catalogue of HTTP APIs and their health: which tools there are, and what they ask the host for.
//!
//! What an entry may hold is said in `entry`, what an answer means in `check`, how it is told in `report`.

mod check;
mod entry;
mod report;

use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

use check::{Checked, Question};
use entry::{Change, Entry};
use report::Report;

/// The plugin.
pub struct Api;

impl Plugin for Api {
    fn describe() -> Description {
        Description::new("api", env!("CARGO_PKG_VERSION"), "A catalogue of HTTP APIs, with their keys sealed, and health checks of them.")
            .tool(
                Tool::new(
                    "api_add",
                    "Add an API",
                    "Adds an HTTP API to the catalogue or changes given fields. Secrets are sealed and never shown; another \
                     host needs them again.",
                    api_add,
                )
                .additive()
                .idempotent()
                .closed_world()
                .direct(),
            )
            .tool(
                Tool::new("api_list", "List APIs", "The catalogue, without secrets.", api_list)
                    .read_only()
                    .closed_world()
                    .direct(),
            )
            .tool(
                Tool::new("api_remove", "Remove an API", "Removes an API and its secrets.", api_remove)
                    .idempotent()
                    .closed_world()
                    .direct(),
            )
            .tool(
                Tool::new(
                    "api_check",
                    "Check APIs",
                    "Health of an API of the catalogue, or of all: UP, DOWN or ERROR with the reason, times, certificate.",
                    api_check,
                )
                .read_only()
                .server_argument("server_alias"),
            )
            .tool(
                Tool::new(
                    "check_api_health",
                    "Check a URL",
                    "The same for a bare URL, asked from a server; nothing is installed there.",
                    check_api_health,
                )
                .read_only()
                .server_argument("alias"),
            )
            .wants_servers("*", "A check can be made from any server.")
            .wants_http(&["GET", "*", "private", "loopback"], "Health checks; many services listen on inner addresses.")
            .wants_http(&["HEAD", "*", "private", "loopback"], "The same, for entries that say so.")
            .wants_http(&["POST", "*", "private", "loopback"], "The same; the body is empty.")
    }
}

export!(Api);

/// Where the entry of an alias is kept.
const ENTRIES: &str = "entry/";

fn entry_key(alias: &str) -> String {
    format!("{ENTRIES}{alias}")
}

/// The secrets that an entry may have, by the names that they are sealed under.
fn secret_names(alias: &str) -> [String; 2] {
    [format!("{alias}/api_key"), format!("{alias}/htpasswd_pass")]
}

/// What was done with an entry.
#[derive(Serialize, JsonSchema)]
struct Added {
    created: bool,
    #[schemars(with = "Map<String, Value>")]
    api: Entry,
}

/// Secrets are stored before the entry that uses them, and deleted when no entry does: an entry never lacks one that it needs.
fn api_add(host: &dyn Host, mut change: Change) -> Result<Output<Added>, Problem> {
    entry::check_alias(&change.alias)?;
    let alias = change.alias.clone();
    let old = host.kv_json::<Entry>(&entry_key(&alias))?;
    let [key, password] = secret_names(&alias);
    // Secrets without an entry are left over from a removal that did not come to its end: they count for nothing.
    let kept = entry::Kept {
        api_key: old.is_some() && host.secret_exists(&key)?,
        htpasswd_pass: old.is_some() && host.secret_exists(&password)?,
    };
    let given = entry::Kept { api_key: change.api_key.is_some(), htpasswd_pass: change.htpasswd_pass.is_some() };
    for (argument, secret) in [("api_key", &change.api_key), ("htpasswd_pass", &change.htpasswd_pass)] {
        if let Some(secret) = secret {
            entry::check_secret(argument, secret)?;
        }
    }
    let secrets = [(key, change.api_key.take()), (password, change.htpasswd_pass.take())];
    let created = old.is_none();
    let entry = change.apply(old, kept, given)?;
    let wanted = [entry.auth_method.has_key(), entry.auth_method.has_password()];
    for ((name, secret), wanted) in secrets.iter().zip(wanted) {
        match secret {
            Some(secret) => host.secret_put(name, secret)?,
            None if !wanted || created => {
                host.secret_delete(name)?;
            }
            None => {}
        }
    }
    host.kv_set_json(&entry_key(&alias), &entry)?;
    let done = if created { "Added" } else { "Changed" };
    Ok(Output::new(format!("{done} {}", entry.line()), Added { created, api: entry }))
}

#[derive(Serialize, JsonSchema)]
struct Catalogue {
    #[schemars(with = "Vec<Map<String, Value>>")]
    apis: Vec<Entry>,
}

fn api_list(host: &dyn Host, _: NoArguments) -> Result<Output<Catalogue>, Problem> {
    let mut apis = Vec::new();
    for key in host.kv_list(ENTRIES)? {
        apis.extend(host.kv_json::<Entry>(&key)?);
    }
    let lines: Vec<String> = apis.iter().map(Entry::line).collect();
    let text = if lines.is_empty() { "No APIs yet; api_add adds one.".to_owned() } else { lines.join("\n") };
    Ok(Output::new(text, Catalogue { apis }))
}

#[derive(Deserialize, JsonSchema)]
struct Alias {
    /// Name.
    alias: String,
}

#[derive(Serialize, JsonSchema)]
struct Removed {
    alias: String,
}

/// The secrets go first: should the rest not come to its end, the entry is still listed and can be removed again.
fn api_remove(host: &dyn Host, arguments: Alias) -> Result<Output<Removed>, Problem> {
    let alias = arguments.alias;
    entry::check_alias(&alias)?;
    for name in secret_names(&alias) {
        host.secret_delete(&name)?;
    }
    if !host.kv_delete(&entry_key(&alias))? {
        let message = format!("`alias`: there is no API {alias:?} in the catalogue");
        return Err(Problem::invalid(message).detail("alias", alias).hint("api_list shows those that there are."));
    }
    Ok(Output::new(format!("Removed {alias} and its secrets."), Removed { alias }))
}

#[derive(Deserialize, JsonSchema)]
struct Which {
    /// Default: all.
    alias: Option<String>,
    /// Ask from this server.
    server_alias: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Place {
    /// The server's alias.
    alias: String,
    /// http:// or https://.
    url: String,
}

/// The host sends so many requests at once.
const AT_ONCE: usize = 32;

fn api_check(host: &dyn Host, which: Which) -> Result<Output<Report>, Problem> {
    let Which { alias, server_alias } = which;
    if let Some(alias) = alias {
        let Some(entry) = host.kv_json::<Entry>(&entry_key(&alias))? else {
            let message = format!("`alias`: there is no API {alias:?} in the catalogue");
            return Err(Problem::invalid(message).detail("alias", alias).hint("api_list shows those that there are."));
        };
        return check_one(host, Question::of(entry, server_alias));
    }
    if let Some(server) = &server_alias {
        // An unknown one is told once, and not for each API.
        host.server(server)?;
    }
    let mut questions = Vec::new();
    for key in host.kv_list(ENTRIES)? {
        questions.extend(host.kv_json::<Entry>(&key)?.map(|entry| Question::of(entry, server_alias.clone())));
    }
    if questions.is_empty() {
        return Err(Problem::invalid("there are no APIs in the catalogue yet").hint("api_add adds one."));
    }
    let mut checks = Vec::new();
    for some in questions.chunks(AT_ONCE) {
        let answers = host.http_send_all(some.iter().map(|question| question.request.clone()).collect());
        for (question, answer) in some.iter().zip(answers) {
            let check = match answer {
                Ok(response) => Checked::answered(question, &response, now()),
                Err(problem) => Checked::failed(question, &problem, now()),
            };
            checks.push((question.name(), check));
        }
        host.report(checks.len() as f64, Some(questions.len() as f64), None);
    }
    Ok(Report::all(server_alias, checks))
}

fn check_api_health(host: &dyn Host, place: Place) -> Result<Output<Report>, Problem> {
    check_one(host, Question::bare(place.url, place.alias))
}

/// What the caller or the operator has to change is a problem of the call; everything else is the result of the check.
fn check_one(host: &dyn Host, question: Question) -> Result<Output<Report>, Problem> {
    let name = question.name();
    match host.http_send(question.request.clone()) {
        Ok(response) => Ok(Report::one(&name, Checked::answered(&question, &response, now()))),
        Err(problem) => match problem.code.as_str() {
            "INVALID_ARGUMENT" | "SERVER_NOT_FOUND" | "NOT_GRANTED" | "POLICY_DENIED" | "CANCELLED" => Err(problem),
            _ => Ok(Report::one(&name, Checked::failed(&question, &problem, now()))),
        },
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod tests;
