//! The catalogue of HTTP APIs: which tools there are, and what they tell the model.
//!
//! What an entry may hold is said in `entry`. Nothing here talks to an API.

mod entry;

use orchestrator_sdk::prelude::*;
use orchestrator_sdk::serde_json::{Map, Value};

use entry::{Change, Entry};

/// The plugin.
pub struct Api;

impl Plugin for Api {
    fn describe() -> Description {
        Description::new("api", env!("CARGO_PKG_VERSION"), "A catalogue of HTTP APIs, with their keys sealed.")
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

#[cfg(test)]
mod tests;
