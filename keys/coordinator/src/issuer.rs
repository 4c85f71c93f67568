//! The coordinator's own keys: root, issuer, feed, each a separate seed in a file of its own.
//!
//! The root signs the trust bundle and nothing else. Once the bundle is there the root is not needed to run:
//! `root.key` may be moved to offline storage, and comes back only to change the bundle. The other two sign
//! certificates and the feed and stay.

use std::sync::{Arc, PoisonError, RwLock};

use mytunnel_keys::certificate::{self, Claims, Flags, IssuerKey, Kind};
use mytunnel_keys::feed::FeedKey;
use mytunnel_keys::id::{Cluster, Kid, PublicKey};
use mytunnel_keys::secret::Seed;
use mytunnel_keys::trust::{IssuerEntry, KeyUse, RootFingerprint, RootKey, Trust, TrustBundle, TrustError};
use sha2::{Digest as _, Sha256};

use crate::accounts::GateSessions;
use crate::data_dir::DataDir;
use crate::error::OpenError;
use crate::random;
use crate::store::{FeedSigner, KeyKind, KeyRow};

/// How long the root vouches for the issuer's and the feed's key, in seconds: ten years.
const BUNDLE_LIFE: u64 = 10 * 365 * 24 * 3600;
/// Bytes of a certificate that are kept free of name patterns, for all its other claims at their largest.
const OTHER_CLAIMS: usize = 328;
/// What an account is hashed under.
const ACCOUNT: &[u8] = b"mytunnel account 1\0";
pub(crate) const ROOT: &str = "root";
pub(crate) const ISSUER: &str = "issuer";
pub(crate) const FEED: &str = "feed";

/// The seeds, as they lie in the data directory.
#[derive(Debug)]
pub(crate) struct Seeds {
    /// Absent when it was moved away.
    root: Option<Seed>,
    issuer: Seed,
    feed: Seed,
}

impl Seeds {
    /// New seeds, for a store in memory.
    pub(crate) fn fresh() -> Result<Self, OpenError> {
        Ok(Self { root: Some(fresh()?), issuer: fresh()?, feed: fresh()? })
    }

    /// Seeds that were read elsewhere.
    pub(crate) const fn of(root: Option<Seed>, issuer: Seed, feed: Seed) -> Self {
        Self { root, issuer, feed }
    }

    /// Is any of the key files there?
    pub(crate) fn any_in(dir: &DataDir) -> bool {
        [ROOT, ISSUER, FEED].iter().any(|name| dir.key_path(name).exists())
    }

    /// Reads the seeds of a store that has a trust bundle. Blocks.
    pub(crate) fn read(dir: &DataDir) -> Result<Self, OpenError> {
        let needed = |name| {
            let missing = || OpenError::KeyMissing { path: dir.key_path(name) };
            dir.read_key(name)?.map(|key| Seed::from_bytes(*key)).ok_or_else(missing)
        };
        let root = dir.read_key(ROOT)?.map(|key| Seed::from_bytes(*key));
        Ok(Self { root, issuer: needed(ISSUER)?, feed: needed(FEED)? })
    }

    /// Reads the seeds, making those that are missing: a first start, or one that was cut short. Blocks.
    pub(crate) fn read_or_make(dir: &DataDir) -> Result<Self, OpenError> {
        let made = |name| match dir.read_key(name)? {
            Some(key) => Ok::<_, OpenError>(Seed::from_bytes(*key)),
            None => {
                let seed = fresh()?;
                dir.write_key(name, seed.expose())?;
                Ok(seed)
            }
        };
        Ok(Self { root: Some(made(ROOT)?), issuer: made(ISSUER)?, feed: made(FEED)? })
    }

    /// Signs the first bundle of a cluster; answers the root's public key and the bundle.
    pub(crate) fn first_bundle(&self, cluster: &Cluster, era: u64, now: u64) -> Option<(PublicKey, Vec<u8>)> {
        let root = self.root.clone()?;
        let entry = |seed: &Seed, usage| IssuerEntry {
            key: seed.public(),
            usage,
            not_before: now,
            not_after: now + BUNDLE_LIFE,
        };
        let bundle = TrustBundle {
            version: 1,
            cluster: cluster.clone(),
            era,
            issued_at: now,
            keys: vec![entry(&self.issuer, KeyUse::Certificate), entry(&self.feed, KeyUse::Feed)],
        };
        Some((root.public(), RootKey::new(root).sign(&bundle)))
    }

    /// Signs the bundle that begins a new era, with the keys of the old one.
    pub(crate) fn next_era(&self, old: &TrustBundle, now: u64) -> Option<TrustedEra> {
        // By the clock, so that they grow also where an earlier new era was lost with the database.
        let era = now.max(old.era + 1);
        let bundle = TrustBundle { version: now.max(old.version + 1), era, issued_at: now, ..old.clone() };
        Some(TrustedEra { era, bundle: RootKey::new(self.root.clone()?).sign(&bundle) })
    }
}

/// A new era with the root's word for it.
#[derive(Debug)]
pub(crate) struct TrustedEra {
    pub(crate) era: u64,
    pub(crate) bundle: Vec<u8>,
}

fn fresh() -> Result<Seed, OpenError> {
    random::bytes().map(Seed::from_bytes).map_err(|_| OpenError::Random)
}

/// What signs for the coordinator, and what others check it by.
#[derive(Debug)]
pub(crate) struct Issuer {
    key: IssuerKey,
    feed: FeedKey,
    cluster: Cluster,
    root: RootFingerprint,
    /// It changes when another coordinator of the same database begins an era.
    trust: RwLock<Arc<Trust>>,
}

/// A stored key cannot be put into a certificate.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum IssueError {
    /// Master keys have none.
    #[error("a master key has no certificate")]
    Master,
    /// It would break a rule of certificates.
    #[error("the certificate would not be valid")]
    Claims(#[from] certificate::ClaimsError),
}

impl Issuer {
    /// Puts the seeds to work for the cluster that `bundle` is for.
    ///
    /// # Errors
    /// When bundle, cluster and seeds do not belong together.
    pub(crate) fn new(
        seeds: Seeds,
        root: &PublicKey,
        bundle: &[u8],
        cluster: &Cluster,
        now: u64,
    ) -> Result<Self, OpenError> {
        let unusable = |problem| OpenError::Trust { problem };
        let trust =
            Trust::open(bundle, &RootFingerprint::of(root)).map_err(|_| unusable("it does not verify"))?;
        if trust.cluster() != cluster {
            return Err(unusable("it is for another domain"));
        }
        let fits = |seed: &Seed, usage| trust.key(Kid::of(&seed.public()), usage, now).is_ok();
        if !fits(&seeds.issuer, KeyUse::Certificate) || !fits(&seeds.feed, KeyUse::Feed) {
            return Err(unusable("it does not vouch for the keys in the data directory at this time"));
        }
        if seeds.root.is_some_and(|seed| seed.public() != *root) {
            return Err(unusable("it was signed by another root than root.key"));
        }
        Ok(Self {
            key: IssuerKey::new(seeds.issuer),
            feed: FeedKey::new(seeds.feed),
            cluster: cluster.clone(),
            root: *trust.root(),
            trust: RwLock::new(Arc::new(trust)),
        })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) const fn root(&self) -> &RootFingerprint {
        &self.root
    }

    /// What others check this coordinator's signatures by.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a newer bundle, of the same root and keys.
    pub(crate) fn renew(&self, bundle: &[u8]) -> Result<(), TrustError> {
        let mut held = self.trust.write().unwrap_or_else(PoisonError::into_inner);
        let mut newer = Trust::clone(&held);
        newer.update(bundle)?;
        *held = Arc::new(newer);
        Ok(())
    }

    /// What signs the feed, and makes the keys in it.
    pub(crate) fn feed_signer(&self, sessions: GateSessions) -> FeedSigner {
        FeedSigner { key: self.feed.clone(), cluster: self.cluster().clone(), sessions }
    }

    /// Bytes that name patterns may take in a certificate of this cluster.
    pub(crate) fn room(&self) -> usize {
        certificate::MAX_CERTIFICATE - OTHER_CLAIMS - self.cluster().as_str().len()
    }

    /// The certificate of a stored key; the same key gives the same certificate.
    pub(crate) fn certify(&self, key: &KeyRow) -> Result<Vec<u8>, IssueError> {
        let claims = self.claims(key).ok_or(IssueError::Master)?;
        Ok(certificate::issue(&claims, &self.key)?)
    }

    fn claims(&self, key: &KeyRow) -> Option<Claims> {
        let kind = match key.kind {
            KeyKind::User => Kind::UserDevice,
            KeyKind::Child => Kind::Child,
            KeyKind::Relay => Kind::Relay,
            KeyKind::Master => return None,
        };
        Some(Claims {
            cluster: self.cluster().clone(),
            serial: key.serial,
            kind,
            subject: key.subject,
            tenant: key.tenant.clone(),
            project: key.project.clone(),
            parent: key.parent,
            hosts: key.hosts.clone(),
            scopes: key.scopes,
            issued_at: key.issued_at,
            not_before: key.issued_at,
            not_after: key.not_after?,
            max_tunnels: key.max_tunnels,
            budget: budget(key),
            max_staleness: key.max_staleness,
            flags: if key.bound { Flags::BOUND } else { Flags::NONE },
            replaces: key.replaces,
            account: account(key),
        })
    }
}

/// The budget that a child or a device has when it is certified, whose id is the first half of its serial. Relays know by it
/// that they need a lease, however far they are behind in the feed.
fn budget(key: &KeyRow) -> Option<[u8; 8]> {
    key.budget_cents.and_then(|_| key.serial.as_bytes().first_chunk().copied())
}

/// What the certificates of one person's devices have in common. Relays need not know who that is.
fn account(key: &KeyRow) -> Option<[u8; 8]> {
    let account = key.account.as_ref().filter(|_| key.kind == KeyKind::User)?;
    let digest =
        Sha256::digest([ACCOUNT, key.tenant.as_str().as_bytes(), b"\0", account.as_bytes()].concat());
    digest.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::id::{NamePattern, Scopes, Serial};

    use super::*;
    use crate::authority;

    const NOW: u64 = 1_800_000_000;

    fn issuer(cluster: &str) -> Issuer {
        let cluster = cluster.parse().unwrap();
        let seeds = Seeds::fresh().unwrap();
        let (root, bundle) = seeds.first_bundle(&cluster, 1, NOW).unwrap();
        Issuer::new(seeds, &root, &bundle, &cluster, NOW).unwrap()
    }

    fn child(hosts: Vec<NamePattern>) -> KeyRow {
        let seed = Seed::from_bytes([9; 32]);
        let tenant = format!("ten_{}", "a".repeat(16)).parse().unwrap();
        let row =
            authority::relay(Serial::from_bytes([3; 16]), seed.public(), &tenant, authority::RELAY_TTL, NOW);
        KeyRow {
            kind: KeyKind::Child,
            project: format!("proj_{}", "b".repeat(16)).parse().ok(),
            parent: Some(Serial::from_bytes([4; 16])),
            hosts,
            scopes: Scopes::all(),
            not_after: Some(NOW + authority::MAX_TTL),
            max_tunnels: u16::MAX,
            max_staleness: u32::MAX,
            replaces: Some(Serial::from_bytes([5; 16])),
            ..row
        }
    }

    #[test]
    fn a_certificate_verifies_under_the_bundle_and_is_the_same_each_time() {
        let issuer = issuer("tun.example");
        let row = child(vec![NamePattern::any()]);
        let certificate = issuer.certify(&row).unwrap();
        assert_eq!(issuer.certify(&row).unwrap(), certificate);
        let verified = certificate::verify(&certificate, &issuer.trust(), &row.subject, NOW + 5).unwrap();
        assert_eq!(verified.serial, row.serial);
        assert_eq!(verified.parent, row.parent);
        assert!(verified.flags.contains(Flags::BOUND));
        assert_eq!(verified.replaces, row.replaces);
    }

    #[test]
    fn a_relay_that_is_cut_off_sees_that_a_key_has_a_budget() {
        let issuer = issuer("tun.example");
        let child = child(vec![NamePattern::any()]);
        let device =
            KeyRow { kind: KeyKind::User, project: None, parent: None, replaces: None, ..child.clone() };
        for (row, limited) in [(&child, false), (&device, false), (&child, true), (&device, true)] {
            let row = KeyRow { budget_cents: limited.then_some(0), ..row.clone() };
            let certificate = issuer.certify(&row).unwrap();
            let claims = certificate::verify(&certificate, &issuer.trust(), &row.subject, NOW + 5).unwrap();
            assert_eq!(claims.budget.is_some(), limited, "{:?}", row.kind);
        }
    }

    #[test]
    fn what_the_room_allows_always_fits_a_certificate() {
        for domain in ["localhost".to_owned(), format!("{}.{}.ab", "c".repeat(63), "d".repeat(61))] {
            let issuer = issuer(&domain);
            let mut left = issuer.room();
            let mut hosts = Vec::new();
            while left > 2 && hosts.len() < 8 {
                let length = (left - 2).min(63);
                hosts.push("x".repeat(length).parse().unwrap());
                left -= length + 2;
            }
            issuer.certify(&child(hosts)).unwrap();
        }
    }

    #[test]
    fn a_master_key_gets_no_certificate() {
        let row = KeyRow { kind: KeyKind::Master, ..child(Vec::new()) };
        assert!(matches!(issuer("localhost").certify(&row), Err(IssueError::Master)));
    }

    #[test]
    fn bundle_cluster_and_keys_must_belong_together() {
        let cluster: Cluster = "localhost".parse().unwrap();
        let seeds = Seeds::fresh().unwrap();
        let (root, bundle) = seeds.first_bundle(&cluster, 1, NOW).unwrap();
        let open = |seeds, domain: &str, now| {
            Issuer::new(seeds, &root, &bundle, &domain.parse().unwrap(), now)
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        let again = |seeds: &Seeds| Seeds {
            root: seeds.root.clone(),
            issuer: seeds.issuer.clone(),
            feed: seeds.feed.clone(),
        };
        assert!(open(again(&seeds), "tun.example", NOW).contains("another domain"));
        assert!(open(Seeds::fresh().unwrap(), "localhost", NOW).contains("does not vouch"));
        assert!(open(again(&seeds), "localhost", NOW + 2 * BUNDLE_LIFE).contains("does not vouch"));
        let other_root = Seeds { root: Some(fresh().unwrap()), ..again(&seeds) };
        assert!(open(other_root, "localhost", NOW).contains("another root"));
        let without_root = Seeds { root: None, ..seeds };
        assert!(Issuer::new(without_root, &root, &bundle, &cluster, NOW).is_ok());
    }
}
