//! OpenSSH's `known_hosts` format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which lines are about a host, and which keys they hold.
//!
//! Pure: no file is read here and nothing is decided about trust.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{PublicKey, parse_public_key_base64};
use sha1::Sha1;

/// What stands in front of the host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    None,
    /// The key signs host certificates; it is not a host's own key.
    CertAuthority,
    /// The key must never be accepted.
    Revoked,
}

/// One line that is about the host that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    pub marker: Marker,
    pub key: PublicKey,
}

/// The name under which a server is written down: the host alone on port 22, else `[host]:port`; in small letters.
pub fn lookup_name(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// The lines of `text` that are about `name` (see [`lookup_name`]). Comments and lines that cannot be read are skipped: one
/// bad line must not take the others away.
pub fn find(text: &str, name: &str) -> Vec<Line> {
    text.lines().enumerate().filter_map(|(index, line)| parse(line, name).map(|(marker, key)| Line { number: index + 1, marker, key })).collect()
}

fn parse(line: &str, name: &str) -> Option<(Marker, PublicKey)> {
    let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
    let first = words.next()?;
    if first.starts_with('#') {
        return None;
    }
    let (marker, hosts) = match first {
        "@cert-authority" => (Marker::CertAuthority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        // A marker of a later OpenSSH: what it means is not known, so the line says nothing.
        unknown if unknown.starts_with('@') => return None,
        hosts => (Marker::None, hosts),
    };
    if !matches(hosts, name) {
        return None;
    }
    let kind = words.next()?;
    let key = parse_public_key_base64(words.next()?.trim_end_matches('\r')).ok()?;
    // The name of the type must be that of the key, as in ssh-keygen: a line that contradicts itself is no line.
    (key.algorithm().as_str() == kind).then_some((marker, key))
}

/// Whether the host field of a line is about `name`: a hashed name, or patterns of which none that is negated matches.
fn matches(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return matches_hashed(hashed, name);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if glob(negated.to_ascii_lowercase().as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        }
    }
    found
}

/// `salt|hash`, both base64, of the HMAC-SHA1 of the name under the salt.
fn matches_hashed(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (BASE64.decode(salt.as_bytes()), BASE64.decode(hash.as_bytes())) else { return false };
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.chain_update(name.as_bytes()).verify_slice(&hash).is_ok()
}

/// `*` is any run of characters, also none; `?` is exactly one. Backtracks to the last star only, so that it takes at most
/// pattern × name steps whatever the file holds.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if wanted == byte || *wanted == b'?' => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}
