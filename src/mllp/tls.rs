//! TLS for MLLP: server and client configurations from PEM files, and the reason why a handshake failed, in words that say what to do.
//!
//! rustls with *ring*, TLS 1.2 and 1.3 (RFC 5246, RFC 8446). Key material is never logged, nor is a line of a PEM file that cannot be read.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::InvalidMessage;
use rustls::PeerIncompatible;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::time::Timestamp;

pub mod server_fault;

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that should hold certificates holds none that can be read.
    #[error("`{}` holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a private key holds none that can be read.
    #[error("`{}` holds no private key in PEM form\nhint: an encrypted key has to be decrypted first", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit, or one of them is of a kind that is not supported.
    #[error("certificate `{}` and key `{}` do not make a pair", certificate.display(), key.display())]
    Pair {
        /// The certificate chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The certificates of a CA file cannot serve as trust anchors.
    #[error("`{}` holds no certificate that can be trusted as an authority", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
    },
    /// The system has no certificates of authorities.
    #[error("the system has no trusted certificates\nhint: install ca-certificates, or name a CA file")]
    NoSystemAuthorities,
    /// The name of the peer is neither a DNS name nor an IP address.
    #[error("the name of the server is neither a DNS name nor an IP address")]
    Name,
    /// rustls would not have the configuration.
    #[error("TLS configuration was refused")]
    Refused(#[source] rustls::Error),
}

/// The files of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerTlsFiles {
    /// The certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Present: clients must show a certificate that one of these authorities has signed.
    pub client_ca: Option<PathBuf>,
}

/// TLS of a listener. Can be read again from its files while connections are open.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerTlsFiles,
    loaded: RwLock<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    expires_at: Option<Timestamp>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or does not hold what it should.
    pub fn load(files: ServerTlsFiles) -> Result<Self, TlsError> {
        let loaded = RwLock::new(load_server(&files)?);
        Ok(Self { files, loaded })
    }

    /// Reads the files again, for connections made from now on.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the configuration in use then stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = load_server(&self.files)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The files it is read from.
    pub const fn files(&self) -> &ServerTlsFiles {
        &self.files
    }

    /// When the server's own certificate ends.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).expires_at
    }

    /// What new connections are taken with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

fn load_server(files: &ServerTlsFiles) -> Result<Loaded, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().map_err(TlsError::Refused)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider)
                .build()
                .map_err(|_| TlsError::Authority { path: path.clone() })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.certificate)?;
    let expires_at = chain.first().and_then(expiry);
    let config = builder.with_single_cert(chain, private_key(&files.key)?).map_err(|source| pair_error(&files.certificate, &files.key, source))?;
    Ok(Loaded { config: Arc::new(config), expires_at })
}

/// The files of a client, and whom it expects to meet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientTlsFiles {
    /// Whom to trust; `None`: the authorities of the system.
    pub ca: Option<PathBuf>,
    /// Certificate chain and private key to show when the server asks.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must bear; `None`: the host that is connected to.
    pub name: Option<String>,
}

/// TLS of a client.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or does not hold what it should.
    pub fn load(files: &ClientTlsFiles) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(TlsError::Refused)?;
        let builder = builder.with_root_certificates(match &files.ca {
            Some(path) => authorities(path)?,
            None => system_authorities()?,
        });
        let config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(|source| pair_error(certificate, key, source))?
            }
        };
        let name = files.name.as_deref().map(server_name).transpose()?;
        Ok(Self { config: Arc::new(config), name })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        self.name.clone().map_or_else(|| server_name(host), Ok)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

// The errors of the PEM reader quote the file, which may be a key: they are not passed on.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| TlsError::NoCertificate { path: path.to_owned() })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

fn pair_error(certificate: &Path, key: &Path, source: rustls::Error) -> TlsError {
    TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|_| TlsError::Authority { path: path.to_owned() })?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (n_added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if n_added == 0 { Err(TlsError::NoSystemAuthorities) } else { Ok(roots) }
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    Some(Timestamp::from_micros(certificate.validity().not_after.timestamp().saturating_mul(1_000_000)))
}

/// The subject of a certificate, and its common name and DNS names.
pub(super) fn subject_and_names(certificate: &CertificateDer<'_>) -> (Option<String>, Vec<String>) {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return (None, Vec::new()) };
    let mut names: Vec<String> = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) = name
                && !names.iter().any(|known| known == name)
            {
                names.push((*name).to_owned());
            }
        }
    }
    (Some(certificate.subject().to_string()), names)
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// The peer went away without a word: a probe.
    Gone,
    /// It took too long.
    TimedOut,
    /// What the peer sent is not TLS.
    NotTls,
    /// There is no version of TLS that both sides speak.
    Version,
    /// There is no cipher or key exchange that both sides have.
    NothingInCommon,
    /// A client certificate is required and the peer has none.
    NoCertificate,
    /// The peer's certificate was signed by nobody we trust.
    UnknownIssuer,
    /// The peer's certificate has ended.
    Expired,
    /// The peer's certificate has not begun.
    NotYetValid,
    /// The peer's certificate bears another name.
    WrongName,
    /// The peer's certificate is no good for another reason.
    BadCertificate,
    /// The peer does not trust our certificate.
    PeerDistrustsUs,
    /// The peer gave up for another reason.
    PeerRefused,
    /// Anything else.
    Other,
}

impl HandshakeFault {
    /// The reason behind an error of a handshake.
    pub fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            let is_gone = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
            return if is_gone { Self::Gone } else { Self::Other };
        };
        if let rustls::Error::InvalidCertificate(error) = error {
            Self::of_certificate(error)
        } else if let rustls::Error::AlertReceived(alert) = error {
            Self::of_alert(*alert)
        } else if let rustls::Error::InvalidMessage(message) = error {
            if matches!(message, InvalidMessage::UnknownProtocolVersion) { Self::Version } else { Self::NotTls }
        } else if let rustls::Error::PeerIncompatible(incompatible) = error {
            let is_version = matches!(
                incompatible,
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                    | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                    | PeerIncompatible::SupportedVersionsExtensionRequired
                    | PeerIncompatible::Tls12NotOffered
                    | PeerIncompatible::Tls12NotOfferedOrEnabled
                    | PeerIncompatible::Tls13RequiredForQuic
            );
            if is_version { Self::Version } else { Self::NothingInCommon }
        } else if matches!(error, rustls::Error::NoCertificatesPresented) {
            Self::NoCertificate
        } else {
            Self::Other
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        // A bad signature is what an authority of the same name and another key looks like: a CA that was made anew.
        if matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
            Self::UnknownIssuer
        } else if matches!(error, CertificateError::Expired | CertificateError::ExpiredContext { .. }) {
            Self::Expired
        } else if matches!(error, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) {
            Self::NotYetValid
        } else if matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) {
            Self::WrongName
        } else {
            Self::BadCertificate
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        if matches!(alert, AlertDescription::CertificateRequired) {
            Self::NoCertificate
        } else if matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate
        ) {
            Self::PeerDistrustsUs
        } else if matches!(alert, AlertDescription::ProtocolVersion) {
            Self::Version
        } else {
            Self::PeerRefused
        }
    }

    pub(super) const fn reason_and_hint(self) -> (&'static str, &'static str) {
        match self {
            Self::Gone => ("peer went away during the handshake", "a load balancer's probe does this"),
            Self::TimedOut => ("handshake was not finished in time", "the peer may be waiting for a plain connection"),
            Self::NotTls => ("what the peer sends is not TLS", "turn TLS on at the peer, or off at this end"),
            Self::Version => ("no version of TLS in common", "TLS 1.2 and 1.3 are spoken here"),
            Self::NothingInCommon => ("no cipher or key exchange in common", "update the TLS library of the peer"),
            Self::NoCertificate => ("a client certificate is required and none was shown", "give the sender a certificate of the client CA"),
            Self::UnknownIssuer => {
                ("the peer's certificate is not signed by a trusted authority", "check the CA file, and that the peer sends its whole chain")
            }
            Self::Expired => ("the peer's certificate has expired", "renew it"),
            Self::NotYetValid => ("the peer's certificate is not valid yet", "compare the clocks of both machines"),
            Self::WrongName => ("the peer's certificate bears another name", "connect by a name it bears, or say the name to expect"),
            Self::BadCertificate => ("the peer's certificate is not acceptable", "check its purpose, its signature and its form"),
            Self::PeerDistrustsUs => ("the peer does not accept our certificate", "give the peer the authority that signed it, and check its dates"),
            Self::PeerRefused => ("the peer refused the handshake", "its log says why"),
            Self::Other => ("handshake failed", "compare the TLS settings of both sides"),
        }
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, hint) = self.reason_and_hint();
        write!(f, "{reason}\nhint: {hint}")
    }
}

#[cfg(test)]
mod tests;
