//! Certificates for HTTPS where no public authority can give one: an authority of this machine's own, made once,
//! which vouches for the names of one relay and for nothing else.
//!
//! The authority's certificate carries name constraints (RFC 5280 §4.2.1.10), so that whoever trusts it trusts it
//! for the relay's own domain only and for no address, also if its key (mode 0600) gets out. Certificates for visitors are made when
//! their name is first asked for, only for names that exist, and kept in memory.

mod described;

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};

pub use self::described::{DescribeError, Described, Unfit};
use crate::{
    files,
    ingress::host::{self, Destination},
    route::{Lookup, Routes},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years: replacing it means asking every person who trusts it again.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);

/// Below the 398 days that browsers accept at most.
const LEAF_LIFE: Duration = DAY.saturating_mul(90);

/// A kept certificate is made anew at two thirds of its life.
const LEAF_USE: Duration = DAY.saturating_mul(60);

/// Visitors' clocks may be behind.
const BACKDATED: Duration = DAY;

/// Names with a kept certificate. One takes about 2 KiB, and 0.1 ms to make again.
const KEPT: usize = 4096;

/// Why there is no local authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalCaError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("{} is not a private key in PEM form; remove it to have a new authority made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: rcgen::Error,
    },
    /// The certificate's file holds no certificate.
    #[error("{} is not a certificate in PEM form; remove it and its key to have a new authority made", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The TLS library does not take the key.
    #[error("the key cannot sign")]
    Sign(#[from] rustls::Error),
}

/// An authority for the names of one relay.
pub struct LocalCa {
    domain: Box<str>,
    console: Box<str>,
    authority: Certificate,
    key: KeyPair,
    /// One key for all visitors' certificates of this process: they differ in the name only.
    leaf: KeyPair,
    signer: Arc<dyn SigningKey>,
    pem: String,
    /// The same certificate in DER. It goes with every other one, for those who know only its hash.
    published: CertificateDer<'static>,
    path: Option<PathBuf>,
}

impl LocalCa {
    /// The authority kept in `directory` for the relay of `domain` whose console is at `console`; made on first use.
    pub fn open(
        directory: &Path,
        domain: &str,
        console: &str,
        now: SystemTime,
    ) -> Result<Self, LocalCaError> {
        fs::create_dir_all(directory)
            .map_err(|source| LocalCaError::File { path: directory.into(), source })?;
        let label = names(domain, console).join("+");
        let (key_path, path) = (
            directory.join(format!("local-ca-{label}.key")),
            directory.join(format!("local-ca-{label}.pem")),
        );
        let key = match read(&key_path)? {
            Some(text) => {
                KeyPair::from_pem(&text).map_err(|source| LocalCaError::Key { path: key_path, source })?
            }
            None => {
                let key = KeyPair::generate()?;
                write(&key_path, &key.serialize_pem(), 0o600)?;
                key
            }
        };
        let mut ca = Self::with_key(key, domain, console, now)?;
        match read(&path)? {
            Some(pem) => {
                ca.published = CertificateDer::from_pem_slice(pem.as_bytes())
                    .map_err(|_| LocalCaError::Certificate { path: path.clone() })?;
                ca.pem = pem;
            }
            None => write(&path, &ca.pem, 0o644)?,
        }
        ca.path = Some(path);
        Ok(ca)
    }

    /// An authority that is gone with the process.
    pub fn ephemeral(domain: &str, console: &str, now: SystemTime) -> Result<Self, LocalCaError> {
        Self::with_key(KeyPair::generate()?, domain, console, now)
    }

    fn with_key(key: KeyPair, domain: &str, console: &str, now: SystemTime) -> Result<Self, LocalCaError> {
        // The same key and name make the same authority: of the certificate only the first one is ever published.
        let authority = authority(&key, domain, console, now).self_signed(&key)?;
        let leaf = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.serialize_der()));
        let (signer, pem) = (any_ecdsa_type(&der)?, authority.pem());
        let published = authority.der().clone();
        Ok(Self {
            domain: domain.to_ascii_lowercase().into(),
            console: console.to_ascii_lowercase().into(),
            authority,
            key,
            leaf,
            signer,
            pem,
            published,
            path: None,
        })
    }

    /// The authority's certificate, for people and programs to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Where the authority's certificate is kept.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A certificate for `name`, valid from `now`.
    pub fn certify(&self, name: &str, now: SystemTime) -> Result<CertifiedKey, LocalCaError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = common_name(name);
        (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + LEAF_LIFE).into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.leaf, &self.authority, &self.key)?;
        Ok(CertifiedKey::new(
            vec![certificate.der().clone(), self.published.clone()],
            Arc::clone(&self.signer),
        ))
    }

    /// Answers visitors' handshakes: the console, the base domain, and the names that `routes` knows.
    pub fn resolver(self, routes: Routes) -> Arc<dyn ResolvesServerCert> {
        Arc::new(Resolver { ca: self, routes, kept: Mutex::default() })
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa")
            .field("domain", &self.domain)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Resolver {
    ca: LocalCa,
    routes: Routes,
    kept: Mutex<HashMap<Box<str>, Kept>>,
}

#[derive(Debug)]
struct Kept {
    key: Arc<CertifiedKey>,
    made: SystemTime,
}

impl Resolver {
    fn certificate(&self, asked: Option<&str>, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        // Without a name (an address in the URL) any certificate fails; the domain's says best what is here.
        let asked = host::parse(asked.unwrap_or(&self.ca.domain).as_bytes()).ok()?.host;
        let exists = match host::destination(&asked, &self.ca.domain, &self.ca.console) {
            Destination::Console => true,
            // Not of domains beyond these: no such authority may speak for them.
            Destination::Tunnel(label) => !matches!(self.routes.find(&label), Lookup::Unknown),
            Destination::Nowhere => *asked == *self.ca.domain,
        };
        if !exists {
            return None;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get(&*asked)
            && now.duration_since(kept.made).is_ok_and(|age| age < LEAF_USE)
        {
            return Some(Arc::clone(&kept.key));
        }
        let key = match self.ca.certify(&asked, now) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                tracing::warn!(%error, "no certificate for a visitor");
                return None;
            }
        };
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(asked.into(), Kept { key: Arc::clone(&key), made: now });
        Some(key)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate(hello.server_name(), SystemTime::now())
    }
}

fn authority(key: &KeyPair, domain: &str, console: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two authorities of one name confuse trust stores: a part of the key tells them apart.
    let mark: String =
        key.public_key_raw().iter().skip(1).take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = common_name(&format!("mytunnel local CA for {domain} ({mark})"));
    (params.not_before, params.not_after) = ((now - BACKDATED).into(), (now + AUTHORITY_LIFE).into());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names(domain, console)
            .into_iter()
            .map(|name| GeneralSubtree::DnsName(name.into()))
            .collect(),
        // What is permitted of one kind of name says nothing of the others: addresses have to be shut out by themselves.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    params
}

/// The trees of names that the authority may speak for.
fn names<'a>(domain: &'a str, console: &'a str) -> Vec<&'a str> {
    let inside = console == domain || console.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if inside { vec![domain] } else { vec![domain, console] }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn read(path: &Path) -> Result<Option<String>, LocalCaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LocalCaError::File { path: path.into(), source }),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), LocalCaError> {
    files::write(path, text, mode).map_err(|source| LocalCaError::File { path: path.into(), source })
}

#[cfg(test)]
mod tests;
