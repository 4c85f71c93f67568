//! A certificate and its key in files that others keep: read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::super::voice::Voice;
use crate::failure::{Failure, chain};

/// How often it is looked whether they have changed.
const LOOK: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// When each was written last.
type Written = [Option<SystemTime>; 2];

impl CertificateFiles {
    pub(super) fn open(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let current = RwLock::new(Arc::new(load(certificate, key)?));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current })
    }

    /// Reads them again whenever they have changed, until stopped. What cannot be used changes nothing.
    pub(super) async fn follow(self: Arc<Self>, voice: Voice, stop: CancellationToken) {
        let mut known = self.written();
        let mut ticks = tokio::time::interval(LOOK);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = self.written();
            if now != known {
                known = now;
                self.read_again(&voice);
            }
        }
    }

    /// Whether visitors of this host will take it.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let Some(certificate) = current.cert.first() else { return false };
        let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(host))
        else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }

    fn read_again(&self, voice: &Voice) {
        match load(&self.certificate, &self.key) {
            Ok(newer) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
                voice.note("The certificate was read again.");
            }
            Err(failure) => {
                voice.warn(format_args!("{}; the one that was read before stays", failure.message()));
            }
        }
    }

    fn written(&self) -> Written {
        let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        [written(&self.certificate), written(&self.key)]
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, Failure> {
    let unusable = |path: &Path, why: String| {
        Failure::usage(
            format!("{} cannot be used: {why}", path.display()),
            "It has to be in PEM form: --e2e-cert a certificate with its chain, --e2e-key its private key.",
        )
    };
    let chain_of: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let certificates = chain_of.map_err(|error| unusable(certificate, chain(&error)))?;
    if certificates.is_empty() {
        return Err(unusable(certificate, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, chain(&error)))?;
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&secret);
    let signer = signer.map_err(|error| unusable(key, chain(&error)))?;
    let certified = CertifiedKey::new(certificates, signer);
    certified.keys_match().map_err(|_| {
        Failure::usage(
            format!("{} is not the key of {}", key.display(), certificate.display()),
            "Give the key that the certificate was made for.",
        )
    })?;
    Ok(certified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn authority(directory: &Path) -> mytunnel_relay::local_ca::LocalCa {
        mytunnel_relay::local_ca::LocalCa::open(directory, "localhost", "localhost", SystemTime::now())
            .unwrap()
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("cert.pem");
        let failure = CertificateFiles::open(&missing, &missing).unwrap_err();
        assert!(failure.exit_code() == 2 && failure.message().contains("cert.pem"), "{}", failure.message());
        std::fs::write(&missing, "nothing").unwrap();
        let failure = CertificateFiles::open(&missing, &missing).unwrap_err();
        assert!(failure.message().contains("no certificate"), "{}", failure.message());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused_and_changes_nothing() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = |place: &tempfile::TempDir| {
            drop(authority(place.path()));
            let file = |end: &str| place.path().join(format!("local-ca-localhost.{end}"));
            (file("pem"), file("key"))
        };
        let ((certificate, key), (_, other)) = (files(&one), files(&two));
        let open = CertificateFiles::open(&certificate, &key).unwrap();
        assert!(
            CertificateFiles::open(&certificate, &other).unwrap_err().message().contains("is not the key")
        );
        let before = Arc::clone(&open.current.read().unwrap());
        std::fs::copy(&other, &key).unwrap();
        open.read_again(&Voice::alone(Report::new(true, true)));
        assert!(Arc::ptr_eq(&before, &open.current.read().unwrap()));
    }
}
