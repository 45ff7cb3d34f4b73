//! Whether a host certificate proves that a server is the one it was called by (OpenSSH's PROTOCOL.certkeys), for an authority
//! that known_hosts marks with `@cert-authority`. Pure.
//!
//! That the server holds the certified key is the key exchange's proof and not looked at here.

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg};

use super::host_key::Known;
use super::known_hosts::{self, Marker};

/// What is to be thought of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proven,
    /// No authority that is known for the host has signed it: the key in it counts by itself.
    Foreign,
    /// An authority that is known has signed it, but not for this, or it has withdrawn its word.
    Refused(String),
}

/// Judges a certificate for `host`, which is the name or address that was asked for, at `now` (seconds since 1970).
pub(super) fn judge(certificate: &Certificate, known: &[Known], host: &str, now: u64) -> Verdict {
    let signed_by = certificate.signature_key();
    let of = |marker: Marker| {
        known.iter().find(|entry| entry.line.marker == marker && entry.line.key.key_data() == signed_by)
    };
    if let Some(entry) = of(Marker::Revoked) {
        return Verdict::Refused(format!(
            "its authority is marked @revoked in {}:{}",
            entry.file.display(),
            entry.line.number
        ));
    }
    if of(Marker::CertAuthority).is_none() {
        return Verdict::Foreign;
    }
    let refused = |reason: String| Verdict::Refused(reason);
    // SHA-1 signatures prove nothing any more.
    if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return refused("it is signed with SHA-1".to_owned());
    }
    if certificate.cert_type() != CertType::Host {
        return refused("it is a user's certificate and not a host's".to_owned());
    }
    if now < certificate.valid_after() || now >= certificate.valid_before() {
        return refused("it is not valid at this time".to_owned());
    }
    if certificate.validate_at(now, [&signed_by.fingerprint(HashAlg::Sha256)]).is_err() {
        return refused("its signature is wrong".to_owned());
    }
    let names = certificate.valid_principals();
    let host = host.to_ascii_lowercase();
    // As in OpenSSH: without names it is good for every host of the authority.
    if !names.is_empty() && !names.iter().any(|name| known_hosts::glob(name.as_bytes(), host.as_bytes())) {
        return refused(format!("it is for {} and not for {host}", names.join(", ")));
    }
    if let Some(option) = certificate.critical_options().keys().next() {
        return refused(format!("it has the critical option {option:?}, which is not known here"));
    }
    Verdict::Proven
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;
    use crate::ssh::known_hosts::Line;

    fn keygen(arguments: &[&str], folder: &Path) {
        let output = Command::new("ssh-keygen").current_dir(folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate that `ssh-keygen` makes with these options.
    fn certificate(folder: &Path, options: &[&str]) -> Certificate {
        for name in ["ca", "host"] {
            if !folder.join(name).exists() {
                keygen(&["-q", "-t", "ed25519", "-N", "", "-f", name], folder);
            }
        }
        keygen(&[&["-q", "-s", "ca", "-I", "id"], options, &["host.pub"]].concat(), folder);
        Certificate::read_file(&folder.join("host-cert.pub")).unwrap()
    }

    fn authority(folder: &Path, marker: Marker) -> Known {
        let key = russh::keys::load_public_key(folder.join("ca.pub")).unwrap();
        Known { file: PathBuf::from("/known_hosts"), line: Line { number: 3, marker, key } }
    }

    fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn a_certificate_counts_for_the_names_that_it_is_for() {
        let folder = tempfile::tempdir().unwrap();
        let cert = certificate(folder.path(), &["-h", "-n", "web.example.org,*.lab"]);
        let known = [authority(folder.path(), Marker::CertAuthority)];
        for name in ["web.example.org", "WEB.example.org", "a.lab"] {
            assert_eq!(judge(&cert, &known, name, now()), Verdict::Proven, "{name}");
        }
        let Verdict::Refused(why) = judge(&cert, &known, "db.example.org", now()) else { panic!() };
        assert!(why.contains("web.example.org") && why.contains("db.example.org"), "{why}");
        let all = certificate(folder.path(), &["-h"]);
        assert_eq!(judge(&all, &known, "anything", now()), Verdict::Proven);
    }

    #[test]
    fn what_no_known_authority_has_signed_is_foreign_and_a_revoked_one_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let cert = certificate(folder.path(), &["-h"]);
        assert_eq!(judge(&cert, &[], "web", now()), Verdict::Foreign);
        // The same key as a host's own says nothing about certificates.
        assert_eq!(judge(&cert, &[authority(folder.path(), Marker::None)], "web", now()), Verdict::Foreign);
        let both = [authority(folder.path(), Marker::CertAuthority), authority(folder.path(), Marker::Revoked)];
        let Verdict::Refused(why) = judge(&cert, &both, "web", now()) else { panic!() };
        assert!(why.contains("@revoked in /known_hosts:3"), "{why}");
    }

    #[test]
    fn a_certificate_of_another_kind_or_time_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |options: &[&str], at: u64, expected: &str| {
            let cert = certificate(folder.path(), options);
            let known = [authority(folder.path(), Marker::CertAuthority)];
            let Verdict::Refused(why) = judge(&cert, &known, "web", at) else { panic!("{options:?}") };
            assert!(why.contains(expected), "{why}");
        };
        refused(&["-n", "web"], now(), "user's certificate");
        refused(&["-h", "-V", "20200101:20200201"], now(), "not valid at this time");
        refused(&["-h", "-V", "+1d:+2d"], now(), "not valid at this time");
        refused(&["-h", "-O", "critical:strange=1"], now(), "strange");
    }

    #[test]
    fn a_certificate_that_is_signed_with_sha_1_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        keygen(&["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", "ca"], folder.path());
        let judged = |signature: &str| {
            let cert = certificate(folder.path(), &["-h", "-t", signature]);
            judge(&cert, &[authority(folder.path(), Marker::CertAuthority)], "web", now())
        };
        assert_eq!(judged("rsa-sha2-512"), Verdict::Proven);
        assert_eq!(judged("ssh-rsa"), Verdict::Refused("it is signed with SHA-1".to_owned()));
    }

    #[test]
    fn a_certificate_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cert = certificate(folder.path(), &["-h", "-n", "web"]);
        let mut bytes = cert.to_bytes().unwrap();
        let at = bytes.windows(3).position(|part| part == b"web").unwrap();
        bytes[at..at + 3].copy_from_slice(b"dbs");
        let forged = Certificate::from_bytes(&bytes).unwrap();
        let known = [authority(folder.path(), Marker::CertAuthority)];
        assert_eq!(judge(&forged, &known, "dbs", now()), Verdict::Refused("its signature is wrong".to_owned()));
    }
}
