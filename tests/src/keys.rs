//! Key pairs made by OpenSSH's own `ssh-keygen`, so that the program meets the files that users have.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The algorithm of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Ecdsa,
    Rsa,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Ed25519 => "ed25519",
            Kind::Ecdsa => "ecdsa",
            Kind::Rsa => "rsa",
        }
    }
}

/// A private key file and its public half.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The private key; the public one stands beside it with `.pub`.
    pub path: PathBuf,
    /// `ssh-ed25519 AAAA… comment`.
    pub public: String,
    /// `SHA256:…`, as OpenSSH prints it.
    pub fingerprint: String,
}

impl KeyPair {
    /// A new key without a passphrase.
    pub fn generate(folder: &Path, name: &str, kind: Kind) -> Result<KeyPair> {
        KeyPair::generate_sealed(folder, name, kind, "")
    }

    /// A new key behind a passphrase.
    pub fn generate_sealed(folder: &Path, name: &str, kind: Kind, passphrase: &str) -> Result<KeyPair> {
        let path = folder.join(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", kind.as_str(), "-N", passphrase, "-C", name, "-f"]).arg(&path);
        if kind == Kind::Rsa {
            command.args(["-b", "2048"]);
        }
        let output = command.output().context("starting ssh-keygen (package openssh-client)")?;
        ensure!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
        let public = std::fs::read_to_string(path.with_extension("pub"))?.trim().to_owned();
        let fingerprint = fingerprint(&path.with_extension("pub"))?;
        Ok(KeyPair { path, public, fingerprint })
    }

    /// The private key's path as an argument.
    pub fn path_str(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }

    /// Algorithm and key without the comment, as a line of known_hosts has them.
    pub fn bare_public(&self) -> String {
        self.public.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}

/// The fingerprint of a public key file, by `ssh-keygen -l`.
fn fingerprint(public: &Path) -> Result<String> {
    let output = Command::new("ssh-keygen").arg("-lf").arg(public).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let print = text.split_whitespace().nth(1).with_context(|| format!("no fingerprint in {text:?}"))?;
    Ok(print.to_owned())
}
