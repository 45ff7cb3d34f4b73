//! TLS below HTTP: which authorities are trusted, and what certificate a server showed, also when it is not accepted.
//!
//! There is no way past the verification here. The authorities are the system's, as for every other program on the machine,
//! and those of a file that the operator names; they are read when they are first needed.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Stream;
use super::certificate::Certificate;
use super::error::HttpError;
use super::target::Target;

/// Who is trusted. Clones share it.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// PEM, trusted beside the system's.
    ca_file: Option<PathBuf>,
    verifier: OnceCell<Arc<WebPkiServerVerifier>>,
}

/// A stream with TLS on it, and what was learned on the way.
pub struct Secured<S> {
    pub stream: TlsStream<S>,
    pub certificate: Option<Certificate>,
    /// The server chose HTTP/2 (ALPN, RFC 7301).
    pub is_h2: bool,
}

impl Tls {
    pub fn new(ca_file: Option<PathBuf>) -> Tls {
        Tls(Arc::new(Inner { ca_file, verifier: OnceCell::new() }))
    }

    /// Reads the authorities, if that was not done yet. Fails when a handshake would.
    pub async fn ready(&self) -> Result<(), HttpError> {
        self.0.verifier.get_or_try_init(|| self.load()).await.map(|_| ())
    }

    /// Shakes hands with the server that `target` names, which has to prove that it is that one.
    pub async fn connect<S: Stream>(&self, stream: S, target: &Target) -> Result<Secured<S>, HttpError> {
        let verifier = self.0.verifier.get_or_try_init(|| self.load()).await?.clone();
        let witness = Arc::new(Witness { verifier, shown: OnceLock::new() });
        let place = target.place();
        let wrong = |cause: rustls::Error| HttpError::Tls {
            place: place.clone(),
            cause: Box::new(cause),
            certificate: witness.shown.get().cloned().flatten(),
        };
        let name = ServerName::try_from(target.bare_host().to_owned()).map_err(|_| {
            wrong(rustls::Error::General("the host is no name that a certificate could be for".to_owned()))
        })?;
        let config = config(witness.clone()).map_err(wrong)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream =
            connector.connect(name, stream).await.map_err(|cause| match cause.downcast::<rustls::Error>() {
                Ok(cause) => wrong(cause),
                Err(cause) => HttpError::Handshake { place: place.clone(), cause },
            })?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Secured { stream, certificate: witness.shown.get().cloned().flatten(), is_h2 })
    }

    /// Reads the authorities: a few hundred files on some systems, so not on a thread of the runtime.
    async fn load(&self) -> Result<Arc<WebPkiServerVerifier>, HttpError> {
        let ca_file = self.0.ca_file.clone();
        let read = tokio::task::spawn_blocking(move || roots(ca_file)).await;
        let roots = read.unwrap_or_else(|error| Err(HttpError::Roots { reason: error.to_string() }))?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| HttpError::Roots { reason: error.to_string() })
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}

fn roots(ca_file: Option<PathBuf>) -> Result<RootCertStore, HttpError> {
    let mut store = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "certificate authorities of the system could not be read");
    }
    // Some systems ship certificates that are none any more by today's rules: they vouch for nobody.
    store.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        let wrong = |reason: String| HttpError::CaFile { path: path.clone(), reason };
        let found = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(error.to_string()))?;
        let mut count = 0;
        for certificate in found {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            store.add(certificate).map_err(|error| wrong(error.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(wrong("no certificate is in it".to_owned()));
        }
    }
    if store.is_empty() {
        return Err(HttpError::Roots { reason: "the system has none".to_owned() });
    }
    Ok(store)
}

/// For one connection, since the witness is of one.
fn config(witness: Arc<Witness>) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        // Named "dangerous" because a verifier can be anything; this one only looks on.
        .dangerous()
        .with_custom_certificate_verifier(witness)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Writes down which certificate was shown, and leaves the judgement to the library's own verifier.
#[derive(Debug)]
struct Witness {
    verifier: Arc<WebPkiServerVerifier>,
    shown: OnceLock<Option<Certificate>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.get_or_init(|| Certificate::read(end_entity));
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
