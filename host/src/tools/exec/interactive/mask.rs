//! Keeps secrets out of what a command prints, also where one arrives in pieces. Pure.
//!
//! A terminal does not show what is typed at a password prompt, but a program may print it, and a model must not read it.

use crate::secrets::Secret;

/// What stands in a secret's place.
const SHOWN: &[u8] = b"[secret]";
/// Shorter ones stand in too much of every output by chance.
const SHORTEST: usize = 3;

/// Replaces secrets in a stream.
#[derive(Debug, Default)]
pub struct Mask {
    secrets: Vec<Secret>,
    /// The end of the stream so far, while it may be the beginning of a secret; shorter than the longest one.
    held: Vec<u8>,
}

impl Mask {
    /// From now on this is not shown.
    pub fn hide(&mut self, secret: &Secret) {
        if secret.expose().len() >= SHORTEST && !self.secrets.contains(secret) {
            self.secrets.push(secret.clone());
            // The longer one first: a secret may begin like another.
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        }
    }

    /// What can be shown once `bytes` have arrived.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        self.replace(&all, false)
    }

    /// What was held back, once no more can arrive.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.replace(&held, true)
    }

    /// A text that is complete.
    pub fn text(&self, text: &str) -> String {
        let mut mask = Mask { secrets: self.secrets.clone(), held: Vec::new() };
        String::from_utf8_lossy(&mask.replace(text.as_bytes(), true)).into_owned()
    }

    fn replace(&mut self, mut rest: &[u8], complete: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            if !complete && self.may_become_one(rest) {
                self.held = rest.to_vec();
                break;
            }
            let length = match self.whole(rest) {
                Some(length) => {
                    shown.extend_from_slice(SHOWN);
                    length
                }
                None => {
                    shown.extend(rest.first());
                    1
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        shown
    }

    /// The length of the secret that stands at the beginning.
    fn whole(&self, bytes: &[u8]) -> Option<usize> {
        let found = self.secrets.iter().find(|secret| bytes.starts_with(secret.expose().as_bytes()))?;
        Some(found.expose().len())
    }

    /// Whether more bytes could make a secret of all of these.
    fn may_become_one(&self, bytes: &[u8]) -> bool {
        self.secrets
            .iter()
            .map(|secret| secret.expose().as_bytes())
            .any(|secret| secret.len() > bytes.len() && secret.starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(secrets: &[&str], input: &str, expected: &str) {
        for size in 1..=input.len().max(1) {
            let mut mask = Mask::default();
            secrets.iter().for_each(|secret| mask.hide(&Secret::new(*secret)));
            let mut shown = Vec::new();
            for chunk in input.as_bytes().chunks(size) {
                shown.extend(mask.push(chunk));
            }
            shown.extend(mask.finish());
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "{input:?} in pieces of {size}");
            assert_eq!(mask.text(input), expected);
        }
    }

    #[test]
    fn a_secret_is_not_shown_however_it_arrives() {
        check(&["hunter2"], "the password is hunter2.\n", "the password is [secret].\n");
        check(&["hunter2"], "hunter2hunter2", "[secret][secret]");
        check(&["abcabd"], "abcabcabd abca", "abc[secret] abca");
        check(&["päss"], "a päss b", "a [secret] b");
        check(&["abc", "abcdef"], "abcdef abc", "[secret] [secret]");
    }

    #[test]
    fn without_secrets_nothing_changes() {
        check(&[], "hunter2", "hunter2");
        check(&["", "a", "ab"], "a ab", "a ab");
    }
}
