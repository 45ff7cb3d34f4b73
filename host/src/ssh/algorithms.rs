//! What is offered to a server for agreement (RFC 4253, 7.1): safe algorithms, the fast ones first, and behind them those old
//! ones that the operator allows for it.

use std::borrow::Cow;

use russh::keys::Algorithm;
use russh::{Preferred, cipher, kex, mac};

use super::host_key::{Known, fingerprint};
use super::known_hosts::Marker;

/// A signature with SHA-1, which proves nothing any more: a key of a host, and one of ours for a server that knows no better.
pub const SSH_RSA: &str = "ssh-rsa";

/// All that is offered to one server, of which `known` is what known_hosts say about it.
pub fn preferred(pin: Option<&str>, known: &[Known], legacy: &[String]) -> Preferred {
    let mut keys = host_keys(pin, known);
    if legacy.iter().any(|name| name == SSH_RSA) {
        keys.push(Algorithm::Rsa { hash: None });
    }
    let mut ciphers = ciphers();
    ciphers.extend(legacy.iter().filter_map(|name| cipher::Name::try_from(name.as_str()).ok()));
    let mut macs = Preferred::DEFAULT.mac.to_vec();
    macs.extend(legacy.iter().filter_map(|name| mac::Name::try_from(name.as_str()).ok()));
    Preferred {
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates(pin, known)),
        kex: Cow::Owned(exchanges(legacy)),
        cipher: Cow::Owned(ciphers),
        mac: Cow::Owned(macs),
        // Compression costs more time than it saves on what commands print.
        compression: Cow::Borrowed(&[russh::compression::NONE]),
    }
}

/// The host-key algorithms to ask for: those of which a key is known first, because the server shows its key of the first
/// one that it has. With a pin the known key with that fingerprint goes first.
fn host_keys(pin: Option<&str>, known: &[Known]) -> Vec<Algorithm> {
    let wanted = |algorithm: &Algorithm| {
        known.iter().any(|entry| {
            entry.line.marker == Marker::None
                && same_key_type(&entry.line.key.algorithm(), algorithm)
                && pin.is_none_or(|pin| pin.trim().trim_end_matches('=') == fingerprint(&entry.line.key))
        })
    };
    // SHA-1 signatures prove nothing any more, so the last of the library's list, plain ssh-rsa, is left out.
    let all = Preferred::DEFAULT.key.iter().filter(|algorithm| **algorithm != Algorithm::Rsa { hash: None });
    let (mut first, rest): (Vec<Algorithm>, Vec<Algorithm>) = all.cloned().partition(wanted);
    first.extend(rest);
    first
}

/// The host-key algorithms of which a certificate is asked for, before all plain keys: all of them where an authority is known
/// for the host, else none.
fn certificates(pin: Option<&str>, known: &[Known]) -> Vec<Algorithm> {
    match pin.is_none() && known.iter().any(|entry| entry.line.marker == Marker::CertAuthority) {
        true => host_keys(None, &[]),
        false => Vec::new(),
    }
}

/// An RSA key serves several signature algorithms.
fn same_key_type(key: &Algorithm, algorithm: &Algorithm) -> bool {
    match (key, algorithm) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        _ => key == algorithm,
    }
}

/// The library's, and those on the curves of NIST, which it leaves out: OpenSSH offers them too, and a server that has to
/// follow FIPS may know no others that are as fast.
fn exchanges(legacy: &[String]) -> Vec<kex::Name> {
    let mut all = Preferred::DEFAULT.kex.to_vec();
    let behind = all.iter().position(|name| *name == kex::CURVE25519_PRE_RFC_8731).map_or(0, |at| at + 1);
    all.splice(behind..behind, [kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521]);
    // What is not an exchange (`ext-info-c`) may stand anywhere.
    all.extend(legacy.iter().filter_map(|name| kex::Name::try_from(name.as_str()).ok()));
    all
}

fn ciphers() -> Vec<cipher::Name> {
    let mut ciphers = vec![
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_192_CTR,
        cipher::AES_128_CTR,
    ];
    // With instructions for it AES-GCM is a third faster than ChaCha20; without them it is slower and leaks timing.
    ciphers.insert(if cpu_has_aes() { 0 } else { 1 }, cipher::AES_128_GCM);
    if cpu_has_aes() {
        ciphers.swap(1, 2);
    }
    // For a test in which somebody between changes what is said.
    #[cfg(test)]
    ciphers.push(cipher::NONE);
    ciphers
}

fn cpu_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Those of what a server offers that the operator could allow. Empty: nothing here speaks any of it.
pub fn allowable(offered: &[String]) -> Vec<&str> {
    let known = |name: &&str| crate::config::LEGACY_ALGORITHMS.contains(name);
    offered.iter().map(String::as_str).filter(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LEGACY_ALGORITHMS;
    use crate::ssh::host_key::tests::{ecdsa, key, known};

    /// All that is offered, by name.
    fn offered(legacy: &[&str]) -> Vec<String> {
        let legacy: Vec<String> = legacy.iter().map(|name| (*name).to_owned()).collect();
        let all = preferred(None, &[], &legacy);
        let mut names: Vec<String> = all.kex.iter().map(|name| name.as_ref().to_owned()).collect();
        names.extend(all.key.iter().map(Algorithm::to_string));
        names.extend(all.cipher.iter().map(|name| name.as_ref().to_owned()));
        names.extend(all.mac.iter().map(|name| name.as_ref().to_owned()));
        names
    }

    #[test]
    fn nothing_old_is_offered_unless_it_is_allowed_and_then_behind_the_rest() {
        let usual = offered(&[]);
        assert!(LEGACY_ALGORITHMS.iter().all(|name| !usual.iter().any(|one| one == name)), "{usual:?}");
        let all = offered(LEGACY_ALGORITHMS);
        // Each name that an operator may write means something.
        assert!(LEGACY_ALGORITHMS.iter().all(|name| all.iter().any(|one| one == name)), "{all:?}");
        assert_eq!(all.len(), usual.len() + LEGACY_ALGORITHMS.len());
        let some = preferred(None, &[], &["aes256-cbc".to_owned()]);
        assert_eq!(some.cipher.last(), Some(&cipher::AES_256_CBC));
        assert_eq!(some.mac, Preferred::DEFAULT.mac);
    }

    #[test]
    fn the_types_that_are_known_are_asked_for_first() {
        let (ec, ed) = (key(ecdsa()), key(Algorithm::Ed25519));
        assert_eq!(host_keys(None, &[]).first(), Some(&Algorithm::Ed25519));
        assert_eq!(host_keys(None, &[known(1, Marker::None, &ec)]).first(), Some(&ecdsa()));
        // What is revoked or an authority's is not what the server should show.
        for marker in [Marker::Revoked, Marker::CertAuthority] {
            assert_eq!(host_keys(None, &[known(1, marker, &ec)]).first(), Some(&Algorithm::Ed25519));
        }
        let both = [known(1, Marker::None, &ec), known(2, Marker::None, &ed)];
        assert_eq!(host_keys(Some(&fingerprint(&ec)), &both).first(), Some(&ecdsa()));
        assert!(!host_keys(None, &both).contains(&Algorithm::Rsa { hash: None }));
    }

    #[test]
    fn certificates_are_asked_for_where_an_authority_is_known_and_nothing_is_pinned() {
        let authority = known(1, Marker::CertAuthority, &key(Algorithm::Ed25519));
        assert!(certificates(None, std::slice::from_ref(&authority)).contains(&ecdsa()));
        assert!(certificates(Some("SHA256:x"), &[authority]).is_empty());
        assert!(certificates(None, &[known(1, Marker::None, &key(ecdsa()))]).is_empty());
    }

    #[test]
    fn exchanges_on_the_curves_of_nist_come_behind_curve25519() {
        let at = |wanted| exchanges(&[]).iter().position(|name| *name == wanted).unwrap();
        assert!(at(kex::CURVE25519_PRE_RFC_8731) < at(kex::ECDH_SHA2_NISTP256));
        assert!(at(kex::ECDH_SHA2_NISTP521) < at(kex::DH_GEX_SHA256));
    }

    #[test]
    fn what_could_be_allowed_is_picked_from_what_is_offered() {
        let offered = ["3des-cbc", "aes128-cbc"].map(str::to_owned);
        assert_eq!(allowable(&offered), ["aes128-cbc"]);
    }
}
