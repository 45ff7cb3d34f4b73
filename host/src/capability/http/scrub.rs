//! An answer that repeats a secret of its request loses it before anybody sees the answer. Pure.
//!
//! A guest chooses where its secrets are sent. To one that asks a server which echoes headers, the host would hand back what
//! it keeps from it. A secret in a form that the other side made up (hashed, reversed) is not found.

use crate::http::{HeaderMap, HeaderValue};

const MASK: &[u8] = b"[secret]";
/// Shorter secrets are left: they would be found everywhere, and there is nothing secret about so few letters.
const SHORTEST: usize = 4;

/// The bytes with each secret masked, also one that is cut at the end.
pub fn bytes(text: Vec<u8>, secrets: &[&[u8]]) -> Vec<u8> {
    // The longest first: one may hold another.
    let mut secrets: Vec<&[u8]> = secrets.iter().copied().filter(|secret| secret.len() >= SHORTEST).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text, mask)
}

/// The headers with each secret masked.
pub fn headers(headers: HeaderMap, secrets: &[&[u8]]) -> HeaderMap {
    if secrets.is_empty() {
        return headers;
    }
    let mut kept = HeaderMap::new();
    for (name, value) in &headers {
        let value = HeaderValue::from_bytes(&bytes(value.as_bytes().to_vec(), secrets));
        kept.append(name, value.unwrap_or_else(|_| HeaderValue::from_static("[secret]")));
    }
    kept
}

fn mask(text: Vec<u8>, secret: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some((first, after)) = rest.split_first() {
        // Its beginning at the very end counts, where the body was cut.
        let cut = rest.len() >= SHORTEST && secret.starts_with(rest);
        if cut {
            kept.extend_from_slice(MASK);
            return kept;
        }
        match rest.strip_prefix(secret) {
            Some(after) => {
                kept.extend_from_slice(MASK);
                rest = after;
            }
            None => {
                kept.push(*first);
                rest = after;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_wherever_it_is_repeated() {
        let check = |text: &str, secrets: &[&str], expected: &str| {
            let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
            assert_eq!(String::from_utf8(bytes(text.into(), &secrets)).unwrap(), expected);
        };
        check("key hunter2, again hunter2.", &["hunter2"], "key [secret], again [secret].");
        check("nothing here", &["hunter2"], "nothing here");
        check("Basic YW5uOmh1bnRlcjI=", &["hunter2", "YW5uOmh1bnRlcjI="], "Basic [secret]");
        check("hunter2-long and hunter2", &["hunter2", "hunter2-long"], "[secret] and [secret]");
        check("the end is hunt", &["hunter2"], "the end is [secret]");
        check("a pin of 123", &["123"], "a pin of 123");
        check("", &["hunter2"], "");
    }

    #[test]
    fn headers_are_masked_and_keep_their_number() {
        let mut given = HeaderMap::new();
        given.append("x-echo", "Bearer hunter2".parse().unwrap());
        given.append("x-echo", "two".parse().unwrap());
        let kept = headers(given, &[b"hunter2"]);
        let values: Vec<_> = kept.get_all("x-echo").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["Bearer [secret]", "two"]);
    }
}
