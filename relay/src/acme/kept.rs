//! The certificates and the account, kept in files of mode 0600: each a key followed by its chain, in PEM form.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use instant_acme::CertificateIdentifier;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{AcmeError, Life, gone, scope::Subject};
use crate::files::write;

/// The file of what was counted of the last week.
const WEEK: &str = "week.json";

/// A certificate in use.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) life: Life,
    /// How its authority calls it when a renewal is asked for (RFC 9773 §4.1).
    pub(super) id: Option<CertificateIdentifier<'static>>,
}

/// What an order brought.
#[derive(Debug)]
pub(super) struct Issued {
    /// PEM.
    pub(super) key: String,
    /// PEM, the certificate first.
    pub(super) chain: String,
}

impl Issued {
    /// What it takes to use it.
    pub(super) fn usable(&self, now: SystemTime) -> Result<Kept, KeptError> {
        parse(&self.text(), now)
    }

    fn text(&self) -> String {
        format!("{}{}", self.key, self.chain)
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    #[error("it is not in PEM form")]
    Pem,
    #[error("it cannot be read")]
    Certificate,
    #[error("its key does not fit")]
    Key(#[source] rustls::Error),
    #[error("it has ended")]
    Ended(SystemTime),
}

/// Where they are.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Self, AcmeError> {
        let failed = |source: io::Error| AcmeError::File { path: directory.into(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The file of the account.
    pub(super) fn account(&self) -> PathBuf {
        self.directory.join("account.json")
    }

    /// What was counted of the last week; nothing where there is no such file.
    pub(super) fn week(&self) -> Result<Option<String>, AcmeError> {
        let path = self.directory.join(WEEK);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AcmeError::File { path, source }),
        }
    }

    pub(super) fn save_week(&self, text: &str) -> io::Result<()> {
        write(&self.directory.join(WEEK), text, 0o600)
    }

    /// All that can be used; what cannot is passed over, and ordered anew. What has ended long since is thrown away. (Which of
    /// too many are needed is not known before the tunnels are.)
    pub(super) fn load(&self, now: SystemTime) -> HashMap<Box<str>, Arc<Kept>> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files
            .filter_map(|file| {
                let path = file.path();
                let name = path.file_name()?.to_str()?.strip_suffix(".pem")?.replacen('_', "*", 1);
                let kept = fs::read_to_string(&path).map_err(|_| KeptError::Pem);
                match kept.and_then(|text| parse(&text, now)) {
                    Ok(kept) => Some((name.into(), Arc::new(kept))),
                    Err(KeptError::Ended(ends)) if gone::is_past(ends, now) => {
                        if let Err(error) = fs::remove_file(&path) {
                            tracing::warn!(file = %path.display(), %error, "an old certificate stays on the disk");
                        }
                        None
                    }
                    Err(error) => {
                        tracing::info!(file = %path.display(), %error, "certificate passed over");
                        None
                    }
                }
            })
            .collect()
    }

    pub(super) fn save(&self, subject: &Subject, issued: &Issued) -> io::Result<()> {
        write(&self.file(subject), &issued.text(), 0o600)
    }

    /// As if it had never been there.
    pub(super) fn remove(&self, subject: &Subject) -> io::Result<()> {
        match fs::remove_file(self.file(subject)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn file(&self, subject: &Subject) -> PathBuf {
        // No host name has a `_` in front, and some file systems no `*`.
        self.directory.join(format!("{}.pem", subject.name().replacen('*', "_", 1)))
    }
}

fn parse(text: &str, now: SystemTime) -> Result<Kept, KeptError> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeptError::Pem)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| KeptError::Pem)?;
    let first = chain.first().ok_or(KeptError::Pem)?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|_| KeptError::Certificate)?;
    let at = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let validity = certificate.validity();
    let life = Life { begins: at(validity.not_before), ends: at(validity.not_after), suggested: None };
    if life.ends <= now {
        return Err(KeptError::Ended(life.ends));
    }
    let id = CertificateIdentifier::try_from(first).ok().map(CertificateIdentifier::into_owned);
    let key = CertifiedKey::new(chain, any_supported_type(&key).map_err(KeptError::Key)?);
    key.keys_match().map_err(KeptError::Key)?;
    Ok(Kept { key: Arc::new(key), life, id })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn what_has_ended_long_since_is_thrown_away_and_what_cannot_be_read_stays() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).unwrap();
        let subject = Subject::of("a.example");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        let chain = params.self_signed(&key).unwrap().pem();
        store.save(&subject, &Issued { key: key.serialize_pem(), chain }).unwrap();
        fs::write(data.path().join("b.example.pem"), "nonsense").unwrap();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(store.load(end - day).len(), 1);
        let is_there = || store.file(&subject).exists();
        assert!(store.load(end + day).is_empty() && is_there(), "a clock may be wrong for a while");
        assert!(store.load(end + 7 * day).is_empty() && !is_there());
        assert!(data.path().join("b.example.pem").exists());
    }
}
