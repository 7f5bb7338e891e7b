//! TLS to a broker: whom we believe, who we are, and what it means when that does not work out.
//!
//! Certificates are always verified. To trust a server of one's own, one names its CA.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::open::TlsFiles;
use crate::error::{Error, Kind, Result};

/// How to talk TLS to the broker.
#[derive(Clone)]
pub(super) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// What `files` say; without a CA, whom this system trusts.
    ///
    /// # Errors
    /// `Kind::Configuration` for a file that cannot be read, or is none of what it should be.
    pub fn new(files: &TlsFiles) -> Result<Trust> {
        let roots = match &files.ca {
            Some(path) => roots_of(path)?,
            None => roots_of_this_system()?,
        };
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .map_err(|cause| refused(cause.to_string()))?
            .with_root_certificates(roots);
        let config = match (&files.certificate, &files.key) {
            (None, None) => builder.with_no_client_auth(),
            (None, Some(_)) => {
                return Err(refused("key_file goes with cert_file: give both, or neither".into()));
            }
            (Some(certificate), key) => {
                let chain = certificates("cert_file", certificate)?;
                let (name, key) = match key {
                    Some(key) => ("key_file", key),
                    None => ("cert_file", certificate), // one file may hold both
                };
                let secret = private_key(name, key)?;
                builder.with_client_auth_cert(chain, secret).map_err(|cause| {
                    let (certificate, key) = (certificate.display(), key.display());
                    refused(format!(
                        "the key in {key} is not that of the certificate in {certificate}: {cause}"
                    ))
                })?
            }
        };
        Ok(Trust(Arc::new(config)))
    }

    /// As rustls takes it.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

fn refused(said: String) -> Error {
    Error::new(Kind::Configuration, "connect", format!("tls: {said}"))
}

fn roots_of(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots.add(certificate).map_err(|cause| {
            refused(format!("ca_file: {} has a certificate of no use: {cause}", path.display()))
        })?;
    }
    Ok(roots)
}

fn roots_of_this_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // One that nobody can read is no reason to do without the others.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(refused(
            "this system has no certificates of CAs: install them (Debian: ca-certificates), \
             or give ca_file"
                .into(),
        ));
    }
    Ok(roots)
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|cause| {
        let path: PathBuf = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        refused(format!("{name}: cannot read {}: {cause}", path.display()))
    })
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(name, path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(refused(format!(
            "{name}: {} has no certificate; it is to hold one in PEM, \
             `-----BEGIN CERTIFICATE-----`",
            path.display()
        ))),
        Err(cause) => Err(refused(format!("{name}: {} is no PEM: {cause}", path.display()))),
    }
}

fn private_key(name: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read(name, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        let encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
        let why = if encrypted {
            "is encrypted; decrypt it with `openssl pkey`, and guard the file"
        } else {
            "has no private key in PEM"
        };
        refused(format!("{name}: {} {why}", path.display()))
    })
}

/// What is wrong with TLS, where that is what `cause` comes from, and what to do about it.
pub(super) fn wrong(cause: &(dyn StdError + 'static)) -> Option<String> {
    let cause = of_rustls(cause)?;
    let advice = match cause {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the certificate of the server comes from a CA that is not trusted here; \
                 ca_file of tls names one that is"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the certificate of the server has expired; renew it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the certificate of the server is not valid yet; are both clocks right?"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate of the server is for another host; use a name that it has"
            }
            _ => "the certificate of the server cannot be trusted",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                "the server wants a certificate of ours; cert_file and key_file of tls name it"
            }
            AlertDescription::HandshakeFailure => {
                "the server may want a certificate of ours: cert_file and key_file of tls"
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => {
                "the server does not trust our certificate, cert_file of tls"
            }
            _ => "the server ends the TLS handshake",
        },
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; without it, the URL begins with `redis://` \
             or `amqp://`"
        }
        rustls::Error::PeerIncompatible(_) => "the server speaks no TLS that is still safe",
        _ => return None,
    };
    Some(format!("{advice} ({cause})"))
}

/// The error of rustls that stands behind another, whoever wrapped it.
fn of_rustls<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = cause.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    // These do not say so themselves: their source is that of what they hold.
    if let Some(cause) = cause.downcast_ref::<io::Error>() {
        let inner: &'a (dyn StdError + 'static) = cause.get_ref()?;
        return of_rustls(inner);
    }
    if let Some(cause) = cause.downcast_ref::<Arc<io::Error>>() {
        let inner: &'a (dyn StdError + 'static) = cause.as_ref();
        return of_rustls(inner);
    }
    if let Some(cause) = cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        let inner: &'a (dyn StdError + 'static) = cause.as_ref();
        return of_rustls(inner);
    }
    of_rustls(cause.source()?)
}
