//! TLS to the witness's servers: whom this unit believes, and what it shows of itself.
//!
//! Only the authorities of the configuration count, not those of the system; servers are checked by the names
//! or addresses that the configuration asks them by.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use config::Tls;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// What etcd's JSON gateway speaks.
const PROTOCOL: &[u8] = b"http/1.1";

/// Reads the files.
///
/// # Errors
/// When one of them is no PEM file of what it should be.
pub(super) fn connector(files: &Tls) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        let added = roots.add(certificate);
        added.with_context(|| format!("{} has a bad certificate", files.ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("{} has no private key in PEM", key.display()))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .with_context(|| format!("{} and {}", cert.display(), key.display()))?
        }
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let what = || format!("{} has no certificates in PEM", file.display());
    let found = CertificateDer::pem_file_iter(file).with_context(what)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().with_context(what)?;
    ensure!(!found.is_empty(), what());
    Ok(found)
}
