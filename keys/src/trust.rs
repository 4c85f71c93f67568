//! Whom a cluster trusts: a bundle of issuer and feed keys, signed by an offline root key.
//!
//! A token names the root by its fingerprint, so that whoever holds a token needs no trust on first use. Bundles have a
//! version that only grows: a relay keeps the highest that it has seen, and a bundle without a stolen key ends all that
//! the key has signed.

mod root;

use ciborium::Value;
use thiserror::Error;

pub use self::root::RootFingerprint;
use crate::{
    Verified,
    cbor::{self, FieldError, Reader, Writer},
    cose::{Envelope, EnvelopeError},
    id::{Cluster, Kid, PublicKey, SignatureError},
};

/// Largest bundle, in bytes.
pub const MAX_BUNDLE: usize = 4096;

/// How far two clocks may differ, in seconds.
pub const CLOCK_SKEW: u64 = 30;

const TYPE: &str = "mtk-trust+cwt";
const MAX_KEYS: usize = 32;

/// What a key of the bundle may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// Certificates.
    Certificate,
    /// The feed.
    Feed,
}

impl KeyUse {
    const fn number(self) -> u64 {
        match self {
            Self::Certificate => 1,
            Self::Feed => 2,
        }
    }
}

/// One key that the root vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerEntry {
    /// The key.
    pub key: PublicKey,
    /// What it may sign.
    pub usage: KeyUse,
    /// First second of trust.
    pub not_before: u64,
    /// Second at which trust ends, also in what was signed before it.
    pub not_after: u64,
}

/// The keys of a cluster at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// Grows with every change.
    pub version: u64,
    /// The cluster.
    pub cluster: Cluster,
    /// The era of the feed. It grows when a coordinator was restored from a backup.
    pub era: u64,
    /// When the bundle was signed.
    pub issued_at: u64,
    /// The keys.
    pub keys: Vec<IssuerEntry>,
}

/// Why a bundle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not a signed bundle.
    #[error("the trust bundle is malformed")]
    Envelope(#[from] EnvelopeError),
    /// Its content is not a bundle's.
    #[error("the trust bundle is malformed")]
    Content(#[from] FieldError),
    /// Signed by the root of another cluster.
    #[error("the trust bundle is signed by root {found}, not by {expected}")]
    Root {
        /// The pinned root.
        expected: RootFingerprint,
        /// The root in the bundle.
        found: RootFingerprint,
    },
    /// The signature is wrong.
    #[error("the trust bundle: {0}")]
    Signature(#[from] SignatureError),
    /// For another cluster than the one held.
    #[error("the trust bundle is for another cluster")]
    Cluster,
    /// Older than the one held, or of an older era.
    #[error("trust bundle {found} is older than {held}, which is held")]
    Rollback {
        /// Version that is held.
        held: u64,
        /// Version that was offered.
        found: u64,
    },
    /// Another bundle of the version held.
    #[error("there are two different trust bundles of version {0}")]
    Fork(u64),
}

/// Why no key of the bundle fits a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bundle has no such key for this use.
    #[error("key {0} is not trusted")]
    Unknown(Kid),
    /// The key's time has not come, or is over.
    #[error("key {0} is outside its time")]
    OutOfTime(Kid),
}

/// A bundle that is held, and replaced by later ones of the same root.
#[derive(Clone, Debug)]
pub struct Trust {
    root: RootFingerprint,
    bundle: Verified<TrustBundle>,
    bytes: Vec<u8>,
}

impl Trust {
    /// Checks a bundle against the root.
    ///
    /// # Errors
    /// As [`TrustBundle::verify`].
    pub fn open(bytes: &[u8], root: &RootFingerprint) -> Result<Self, TrustError> {
        let bundle = TrustBundle::verify(bytes, root)?;
        Ok(Self { root: *root, bundle, bytes: bytes.to_vec() })
    }

    /// Takes a bundle that is newer than the one held, and says whether it was.
    ///
    /// # Errors
    /// When it does not verify, is for another cluster, is older, or differs from the one held though it has the same
    /// version. The held one then stays.
    pub fn update(&mut self, bytes: &[u8]) -> Result<bool, TrustError> {
        if bytes == self.bytes {
            return Ok(false);
        }
        let new = Self::open(bytes, &self.root)?;
        let (held, found) = (self.bundle.version, new.bundle.version);
        if new.bundle.cluster != self.bundle.cluster {
            return Err(TrustError::Cluster);
        }
        if found < held || new.bundle.era < self.bundle.era {
            return Err(TrustError::Rollback { held, found });
        }
        if found == held {
            return Err(TrustError::Fork(held));
        }
        *self = new;
        Ok(true)
    }

    /// The bundle.
    pub const fn bundle(&self) -> &Verified<TrustBundle> {
        &self.bundle
    }

    /// The signed bytes, to keep on disk or to pass on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The root that is pinned.
    pub const fn root(&self) -> &RootFingerprint {
        &self.root
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.bundle.cluster
    }

    /// The key that may have signed something for this use.
    ///
    /// # Errors
    /// When there is none, or not at this time.
    pub fn key(&self, kid: Kid, usage: KeyUse, now: u64) -> Result<&PublicKey, KeyError> {
        let of_kid = |entry: &&IssuerEntry| entry.usage == usage && Kid::of(&entry.key) == kid;
        let entry = self.bundle.keys.iter().find(of_kid).ok_or(KeyError::Unknown(kid))?;
        if now.saturating_add(CLOCK_SKEW) < entry.not_before
            || now >= entry.not_after.saturating_add(CLOCK_SKEW)
        {
            return Err(KeyError::OutOfTime(kid));
        }
        Ok(&entry.key)
    }
}

impl TrustBundle {
    /// Checks a bundle against the root that a token or an operator names.
    ///
    /// # Errors
    /// When it is not a bundle in its one encoding, signed by that root.
    pub fn verify(bytes: &[u8], root: &RootFingerprint) -> Result<Verified<Self>, TrustError> {
        let envelope = Envelope::<8>::parse(TYPE, bytes, MAX_BUNDLE)?;
        let (bundle, key) = Self::read(&envelope.payload)?;
        let found = RootFingerprint::of(&key);
        if found != *root {
            return Err(TrustError::Root { expected: *root, found });
        }
        if Kid::of(&key).as_bytes() != &envelope.kid {
            return Err(EnvelopeError::Header.into());
        }
        envelope.verify(&key)?;
        Ok(Verified::new(bundle))
    }

    fn read(payload: &[u8]) -> Result<(Self, PublicKey), FieldError> {
        let mut claims = Reader::new(cbor::decode(payload)?)?;
        let mut private = claims.map(PRIVATE)?;
        private.exactly(1, 1)?;
        let root = private.bytes(4)?;
        let entries = private.array(5)?;
        if entries.len() > MAX_KEYS {
            return Err(FieldError::Value(5));
        }
        let bundle = Self {
            version: private.uint(2)?,
            cluster: claims.text(3)?,
            era: private.uint(3)?,
            issued_at: claims.uint(6)?,
            keys: entries.into_iter().map(read_entry).collect::<Result<_, _>>()?,
        };
        private.finish()?;
        claims.finish()?;
        cbor::same(payload, &bundle.write(&root))?;
        Ok((bundle, root))
    }

    fn write(&self, root: &PublicKey) -> Vec<u8> {
        let keys = self.keys.iter().map(write_entry).collect();
        let private = Writer::new()
            .put(1, 1)
            .put(2, self.version)
            .put(3, self.era)
            .put(4, root.as_bytes().as_slice())
            .put(5, Value::Array(keys));
        let claims =
            Writer::new().put(3, self.cluster.as_str()).put(6, self.issued_at).put(PRIVATE, private.finish());
        cbor::encode(&claims.finish())
    }
}

/// Label of the map with the claims of our own.
pub(crate) const PRIVATE: i64 = -65537;

fn read_entry(value: Value) -> Result<IssuerEntry, FieldError> {
    let mut entry = Reader::new(value)?;
    let key = entry.bytes(1)?;
    let usage = match entry.uint::<u64>(2)? {
        1 => KeyUse::Certificate,
        2 => KeyUse::Feed,
        _ => return Err(FieldError::Value(2)),
    };
    let read = IssuerEntry { key, usage, not_before: entry.uint(3)?, not_after: entry.uint(4)? };
    entry.finish()?;
    Ok(read)
}

fn write_entry(entry: &IssuerEntry) -> Value {
    Writer::new()
        .put(1, entry.key.as_bytes().as_slice())
        .put(2, entry.usage.number())
        .put(3, entry.not_before)
        .put(4, entry.not_after)
        .finish()
}

/// The cluster's root key. It signs trust bundles and nothing else, and is best kept offline.
#[cfg(feature = "issue")]
#[derive(Clone, Debug)]
pub struct RootKey(crate::secret::Seed);

#[cfg(feature = "issue")]
impl RootKey {
    /// Makes a seed the root key.
    pub const fn new(seed: crate::secret::Seed) -> Self {
        Self(seed)
    }

    /// The fingerprint that tokens carry.
    pub fn fingerprint(&self) -> RootFingerprint {
        RootFingerprint::of(&self.0.public())
    }

    /// Signs a bundle.
    pub fn sign(&self, bundle: &TrustBundle) -> Vec<u8> {
        let root = self.0.public();
        crate::cose::sign(TYPE, Kid::of(&root).as_bytes(), bundle.write(&root), &self.0)
    }
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests;
