//! One order from its beginning to its certificate.

use std::{
    collections::HashMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    AcmeConfig, AcmeError,
    client::Client,
    dns::{HookError, Records},
    kept::{Issued, Kept, KeptError},
    refusal::RateLimited,
    scope::Subject,
};
use crate::files::write;

/// Time for one order. A program may take a while until its DNS records are seen, once for each of two names.
pub(super) const ORDER: Duration = Duration::from_secs(600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error("the authority refused")]
    Acme(#[from] instant_acme::Error),
    #[error("the authority offers no way to show that {0} is ours")]
    NoWay(String),
    #[error("the authority could not see that the name is ours ({0:?})")]
    NotShown(OrderStatus),
    #[error(
        "the authority did not see the record of {0}: an NS record of that name has to lead to this relay, and port 53 to be open over UDP and TCP"
    )]
    NotDelegated(Box<str>),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("a certificate for the challenge cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("the key cannot sign")]
    Sign(#[from] rustls::Error),
    #[error("the account's file {} cannot be used", path.display())]
    Account { path: PathBuf, source: io::Error },
    #[error("the account cannot be kept")]
    KeepAccount(#[source] io::Error),
    #[error("the certificate cannot be used")]
    Kept(#[source] KeptError),
    #[error("it took too long")]
    Late,
}

impl OrderError {
    /// What the authority said, if it has had enough.
    pub(super) fn refusal(&self) -> Option<&RateLimited> {
        if let Self::Acme(instant_acme::Error::Other(cause)) = self { cause.downcast_ref() } else { None }
    }
}

/// What is needed for any order.
pub(super) struct Orders {
    client: Client,
    email: String,
    directory: String,
    account: PathBuf,
    records: Option<Records>,
    challenges: Challenges,
}

impl Orders {
    pub(super) fn new(
        config: &AcmeConfig,
        account: PathBuf,
        challenges: Challenges,
        records: Option<Records>,
    ) -> Result<Self, AcmeError> {
        Ok(Self {
            client: Client::new(config.directory_ca.as_deref())?,
            email: config.email.clone(),
            directory: config.directory.clone(),
            account,
            records,
            challenges,
        })
    }

    /// Orders a certificate, in place of `old` if there is one.
    pub(super) async fn order(
        &self,
        subject: &Subject,
        old: Option<&Kept>,
        account: &OnceCell<Account>,
    ) -> Result<Issued, OrderError> {
        let account = self.account(account).await?;
        let names: Vec<_> = subject.names().into_iter().map(Identifier::Dns).collect();
        let mut asked = NewOrder::new(&names);
        if let Some(id) = old.and_then(|old| old.id.clone())
            // Whoever answers this knows what is replaced (RFC 9773 §5).
            && account.renewal_info(&id).await.is_ok()
        {
            asked = asked.replaces(id);
        }
        let mut order = account.new_order(&asked).await?;
        let mut shown = Shown { challenges: &self.challenges, names: Vec::new(), records: Vec::new() };
        let fetched = timeout(ORDER, self.show_and_fetch(subject, &mut order, &mut shown)).await;
        let outcome = fetched.unwrap_or(Err(OrderError::Late));
        // Also when it took too long, and without a bearing on what has come in.
        if let Some(records) = &self.records {
            for (domain, value) in &shown.records {
                records.clean_up(domain, value).await;
            }
        }
        outcome
    }

    async fn show_and_fetch(
        &self,
        subject: &Subject,
        order: &mut instant_acme::Order,
        shown: &mut Shown<'_>,
    ) -> Result<Issued, OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let way = match (&self.records, subject.is_wildcard()) {
                (Some(_), true) => ChallengeType::Dns01,
                _ => ChallengeType::TlsAlpn01,
            };
            let mut challenge = authorization
                .challenge(way.clone())
                .ok_or_else(|| OrderError::NoWay(subject.name().to_owned()))?;
            let Identifier::Dns(name) = challenge.identifier().identifier.clone() else {
                return Err(OrderError::NoWay(subject.name().to_owned()));
            };
            let answer = challenge.key_authorization();
            match (&self.records, way) {
                (Some(records), ChallengeType::Dns01) => {
                    let value = answer.dns_value();
                    shown.records.push((name.clone(), value.clone()));
                    records.present(&name, &value).await?;
                }
                _ => {
                    shown.names.push(name.clone());
                    self.challenges.show(&name, answer.digest().as_ref())?;
                }
            }
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::new().timeout(Duration::from_secs(120));
        let status = order.poll_ready(&patience).await?;
        if status != OrderStatus::Ready {
            return Err(match &self.records {
                Some(Records::Own(zone)) if subject.is_wildcard() => OrderError::NotDelegated(zone.name()),
                _ => OrderError::NotShown(status),
            });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.names())?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        order.finalize_csr(request.der()).await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok(Issued { key: key.serialize_pem(), chain })
    }

    /// When the authority suggests to renew these, each at a time within its window (RFC 9773 §4.2).
    pub(super) async fn suggestions(
        &self,
        kept: Vec<(Subject, Arc<Kept>)>,
        account: &OnceCell<Account>,
    ) -> Vec<(Subject, SystemTime)> {
        let mut suggestions = Vec::new();
        let Ok(account) = self.account(account).await else { return suggestions };
        for (subject, kept) in kept {
            let Some(id) = &kept.id else { continue };
            match account.renewal_info(id).await {
                Ok((info, _)) => {
                    let window = info.suggested_window;
                    let (start, end) = (SystemTime::from(window.start), SystemTime::from(window.end));
                    suggestions.push((subject, within(start, end, getrandom::u32().unwrap_or(0))));
                }
                Err(instant_acme::Error::Unsupported(_)) => break,
                Err(error) => tracing::debug!(name = subject.name(), %error, "no word about renewal"),
            }
        }
        suggestions
    }

    /// The account of this relay at the authority; made at its first order.
    async fn account(&self, known: &OnceCell<Account>) -> Result<Account, OrderError> {
        // One at a time: two first orders must not make two accounts.
        known.get_or_try_init(|| self.open_account()).await.cloned()
    }

    async fn open_account(&self) -> Result<Account, OrderError> {
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let account = match fs::read(&self.account) {
            Ok(text) => {
                let unusable = |error: serde_json::Error| OrderError::Account {
                    path: self.account.clone(),
                    source: io::Error::new(io::ErrorKind::InvalidData, error),
                };
                let kept: KeptAccount = serde_json::from_slice(&text).map_err(unusable)?;
                if kept.directory == self.directory {
                    Some(builder().from_credentials(kept.credentials).await?)
                } else {
                    None
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(OrderError::Account { path: self.account.clone(), source }),
        };
        match account {
            Some(account) => Ok(account),
            None => {
                let address = format!("mailto:{}", self.email);
                let contact = if self.email.is_empty() { vec![] } else { vec![address.as_str()] };
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                let (account, credentials) = builder().create(&new, self.directory.clone(), None).await?;
                let kept = KeptAccount { directory: self.directory.clone(), credentials };
                let text = serde_json::to_string(&kept).map_err(|error| OrderError::Account {
                    path: self.account.clone(),
                    source: io::Error::other(error),
                })?;
                write(&self.account, &text, 0o600).map_err(OrderError::KeepAccount)?;
                Ok(account)
            }
        }
    }
}

/// A time within a window, chosen by a random number.
fn within(start: SystemTime, end: SystemTime, random: u32) -> SystemTime {
    let length = end.duration_since(start).unwrap_or_default();
    start + length.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// An account, and whose it is.
#[derive(serde::Serialize, serde::Deserialize)]
struct KeptAccount {
    directory: String,
    credentials: AccountCredentials,
}

/// What was shown for one order, and is taken back with it.
struct Shown<'a> {
    challenges: &'a Challenges,
    names: Vec<String>,
    records: Vec<(String, String)>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut shown = self.challenges.lock();
        for name in &self.names {
            shown.remove(name.as_str());
        }
    }
}

/// The answers that an authority may come and look for, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Challenges(Arc<Mutex<HashMap<Box<str>, Arc<CertifiedKey>>>>);

impl Challenges {
    /// Shows the answer of a TLS-ALPN-01 challenge (RFC 8737 §3).
    fn show(&self, name: &str, digest: &[u8]) -> Result<(), OrderError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let shown = CertifiedKey::new(vec![certificate.der().clone()], any_ecdsa_type(&der)?);
        self.lock().insert(name.into(), Arc::new(shown));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Arc<CertifiedKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.lock().get(hello.server_name()?).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_are_spread_over_their_window() {
        let (start, length) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1000));
        assert_eq!(within(start, start + length, 0), start);
        assert_eq!(within(start, start + length, u32::MAX), start + length);
        let middle = within(start, start + length, u32::MAX / 2);
        assert!(middle > start + length * 49 / 100 && middle < start + length * 51 / 100);
        assert_eq!(within(start + length, start, 7), start + length, "a window that ends before it begins");
    }
}
