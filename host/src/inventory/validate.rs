//! What a server may look like. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use super::{InventoryError, Jump, Server};
use crate::config::Proxy;

/// Aliases that mean something else where an alias is expected.
const RESERVED: &[&str] = &["all"];

/// Letters, digits, `.`, `_` and `-`, at most 64, the first one a letter or digit.
pub(super) fn is_alias(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'))
}

/// Something that a resolver or a parser of addresses can take, and no program could take for an option.
pub(super) fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && text.chars().all(|char| char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '%'))
}

pub(super) fn is_user(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && !text.chars().any(|char| char.is_whitespace() || char.is_control() || matches!(char, '@' | ':' | '/'))
}

fn is_tag(text: &str) -> bool {
    is_alias(text)
}

/// `SHA256:` and 32 bytes in base 64 without padding, as OpenSSH prints it.
fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|digest| {
        data_encoding::BASE64_NOPAD.decode(digest.as_bytes()).is_ok_and(|bytes| bytes.len() == 32)
    })
}

/// Checks a server as it would be stored. `find` looks up the others.
pub(super) fn server(server: &Server, find: impl Fn(&str) -> Option<Arc<Server>>) -> Result<(), InventoryError> {
    let invalid = |field, message: String| Err(InventoryError::Invalid { field, message });
    let alias = &server.alias;
    if !is_alias(alias) {
        return invalid(
            "alias",
            format!("{alias:?} must be 1 to 64 letters, digits, '.', '_' or '-', the first one a letter or digit"),
        );
    }
    if RESERVED.contains(&alias.to_ascii_lowercase().as_str()) {
        return invalid("alias", format!("{alias:?} is reserved: it means every server"));
    }
    if !is_host(&server.host) {
        return invalid("host", format!("{:?} is not a host name or address", server.host));
    }
    if !is_user(&server.user) {
        return invalid("user", format!("{:?} is not a user name", server.user));
    }
    if let Some(tag) = server.tags.iter().find(|tag| !is_tag(tag)) {
        return invalid("tags", format!("{tag:?} must be 1 to 64 letters, digits, '.', '_' or '-'"));
    }
    if let Some(key) = server.host_key.as_ref().filter(|key| !is_fingerprint(key)) {
        return invalid(
            "hostKey",
            format!("{key:?} is not a fingerprint: write SHA256: and 43 characters, as `ssh-keygen -lf` prints it"),
        );
    }
    let proxy = match server.proxy.as_deref().map(str::parse::<Proxy>).transpose() {
        Ok(proxy) => proxy,
        Err(wrong) => return invalid("proxy", wrong.to_owned()),
    };
    match (proxy.as_ref().and_then(Proxy::user), &server.proxy_password) {
        (Some(user), None) => {
            return invalid(
                "proxyPassword",
                format!("the user {user:?} in proxy needs it, again where proxy is changed"),
            );
        }
        (None, Some(_)) => {
            return invalid("proxyPassword", "it belongs to a user in proxy: socks5://USER@host:port".to_owned());
        }
        _ => {}
    }
    if server.passphrase.is_some() && server.key_paths.is_empty() {
        return invalid("passphrase", "it belongs to a private key, so keyPath is needed too".to_owned());
    }
    if server.auth_kinds().is_empty() {
        return invalid("keyPath", "give at least one way to log in: keyPath, password or agent".to_owned());
    }
    jump(server, find)
}

fn jump(server: &Server, find: impl Fn(&str) -> Option<Arc<Server>>) -> Result<(), InventoryError> {
    let invalid = |message: String| Err(InventoryError::Invalid { field: "jump", message });
    let mut seen = HashSet::from([server.alias.clone()]);
    let mut next = server.jump.clone();
    while let Some(text) = next {
        match text.parse() {
            Err(message) => return invalid(message),
            Ok(Jump::Address { .. }) => return Ok(()),
            Ok(Jump::Alias(alias)) if alias == server.alias => {
                return invalid(format!("{alias} would be reached through itself"));
            }
            Ok(Jump::Alias(alias)) => {
                let Some(found) = find(&alias) else {
                    return invalid(format!("there is no server {alias:?}: add it first, or write user@host:port"));
                };
                if !seen.insert(alias.clone()) {
                    return invalid(format!("{alias} would be reached through itself"));
                }
                next = found.jump.clone();
            }
        }
    }
    Ok(())
}
