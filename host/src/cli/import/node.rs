//! What an entry of the Node project's files means here, as arguments of `server_add` or `api_add`. Pure.
//!
//! The files are those of version 11.8.0: an object by alias, secrets in plain text. What those tools check is not checked
//! here again.

use serde_json::{Map, Value, json};

use crate::secrets::Reference;

/// An entry that can be added.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub arguments: Map<String, Value>,
    /// In a few words, without secrets.
    pub shown: String,
    /// What is different here from there.
    pub notes: Vec<String>,
}

/// What a member is called here.
const SERVER_MEMBERS: [&str; 4] = ["host", "user", "keyPath", "password"];
/// The members of an API that are taken over as they are; the secrets are handled apart.
const API_MEMBERS: [&str; 8] = [
    "url",
    "health_check_endpoint",
    "health_check_method",
    "auth_method",
    "auth_header_name",
    "auth_scheme",
    "htpasswd_user",
    "notes",
];

/// A server of `servers.json`. `groups` is `server_groups.json`: lists of aliases by name.
pub fn server(alias: &str, entry: &Value, groups: &Map<String, Value>) -> Result<Entry, String> {
    let entry = entry.as_object().ok_or("is not a JSON object")?;
    let mut arguments = Map::from_iter([("alias".to_owned(), json!(alias))]);
    let mut notes = Vec::new();
    for name in SERVER_MEMBERS {
        if let Some(text) = text(entry, name)? {
            arguments.insert(name.to_owned(), json!(text));
        }
    }
    for name in ["host", "user"] {
        if !arguments.contains_key(name) {
            return Err(format!("has no {name}"));
        }
    }
    // There it is the password itself; here it would be a place to read from, or even a command to run.
    if text(entry, "password")?.is_some_and(Reference::looks_like_one) {
        return Err("its password begins like a reference (env:, file: or cmd:); add this server by hand".to_owned());
    }
    let port = port(entry);
    arguments.insert("port".to_owned(), json!(port));
    let mut tags: Vec<&str> = groups
        .iter()
        .filter(|(_, members)| members.as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(alias))))
        .map(|(group, _)| group.as_str())
        .collect();
    if entry.get("readonly").or_else(|| entry.get("readOnly")).and_then(Value::as_bool) == Some(true) {
        tags.push("readonly");
        notes.push(
            "it was marked read-only there; here it has the tag `readonly`, which does not forbid anything: \
             log in as a user who may only read"
                .to_owned(),
        );
    }
    if !tags.is_empty() {
        arguments.insert("tags".to_owned(), json!(tags));
    }
    let logins: Vec<&str> = [("keyPath", "key"), ("password", "password")]
        .iter()
        .filter(|(name, _)| arguments.contains_key(*name))
        .map(|(_, kind)| *kind)
        .collect();
    if logins.is_empty() {
        return Err("has neither keyPath nor password".to_owned());
    }
    let part = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let shown = format!("{}@{}:{port} ({})", part("user"), part("host"), logins.join(", "));
    Ok(Entry { arguments, shown, notes })
}

/// The port as the Node project reads it: whatever is none means 22.
fn port(entry: &Map<String, Value>) -> u16 {
    let number = match entry.get("port") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0).unwrap_or(22)
}

/// An API of `apis.json`.
pub fn api(alias: &str, entry: &Value) -> Result<Entry, String> {
    let entry = entry.as_object().ok_or("is not a JSON object")?;
    let mut arguments = Map::from_iter([("alias".to_owned(), json!(alias))]);
    let mut notes = Vec::new();
    for name in API_MEMBERS {
        // An empty auth_scheme says that there is none; everything else that is empty says nothing.
        match entry.get(name) {
            Some(Value::String(scheme)) if name == "auth_scheme" => {
                arguments.insert(name.to_owned(), json!(scheme));
            }
            _ => {
                if let Some(text) = text(entry, name)? {
                    arguments.insert(name.to_owned(), json!(text));
                }
            }
        }
    }
    let method = arguments.get("auth_method").and_then(Value::as_str).unwrap_or("none").to_owned();
    let uses = [("api_key", ["api_key", "both"]), ("htpasswd_pass", ["htpasswd", "both"])];
    for (name, methods) in uses {
        match text(entry, name)? {
            Some(secret) if methods.contains(&method.as_str()) => {
                arguments.insert(name.to_owned(), json!(secret));
            }
            Some(_) => notes.push(format!("its {name} was left out: auth_method {method} does not use it")),
            None => {}
        }
    }
    let url = arguments.get("url").and_then(Value::as_str).ok_or("has no url")?;
    // A password in the address is refused by the tool; it must not be shown by us either.
    let shown = format!("{}, authentication: {method}", url.rsplit('@').next().unwrap_or_default());
    Ok(Entry { arguments, shown, notes })
}

/// A text that says something.
fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("its {name} is not a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(entry: Result<Entry, String>) -> Value {
        Value::Object(entry.unwrap().arguments)
    }

    #[test]
    fn a_server_keeps_what_it_has_and_gets_its_groups_as_tags() {
        let groups = json!({"prod": ["web", "db"], "lab": ["old"]}).as_object().unwrap().clone();
        let entry = json!({"host": "192.0.2.7", "user": "deploy", "keyPath": "/k", "password": "p w", "port": "2222",
            "readonly": true});
        let imported = server("web", &entry, &groups).unwrap();
        assert_eq!(imported.shown, "deploy@192.0.2.7:2222 (key, password)");
        assert_eq!(imported.notes.len(), 1);
        assert_eq!(
            Value::Object(imported.arguments),
            json!({"alias": "web", "host": "192.0.2.7", "user": "deploy", "keyPath": "/k", "password": "p w",
                "port": 2222, "tags": ["prod", "readonly"]})
        );
    }

    #[test]
    fn a_port_that_is_none_means_22_as_it_did_there() {
        for port in [json!(null), json!(""), json!(0), json!(70000), json!("ssh"), json!([22])] {
            let entry = json!({"host": "h", "user": "u", "password": "p", "port": port});
            assert_eq!(added(server("a", &entry, &Map::new()))["port"], 22, "{entry}");
        }
    }

    #[test]
    fn a_password_that_looks_like_a_reference_is_never_followed() {
        for password in ["cmd:id", "file:/etc/passwd", "env:HOME"] {
            let entry = json!({"host": "h", "user": "u", "password": password});
            let why = server("a", &entry, &Map::new()).unwrap_err();
            assert!(why.contains("reference") && !why.contains(password), "{why}");
        }
    }

    #[test]
    fn an_entry_that_says_too_little_or_nonsense_is_refused_with_the_reason() {
        let check = |entry: Value, expected: &str| {
            let why = server("a", &entry, &Map::new()).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(json!("text"), "JSON object");
        check(json!({"user": "u", "password": "p"}), "no host");
        check(json!({"host": "h", "user": "", "password": "p"}), "no user");
        check(json!({"host": "h", "user": "u"}), "neither keyPath nor password");
        check(json!({"host": "h", "user": "u", "password": 7}), "password is not a text");
    }

    #[test]
    fn an_api_keeps_the_secrets_that_its_way_to_authenticate_uses() {
        let entry = json!({"url": "https://a.example", "auth_method": "api_key", "auth_scheme": "", "api_key": "k",
            "htpasswd_pass": "unused", "health_check_endpoint": "", "notes": "n"});
        let imported = api("a", &entry).unwrap();
        assert_eq!(imported.notes, ["its htpasswd_pass was left out: auth_method api_key does not use it"]);
        assert_eq!(imported.shown, "https://a.example, authentication: api_key");
        assert_eq!(
            Value::Object(imported.arguments),
            json!({"alias": "a", "url": "https://a.example", "auth_method": "api_key", "auth_scheme": "", "api_key": "k",
                "notes": "n"})
        );
        let shown = api("a", &json!({"url": "https://u:secret@a.example"})).unwrap().shown;
        assert!(!shown.contains("secret"), "{shown}");
        assert!(api("a", &json!({})).unwrap_err().contains("url"));
    }
}
