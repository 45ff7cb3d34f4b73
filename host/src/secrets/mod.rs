//! Secrets at rest and by reference: sealed in the database, or named by where they are, never written as they are.
//!
//! What a secret is for is the business of the module that stores it.

mod error;
mod key;
mod reference;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::store::Store;

pub use error::SecretError;
pub use reference::Reference;

/// A secret in the clear. It is wiped from memory when dropped, and prints as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The secret itself. Not for logs, arguments of programs, errors or answers.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn into_inner(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredSecret {
    /// Nonce and ciphertext.
    Sealed(#[serde(with = "base64")] Vec<u8>),
    /// `env:NAME`, `file:/path` or `cmd:…`; read each time it is used.
    Reference(String),
}

impl StoredSecret {
    /// `sealed`, `env`, `file` or `cmd`.
    pub fn kind(&self) -> &'static str {
        match self {
            StoredSecret::Sealed(_) => "sealed",
            StoredSecret::Reference(text) => Reference::parse(text).map_or("reference", |reference| reference.kind()),
        }
    }
}

// A reference may hold a command line, which may hold anything.
impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.kind())
    }
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

const NONCE: usize = 24;

/// Seals secrets and opens them again. Clones share the key.
///
/// XChaCha20-Poly1305 with a random nonce. The secret's name is authenticated with it, so that one sealed secret cannot be put
/// in the place of another.
#[derive(Clone, Debug)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Store,
    directory: PathBuf,
    master_key: Option<Secret>,
    /// Got when it is first needed: asking a keyring or stretching a passphrase takes time that most starts can do without.
    cipher: OnceCell<XChaCha20Poly1305>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault whose key comes from `master_key` (`MCP_MASTER_KEY`: a passphrase or a reference to one) or else from
    /// `secret.key` in `directory`, which is made when there is none. Nothing is read yet; [`Vault::check`] does.
    pub fn new(store: Store, directory: &Path, master_key: Option<&str>) -> Self {
        let master_key = master_key.map(Secret::new);
        Vault(Arc::new(Inner { store, directory: directory.to_owned(), master_key, cipher: OnceCell::new() }))
    }

    /// Gets the key and checks that it is the one that stored secrets were sealed with.
    pub async fn check(&self) -> Result<(), SecretError> {
        self.cipher().await.map(|_| ())
    }

    async fn cipher(&self) -> Result<&XChaCha20Poly1305, SecretError> {
        let inner = &*self.0;
        inner.cipher.get_or_try_init(|| key::load(&inner.store, &inner.directory, inner.master_key.as_ref())).await
    }

    /// Seals `secret` under `name`, which must be given again to open it.
    pub async fn seal(&self, name: &str, secret: &str) -> Result<StoredSecret, SecretError> {
        Ok(StoredSecret::Sealed(encrypt(self.cipher().await?, name, secret.as_bytes())?))
    }

    /// What to store for a secret as a user gives it: a reference as it is, anything else sealed.
    pub async fn keep(&self, name: &str, input: &str) -> Result<StoredSecret, SecretError> {
        if Reference::looks_like_one(input) {
            Reference::parse(input)?;
            return Ok(StoredSecret::Reference(input.to_owned()));
        }
        self.seal(name, input).await
    }

    /// The secret in the clear. For a reference this reads a file or runs a command (up to 10 s).
    pub async fn open(&self, name: &str, stored: &StoredSecret) -> Result<Secret, SecretError> {
        match stored {
            StoredSecret::Reference(text) => Reference::parse(text)?.resolve().await,
            StoredSecret::Sealed(bytes) => {
                let plain = decrypt(self.cipher().await?, name, bytes)
                    .ok_or_else(|| SecretError::Unsealable { name: name.to_owned() })?;
                let text =
                    std::str::from_utf8(&plain).map_err(|_| SecretError::Unsealable { name: name.to_owned() })?;
                Ok(Secret::new(text))
            }
        }
    }
}

fn encrypt(cipher: &XChaCha20Poly1305, name: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
    let nonce: [u8; NONCE] = rand::random();
    let payload = Payload { msg: plain, aad: name.as_bytes() };
    let sealed =
        cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SecretError::TooLong { name: name.to_owned() })?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(cipher: &XChaCha20Poly1305, name: &str, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    cipher.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;
