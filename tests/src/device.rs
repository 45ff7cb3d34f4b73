//! An ssh-agent that holds one key of a security device, made in software: what is signed is what a FIDO token signs
//! (OpenSSH's PROTOCOL.u2f), so that a real sshd accepts it.
//!
//! It knows the two messages that a login needs (draft-miller-ssh-agent, 3.5 and 3.6) and refuses all others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use russh::keys::signature::Signer;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::ssh_key::public::{KeyData, SkEcdsaSha2NistP256, SkEd25519};
use russh::keys::ssh_key::sha2::{Digest, Sha256};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey, PublicKey, PublicKeyBase64};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// What OpenSSH calls itself before a device.
const APPLICATION: &str = "ssh:";
/// Somebody has touched it.
const PRESENT: u8 = 1;

/// The two kinds of key that OpenSSH knows in such devices.
#[derive(Clone, Copy, Debug)]
pub enum Token {
    Ed25519,
    Ecdsa,
}

/// A running agent; it ends when it is dropped.
pub struct DeviceAgent {
    pub socket: PathBuf,
    /// As a line of authorized_keys.
    pub public: String,
    /// How often it was asked to sign.
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

struct Device {
    key: PrivateKey,
    public: PublicKey,
    /// Somebody touches it when it asks; else it waits for ever.
    touched: bool,
    asked: Arc<AtomicUsize>,
}

impl DeviceAgent {
    pub fn start(folder: &Path, token: Token, touched: bool) -> Result<DeviceAgent> {
        let algorithm = match token {
            Token::Ed25519 => Algorithm::Ed25519,
            Token::Ecdsa => Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
        };
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), algorithm)?;
        let data = match key.public_key().key_data() {
            KeyData::Ed25519(inner) => KeyData::SkEd25519(SkEd25519::new(*inner, APPLICATION)),
            KeyData::Ecdsa(russh::keys::ssh_key::public::EcdsaPublicKey::NistP256(point)) => {
                KeyData::SkEcdsaSha2NistP256(SkEcdsaSha2NistP256::new(*point, APPLICATION))
            }
            other => bail!("no device holds {other:?}"),
        };
        let public = PublicKey::from(data);
        let socket = folder.join(format!("{token:?}-agent"));
        let listener = UnixListener::bind(&socket).context("listening as an agent")?;
        let asked = Arc::new(AtomicUsize::new(0));
        let line = public.to_openssh()?;
        let device = Arc::new(Device { key, public, touched, asked: Arc::clone(&asked) });
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&device)));
            }
        });
        Ok(DeviceAgent { socket, public: line, asked, serving })
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for DeviceAgent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: UnixStream, device: Arc<Device>) -> Result<()> {
    loop {
        let length = stream.read_u32().await?;
        ensure!(length < 1 << 18, "a message of {length} bytes");
        let mut message = vec![0; length as usize];
        stream.read_exact(&mut message).await?;
        let answer = match message.split_first() {
            Some((&REQUEST_IDENTITIES, _)) => {
                let mut answer = vec![IDENTITIES_ANSWER, 0, 0, 0, 1];
                put(&mut answer, &device.public.public_key_bytes());
                put(&mut answer, b"a device");
                answer
            }
            Some((&SIGN_REQUEST, rest)) => {
                device.asked.fetch_add(1, Ordering::SeqCst);
                if !device.touched {
                    std::future::pending::<()>().await;
                }
                let (blob, rest) = take(rest)?;
                ensure!(blob == device.public.public_key_bytes(), "another key is asked for");
                let mut answer = vec![SIGN_RESPONSE];
                put(&mut answer, &device.sign(take(rest)?.0)?);
                answer
            }
            _ => vec![FAILURE],
        };
        let mut framed = Vec::new();
        put(&mut framed, &answer);
        stream.write_all(&framed).await?;
    }
}

impl Device {
    /// The signature as it goes over the wire, with the flags and the counter that the device has signed along.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let counter = u32::try_from(self.asked.load(Ordering::SeqCst))?.to_be_bytes();
        let mut signed = Sha256::digest(APPLICATION).to_vec();
        signed.push(PRESENT);
        signed.extend(counter);
        signed.extend(Sha256::digest(message));
        let data: &KeypairData = self.key.key_data();
        let signature = data.try_sign(&signed).context("signing")?;
        let mut wire = Vec::new();
        put(&mut wire, self.public.algorithm().as_str().as_bytes());
        put(&mut wire, signature.as_bytes());
        wire.push(PRESENT);
        wire.extend(counter);
        Ok(wire)
    }
}

/// A string of RFC 4251, 5.
fn put(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    buffer.extend(bytes);
}

fn take(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>().context("a string without its length")?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).context("a string that is cut off")
}
