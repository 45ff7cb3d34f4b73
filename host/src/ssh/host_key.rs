//! Whether the key that a server shows is trusted: by a pinned fingerprint, else by the known_hosts files.
//!
//! There is no answer but `Trusted` and `Certified` with which a connection goes on. Only where the operator has said
//! `accept-new` is the key of a server that nothing is known about written down and then trusted.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey, PublicKeyBase64, PublicKeyOrCertificate, parse_public_key_base64};
use tokio::sync::Mutex;

use super::host_cert::{self, Verdict};
use super::known_hosts::{self, Line, Marker};
use crate::config::HostKeyPolicy;

/// The shortest RSA key of a server, in bits: OpenSSH's default (RequiredRSASize).
const MIN_RSA: u32 = 1024;
/// Unknown keys that are remembered for somebody to vouch for.
const MAX_SHOWN: usize = 256;

/// Where host keys are looked up. Read afresh for every connection, so that a key trusted in another window counts at once.
/// Clones share what they remember.
#[derive(Clone, Debug)]
pub struct HostKeys {
    files: Vec<PathBuf>,
    /// So many of them, from the first, are named by the operator and must be there: one that is missed may be the list of
    /// what was revoked.
    named: usize,
    policy: HostKeyPolicy,
    /// Where new keys are written, if anywhere. An async lock, since it is held from looking once more to having written: of two
    /// keys that are shown for a new server at the same time only one can be its first.
    ours: Option<Arc<Mutex<PathBuf>>>,
    /// The unknown keys that servers have shown, as lines of known_hosts, the latest last. A plain lock, held for a look-up.
    shown: Arc<std::sync::Mutex<VecDeque<String>>>,
}

impl HostKeys {
    /// The user's file, the system's, those that the operator names, and ours in the data directory.
    pub fn new(data_dir: &Path, policy: HostKeyPolicy, named: &[PathBuf]) -> Self {
        let mut files = named.to_vec();
        if let Some(home) = std::env::home_dir() {
            files.push(home.join(".ssh/known_hosts"));
        }
        files.push(PathBuf::from("/etc/ssh/ssh_known_hosts"));
        let ours = data_dir.join("known_hosts");
        files.push(ours.clone());
        let ours = Some(Arc::new(Mutex::new(ours)));
        HostKeys { files, named: named.len(), policy, ours, shown: Arc::default() }
    }

    /// Exactly these files, in this order, and never another key.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        HostKeys { files, named: 0, policy: HostKeyPolicy::Strict, ours: None, shown: Arc::default() }
    }

    /// Whether a key that nobody has vouched for is trusted from now on, because the operator accepts new ones. It is written
    /// down first. Nothing must be known about the server, also no authority; a key of another type is known something.
    pub async fn accepts(&self, host: &str, port: u16, offered: &PublicKey) -> Result<bool, (PathBuf, io::Error)> {
        let (HostKeyPolicy::AcceptNew, Some(ours)) = (self.policy, &self.ours) else { return Ok(false) };
        let file = ours.lock().await;
        let known = self.lookup(host, port).await?;
        match decide(None, &known, offered) {
            // Another connection was faster.
            Decision::Trusted => Ok(true),
            Decision::Unknown { authority_only: false, public, .. } => {
                let line = format!("{} {public}", known_hosts::lookup_name(host, port));
                remember(&file, &line).map_err(|error| (file.clone(), error))?;
                tracing::warn!(
                    host,
                    port,
                    fingerprint = fingerprint(offered),
                    "a new host key was accepted and written down"
                );
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Remembers that a server has shown this unknown key, so that somebody can vouch for it.
    pub fn note(&self, line: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|known| known != line);
        if shown.len() >= MAX_SHOWN {
            shown.pop_front();
        }
        shown.push_back(line.to_owned());
    }

    /// Writes down an unknown key on a person's word. `false`: no server has shown it, or there is nowhere to write.
    pub async fn vouch(&self, line: &str) -> io::Result<bool> {
        let was_shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known == line);
        let (true, Some(ours)) = (was_shown, &self.ours) else { return Ok(false) };
        remember(&ours.lock().await, line).map(|()| true)
    }

    /// What the files say about a server. A file that does not exist says nothing, unless the operator names it; one that
    /// cannot be read is an error, because it could hold a revocation.
    pub async fn lookup(&self, host: &str, port: u16) -> Result<Vec<Known>, (PathBuf, io::Error)> {
        let name = known_hosts::lookup_name(host, port);
        let mut known = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            match tokio::fs::read(file).await {
                Ok(bytes) => {
                    let lines = known_hosts::find(&String::from_utf8_lossy(&bytes), &name);
                    known.extend(lines.into_iter().map(|line| Known { file: file.clone(), line }));
                }
                Err(error)
                    if index >= self.named
                        && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        Ok(known)
    }
}

/// A line about the server, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub file: PathBuf,
    pub line: Line,
}

/// What is to be thought of a host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Trusted,
    /// An authority that is known for this server vouches for the key.
    Certified,
    /// Such an authority has signed the certificate, but it does not prove what it should.
    BadCertificate {
        /// Of the authority's key.
        authority: String,
        reason: String,
    },
    /// An RSA key that can be broken, so that it proves nothing, whoever vouches for it.
    TooShort {
        bits: u32,
    },
    /// Nothing is known about this server.
    Unknown {
        fingerprint: String,
        key_type: String,
        /// A certificate authority is known for the host, which never makes a plain key trusted.
        authority_only: bool,
        /// The key itself, as a line of known_hosts has it.
        public: String,
    },
    /// Something else is known about this server: another key, or only keys of other types. The latter counts as changed,
    /// because the known types were asked for first: the server had its chance to show a known key.
    Changed {
        fingerprint: String,
        key_type: String,
        /// `None`: it is the pinned fingerprint that differs.
        at: Option<(PathBuf, usize)>,
        expected: Vec<String>,
    },
    /// The key is marked `@revoked`.
    Revoked {
        fingerprint: String,
        file: PathBuf,
        line: usize,
    },
}

/// A key's fingerprint as OpenSSH writes it: `SHA256:…`.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Type and key in base 64, without the comment.
fn public(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm().as_str(), key.public_key_base64())
}

/// Judges what a server, asked for as `host`, has shown: a key or a certificate. A pin is about the key itself, and a
/// certificate of an authority that is not known is no more than the key in it.
pub fn judge(pin: Option<&str>, known: &[Known], host: &str, shown: &PublicKeyOrCertificate) -> Decision {
    let key = shown.public_key();
    match key.key_data() {
        KeyData::Rsa(rsa) if rsa.key_size() < MIN_RSA => return Decision::TooShort { bits: rsa.key_size() },
        _ => {}
    }
    let plain = decide(pin, known, &key);
    let certificate = match shown.certificate() {
        Some(certificate) if pin.is_none() && !matches!(plain, Decision::Revoked { .. }) => certificate,
        _ => return plain,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    match host_cert::judge(certificate, known, host, now) {
        Verdict::Proven => Decision::Certified,
        Verdict::Foreign => plain,
        Verdict::Refused(reason) => Decision::BadCertificate {
            authority: certificate.signature_key().fingerprint(HashAlg::Sha256).to_string(),
            reason,
        },
    }
}

/// Place, fingerprint and type of the key in a line of known_hosts as [`Decision::Unknown`] leads to it; `None` for any other.
pub fn describe_line(line: &str) -> Option<(&str, String, String)> {
    let (place, key) = line.split_once(' ')?;
    let (kind, base64) = key.split_once(' ')?;
    let key = parse_public_key_base64(base64).ok()?;
    (key.algorithm().as_str() == kind && !line.contains(char::is_control))
        .then(|| (place, fingerprint(&key), kind.to_owned()))
}

/// Adds a line to a known_hosts file. What stands there stays as it is, a last line without its end too.
pub fn remember(file: &Path, line: &str) -> io::Result<()> {
    let mut open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    // Two processes may write: the daemon, and an operator's verb.
    open.lock()?;
    let mut last = [b'\n'];
    if open.metadata()?.len() > 0 {
        open.seek(SeekFrom::End(-1))?;
        open.read_exact(&mut last)?;
    }
    let gap = if last == *b"\n" { "" } else { "\n" };
    open.write_all(format!("{gap}{line}\n").as_bytes())?;
    open.sync_all()
}

/// Judges the key that a server showed. A revocation counts before everything; a pin decides alone where there is one.
pub fn decide(pin: Option<&str>, known: &[Known], offered: &PublicKey) -> Decision {
    let shown = fingerprint(offered);
    let key_type = offered.algorithm().as_str().to_owned();
    let same = |entry: &&Known| entry.line.key.key_data() == offered.key_data();
    if let Some(entry) = known.iter().filter(|entry| entry.line.marker == Marker::Revoked).find(same) {
        return Decision::Revoked { fingerprint: shown, file: entry.file.clone(), line: entry.line.number };
    }
    if let Some(pin) = pin {
        // OpenSSH leaves the padding out; people and other programs don't always.
        if pin.trim().trim_end_matches('=') == shown {
            return Decision::Trusted;
        }
        return Decision::Changed { fingerprint: shown, key_type, at: None, expected: vec![pin.trim().to_owned()] };
    }
    let plain: Vec<&Known> = known.iter().filter(|entry| entry.line.marker == Marker::None).collect();
    if plain.iter().any(same) {
        return Decision::Trusted;
    }
    let mut expected: Vec<&Known> =
        plain.iter().copied().filter(|entry| entry.line.key.algorithm() == offered.algorithm()).collect();
    if expected.is_empty() {
        expected = plain;
    }
    match expected.first() {
        Some(first) => Decision::Changed {
            fingerprint: shown,
            key_type,
            at: Some((first.file.clone(), first.line.number)),
            expected: expected.iter().map(|entry| fingerprint(&entry.line.key)).collect(),
        },
        None => {
            let authority_only = known.iter().any(|entry| entry.line.marker == Marker::CertAuthority);
            Decision::Unknown { fingerprint: shown, key_type, authority_only, public: public(offered) }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use russh::keys::ssh_key::Mpint;
    use russh::keys::ssh_key::public::RsaPublicKey;
    use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

    use super::*;

    pub(in crate::ssh) fn key(algorithm: Algorithm) -> PublicKey {
        PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm).unwrap().public_key().clone()
    }

    pub(in crate::ssh) fn ecdsa() -> Algorithm {
        Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }
    }

    pub(in crate::ssh) fn known(number: usize, marker: Marker, key: &PublicKey) -> Known {
        Known { file: PathBuf::from("/known_hosts"), line: Line { number, marker, key: key.clone() } }
    }

    #[test]
    fn a_known_key_is_trusted_also_beside_others() {
        let (ours, other, third) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519), key(ecdsa()));
        let lines = [known(1, Marker::None, &other), known(2, Marker::None, &third), known(3, Marker::None, &ours)];
        assert_eq!(decide(None, &lines, &ours), Decision::Trusted);
    }

    #[test]
    fn a_server_without_lines_is_unknown() {
        let offered = key(Algorithm::Ed25519);
        let Decision::Unknown { fingerprint: shown, key_type, authority_only, .. } = decide(None, &[], &offered) else {
            panic!()
        };
        assert!(shown.starts_with("SHA256:") && key_type == "ssh-ed25519" && !authority_only);
    }

    #[test]
    fn an_authority_never_makes_a_plain_key_trusted() {
        let offered = key(Algorithm::Ed25519);
        // Not even when the key is the authority's own.
        let decision = decide(None, &[known(1, Marker::CertAuthority, &offered)], &offered);
        assert!(matches!(decision, Decision::Unknown { authority_only: true, .. }), "{decision:?}");
    }

    #[test]
    fn another_key_of_the_same_type_is_changed() {
        let (offered, first, second, third) =
            (key(Algorithm::Ed25519), key(ecdsa()), key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let lines = [known(1, Marker::None, &first), known(4, Marker::None, &second), known(5, Marker::None, &third)];
        let Decision::Changed { at, expected, .. } = decide(None, &lines, &offered) else { panic!() };
        assert_eq!(at, Some((PathBuf::from("/known_hosts"), 4)));
        assert_eq!(expected, [fingerprint(&second), fingerprint(&third)]);
    }

    #[test]
    fn a_key_of_another_type_than_the_known_one_is_changed() {
        let (offered, first) = (key(Algorithm::Ed25519), key(ecdsa()));
        let Decision::Changed { at, expected, .. } = decide(None, &[known(7, Marker::None, &first)], &offered) else {
            panic!()
        };
        assert_eq!((at, expected), (Some((PathBuf::from("/known_hosts"), 7)), vec![fingerprint(&first)]));
    }

    #[test]
    fn a_revoked_key_is_refused_whatever_else_speaks_for_it() {
        let offered = key(Algorithm::Ed25519);
        let lines = [known(1, Marker::None, &offered), known(2, Marker::Revoked, &offered)];
        let pin = fingerprint(&offered);
        for pin in [None, Some(pin.as_str())] {
            assert!(matches!(decide(pin, &lines, &offered), Decision::Revoked { line: 2, .. }));
        }
    }

    #[test]
    fn the_revocation_of_another_key_says_nothing() {
        let (offered, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        assert!(matches!(decide(None, &[known(1, Marker::Revoked, &other)], &offered), Decision::Unknown { .. }));
        let lines = [known(1, Marker::Revoked, &other), known(2, Marker::None, &offered)];
        assert_eq!(decide(None, &lines, &offered), Decision::Trusted);
    }

    #[test]
    fn a_pin_decides_alone() {
        let (offered, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let pin = fingerprint(&offered);
        assert_eq!(decide(Some(&pin), &[known(1, Marker::None, &other)], &offered), Decision::Trusted);
        assert_eq!(decide(Some(&format!(" {pin}= ")), &[], &offered), Decision::Trusted);
        let wrong = fingerprint(&other);
        for pin in [wrong.as_str(), "", "SHA256:", "MD5:00:11"] {
            let decision = decide(Some(pin), &[known(1, Marker::None, &offered)], &offered);
            assert!(
                matches!(&decision, Decision::Changed { at: None, expected, .. } if expected == &[pin]),
                "{decision:?}"
            );
        }
    }

    #[test]
    fn an_rsa_key_that_can_be_broken_proves_nothing() {
        let of = |bytes: usize| {
            let number = Mpint::from_positive_bytes;
            let rsa = RsaPublicKey::new(number(&[1, 0, 1]), number(&vec![0xff; bytes])).unwrap();
            PublicKey::from(KeyData::Rsa(rsa))
        };
        let judged = |key: PublicKey| {
            let lines = [known(1, Marker::None, &key)];
            judge(None, &lines, "web", &PublicKeyOrCertificate::PublicKey { key, hash_alg: None })
        };
        assert_eq!(judged(of(96)), Decision::TooShort { bits: 768 });
        assert_eq!(judged(of(128)), Decision::Trusted);
    }

    #[tokio::test]
    async fn only_a_server_that_nothing_is_known_about_is_accepted_and_then_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("known_hosts");
        let files = vec![folder.path().join("theirs"), ours.clone()];
        let strict = HostKeys::from_files(files.clone());
        let (policy, place) = (HostKeyPolicy::AcceptNew, Some(Arc::new(Mutex::new(ours.clone()))));
        let keys = HostKeys { policy, ours: place, files, named: 0, shown: Arc::default() };
        let (first, second, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519), key(ecdsa()));
        assert!(!strict.accepts("new", 22, &first).await.unwrap() && !ours.exists());
        assert!(keys.accepts("new", 22, &first).await.unwrap());
        assert_eq!(decide(None, &strict.lookup("new", 22).await.unwrap(), &first), Decision::Trusted);
        // The same again is known by now; another key, also of another type, is not new.
        for (shown, expected) in [(&first, true), (&second, false), (&other, false)] {
            assert_eq!(keys.accepts("new", 22, shown).await.unwrap(), expected);
        }
        std::fs::write(
            folder.path().join("theirs"),
            format!("@cert-authority *.lab {}\n@revoked * {}\n", public(&second), public(&other)),
        )
        .unwrap();
        assert!(!keys.accepts("a.lab", 22, &first).await.unwrap());
        assert!(!keys.accepts("elsewhere", 22, &other).await.unwrap());
        assert_eq!(std::fs::read_to_string(&ours).unwrap().lines().count(), 1);
    }

    #[tokio::test]
    async fn nobody_can_vouch_for_a_key_that_no_server_has_shown() {
        let folder = tempfile::tempdir().unwrap();
        let keys = HostKeys::new(folder.path(), HostKeyPolicy::Strict, &[]);
        let line = format!("new.invalid {}", public(&key(Algorithm::Ed25519)));
        assert!(!keys.vouch(&line).await.unwrap() && !folder.path().join("known_hosts").exists());
        (0..2 * MAX_SHOWN).for_each(|number| keys.note(&number.to_string()));
        keys.note(&line);
        assert!(keys.vouch(&line).await.unwrap() && !keys.vouch("0").await.unwrap());
        assert_eq!(std::fs::read_to_string(folder.path().join("known_hosts")).unwrap(), format!("{line}\n"));
        assert_eq!(keys.shown.lock().unwrap().len(), MAX_SHOWN);
    }

    #[tokio::test]
    async fn of_many_first_keys_at_the_same_time_one_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let keys = HostKeys::new(folder.path(), HostKeyPolicy::AcceptNew, &[]);
        let offered: Vec<PublicKey> = (0..8).map(|_| key(Algorithm::Ed25519)).collect();
        let accepted =
            futures::future::join_all(offered.iter().map(|one| keys.accepts("new.invalid", 2222, one))).await;
        assert_eq!(accepted.into_iter().filter(|one| matches!(one, Ok(true))).count(), 1);
    }

    #[test]
    fn a_line_is_added_also_behind_one_that_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        remember(&file, "a ssh-ed25519 AAAA").unwrap();
        remember(&file, "b ssh-ed25519 BBBB").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "a ssh-ed25519 AAAA\nb ssh-ed25519 BBBB\n");
        std::fs::write(&file, "c ssh-ed25519 CCCC").unwrap();
        remember(&file, "d ssh-ed25519 DDDD").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "c ssh-ed25519 CCCC\nd ssh-ed25519 DDDD\n");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_an_error_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let keys = HostKeys::from_files(vec![folder.path().join("missing")]);
        assert_eq!(keys.lookup("web", 22).await.unwrap(), []);
        let keys = HostKeys::from_files(vec![folder.path().to_owned()]);
        assert_eq!(keys.lookup("web", 22).await.unwrap_err().0, folder.path());
        let named = folder.path().join("named");
        let keys = HostKeys::new(folder.path(), HostKeyPolicy::Strict, std::slice::from_ref(&named));
        assert_eq!(keys.lookup("web", 22).await.unwrap_err().0, named);
        std::fs::write(&named, format!("web {}\n", public(&key(ecdsa())))).unwrap();
        assert_eq!(keys.lookup("web", 22).await.unwrap().len(), 1);
    }
}
