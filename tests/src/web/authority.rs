//! Certificates for the web server: of an authority that a test can have trusted, self-signed, expired, for another name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Until when the certificates hold that are still valid.
pub const VALID_UNTIL: &str = "2090-01-02T00:00:00Z";
/// Until when those held that are not.
pub const VALID_BEFORE: &str = "2020-01-02T00:00:00Z";

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// For 127.0.0.1 and `localhost`, unless another name is given.
fn params(subject: &str, names: &[&str], year: i32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(year, 1, 2);
    Ok(params)
}

const HERE: &[&str] = &["127.0.0.1", "localhost"];

impl Authority {
    /// Two of one name could not be told apart by anybody but by their keys.
    pub fn new(name: &str) -> Result<Authority> {
        let mut params = params(name, &[], 2090)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Authority(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Writes its certificate into a file of `folder`, for `MCP_CA_FILE`.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("authority.pem");
        std::fs::write(&path, self.0.pem()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    pub fn proper(&self) -> Result<Identity> {
        self.sign(params("proper", HERE, 2090)?)
    }

    pub fn expired(&self) -> Result<Identity> {
        self.sign(params("expired", HERE, 2020)?)
    }

    pub fn of_another_name(&self) -> Result<Identity> {
        self.sign(params("other", &["other.example"], 2090)?)
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Identity { certificate: certificate.der().clone(), key: key.serialize_der() })
    }
}

impl Identity {
    /// Signed by nobody but itself.
    pub fn self_signed() -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params("self", HERE, 2090)?.self_signed(&key)?;
        Ok(Identity { certificate: certificate.der().clone(), key: key.serialize_der() })
    }

    /// The same as `openssl req -x509` makes it: an authority's own.
    pub fn self_signed_authority() -> Result<Identity> {
        let key = KeyPair::generate()?;
        let mut params = params("self", HERE, 2090)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key)?;
        Ok(Identity { certificate: certificate.der().clone(), key: key.serialize_der() })
    }

    pub(super) fn acceptor(&self, h2: bool) -> Result<TlsAcceptor> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(|error| anyhow!("the certificate and its key do not fit: {error}"))?;
        config.alpn_protocols =
            if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
