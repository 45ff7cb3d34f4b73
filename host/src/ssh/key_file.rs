//! A private key file: read with the care of OpenSSH, and every way in which that fails told apart.
//!
//! Not which key is tried when: that is `auth`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, Certificate, PrivateKey, decode_secret_key};
use zeroize::Zeroizing;

/// No key file is larger; the limit keeps a wrong path (a log, a device) out of memory.
const MAX_KEY_FILE: u64 = 256 * 1024;

/// Why a key file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    #[error("the key file {} does not exist", .0.display())]
    Missing(PathBuf),
    #[error("the key file {} cannot be read: {cause}", .path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("the key file {} may be read by others (mode {mode:04o})", .path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the key file {} is encrypted and no passphrase was given", .0.display())]
    PassphraseMissing(PathBuf),
    #[error("the passphrase does not open the key file {}", .0.display())]
    PassphraseWrong(PathBuf),
    #[error("{} is a public key, not a private one", .0.display())]
    PublicKey(PathBuf),
    #[error("{} is not a private key file", .0.display())]
    NotAKey(PathBuf),
    #[error("{} is not a certificate: {cause}", .path.display())]
    NotACertificate { path: PathBuf, cause: String },
    /// The file names a key that is in a device (`ed25519-sk`, `ecdsa-sk`).
    #[error("the key of {} is in a device, which only an ssh-agent can ask", .0.display())]
    InHardware(PathBuf),
    /// A key in a form that is not understood here.
    #[error("the key file {} cannot be used: {cause}", .path.display())]
    Unsupported { path: PathBuf, cause: String },
}

impl KeyFileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            KeyFileError::Missing(path) => {
                format!("Check keyPath: {} must be on the machine where this program runs.", path.display())
            }
            KeyFileError::Unreadable { path, .. } => {
                format!("Make {} readable for the user who runs this program.", path.display())
            }
            KeyFileError::TooOpen { path, .. } => format!("Run: chmod 600 {}", path.display()),
            KeyFileError::PassphraseMissing(_) => {
                "Give passphrase with server_add, or load the key into an ssh-agent and set agent.".to_owned()
            }
            KeyFileError::PassphraseWrong(_) => "Correct passphrase with server_add.".to_owned(),
            KeyFileError::PublicKey(path) => {
                format!("Give the private key's file as keyPath, usually {}.", path.with_extension("").display())
            }
            KeyFileError::NotAKey(_) => "Give a private key file (OpenSSH, PEM or PKCS#8) as keyPath.".to_owned(),
            KeyFileError::NotACertificate { path, .. } => {
                format!("Take {} away, or have the key signed again (ssh-keygen -s).", path.display())
            }
            KeyFileError::InHardware(path) => {
                format!("Load it into an ssh-agent (ssh-add {}) and set agent instead of keyPath.", path.display())
            }
            KeyFileError::Unsupported { path, .. } => {
                format!("Convert a copy of it to OpenSSH's format: ssh-keygen -p -f {}", path.display())
            }
        }
    }

    /// A short word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            KeyFileError::Missing(_) => "KEY_MISSING",
            KeyFileError::Unreadable { .. } => "KEY_UNREADABLE",
            KeyFileError::TooOpen { .. } => "KEY_MODE",
            KeyFileError::PassphraseMissing(_) => "PASSPHRASE_MISSING",
            KeyFileError::PassphraseWrong(_) => "PASSPHRASE_WRONG",
            KeyFileError::PublicKey(_) | KeyFileError::NotAKey(_) => "NOT_A_PRIVATE_KEY",
            KeyFileError::NotACertificate { .. } => "NOT_A_CERTIFICATE",
            KeyFileError::InHardware(_) => "KEY_IN_HARDWARE",
            KeyFileError::Unsupported { .. } => "KEY_UNSUPPORTED",
        }
    }
}

/// Reads and, where needed, decrypts a key. Blocks, for a tenth of a second and more on an encrypted key: its passphrase is
/// stretched on purpose.
pub fn load(path: &Path, passphrase: Option<&str>) -> Result<PrivateKey, KeyFileError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Unreadable { path: path.to_owned(), cause: error.to_string() },
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err(KeyFileError::NotAKey(path.to_owned()));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    // Like OpenSSH: only a file of our own can be put right by us, so only that one is judged.
    if metadata.uid() == rustix::process::getuid().as_raw() && metadata.mode() & 0o077 != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return Err(KeyFileError::NotAKey(path.to_owned())) };
    let key = decode(path, text, passphrase)?;
    match key.algorithm() {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Err(KeyFileError::InHardware(path.to_owned())),
        _ => Ok(key),
    }
}

/// The OpenSSH certificate beside a key, in the file that `ssh-keygen -s` writes: the key's name and `-cert.pub`. Most keys
/// have none.
pub fn certificate(key: &Path) -> Result<Option<Certificate>, KeyFileError> {
    let mut name = key.as_os_str().to_owned();
    name.push("-cert.pub");
    let path = PathBuf::from(name);
    let text = match fs::metadata(&path)
        .and_then(|found| if found.len() > MAX_KEY_FILE { Ok(String::new()) } else { fs::read_to_string(&path) })
    {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::NotACertificate { path, cause: error.to_string() }),
    };
    match Certificate::from_openssh(text.trim_end()) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(error) => Err(KeyFileError::NotACertificate { path, cause: error.to_string() }),
    }
}

fn decode(path: &Path, text: &str, passphrase: Option<&str>) -> Result<PrivateKey, KeyFileError> {
    if !text.contains("-----BEGIN ") && !text.trim_start().starts_with("PuTTY-User-Key-File-") {
        return Err(if text.trim_start().starts_with("ssh-") || text.trim_start().starts_with("ecdsa-") {
            KeyFileError::PublicKey(path.to_owned())
        } else {
            KeyFileError::NotAKey(path.to_owned())
        });
    }
    if !text.contains("PRIVATE KEY-----") && !text.trim_start().starts_with("PuTTY-User-Key-File-") {
        return Err(KeyFileError::NotAKey(path.to_owned()));
    }
    let pem_encrypted = text.contains("ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED");
    if pem_encrypted && text.contains("DEK-Info:") && !text.contains("DEK-Info: AES-128-CBC,") {
        let cause = "its old PEM encryption is not supported".to_owned();
        return Err(KeyFileError::Unsupported { path: path.to_owned(), cause });
    }
    if pem_encrypted {
        let Some(passphrase) = passphrase else { return Err(KeyFileError::PassphraseMissing(path.to_owned())) };
        return decode_secret_key(text, Some(passphrase)).map_err(|_| KeyFileError::PassphraseWrong(path.to_owned()));
    }
    // The library takes a passphrase for a sign that a PKCS#8 key is encrypted: the first try is without one.
    match (decode_secret_key(text, None), passphrase) {
        (Ok(key), _) => Ok(key),
        (Err(russh::keys::Error::KeyIsEncrypted), None) => Err(KeyFileError::PassphraseMissing(path.to_owned())),
        (Err(russh::keys::Error::KeyIsEncrypted), Some(passphrase)) => decode_secret_key(text, Some(passphrase))
            .map_err(|error| match error {
                russh::keys::Error::SshKey(russh::keys::ssh_key::Error::AlgorithmUnsupported { .. }) => {
                    KeyFileError::Unsupported { path: path.to_owned(), cause: error.to_string() }
                }
                _ => KeyFileError::PassphraseWrong(path.to_owned()),
            }),
        (Err(error @ (russh::keys::Error::UnknownAlgorithm(_) | russh::keys::Error::UnsupportedKeyType { .. })), _) => {
            Err(KeyFileError::Unsupported { path: path.to_owned(), cause: error.to_string() })
        }
        (Err(_), _) => Err(KeyFileError::NotAKey(path.to_owned())),
    }
}
