//! Signing for an RSA certificate with SHA-2 (RFC 8332): the library itself does it with SHA-1 there, which no server of today
//! takes. Not for plain RSA keys, which it signs for as it should.

use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey, ssh_key};
use russh::{AgentAuthError, Signer};

/// The key that a certificate is for.
pub struct RsaSigner(pub Arc<PrivateKey>);

impl Signer for RsaSigner {
    type Error = AgentAuthError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, AgentAuthError> {
        signed(&self.0, hash, data).map_err(|error| AgentAuthError::Key(error.into()))
    }
}

/// What was to be signed, with the signature behind it.
fn signed(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> ssh_key::Result<Vec<u8>> {
    let KeypairData::Rsa(pair) = key.key_data() else {
        return Err(ssh_key::Error::AlgorithmUnsupported { algorithm: key.algorithm() });
    };
    let signature: ssh_key::Signature = (pair, hash).try_sign(&data)?;
    signature.encode_prefixed(&mut data)?;
    Ok(data)
}
