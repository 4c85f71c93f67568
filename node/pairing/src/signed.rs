//! Bytes with a signature over exactly them: what is passed on and hashed is what was signed, never written anew.

use mytunnel_keys::{
    id::{PublicKey, ReadyKey},
    secret::Seed,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bytes;

/// SHA-256 of what was signed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hash(#[serde(with = "bytes")] pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Something that somebody signed; what it says is known when it was [opened](Self::open) with the signer's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signed {
    #[serde(with = "bytes")]
    body: Vec<u8>,
    #[serde(with = "bytes")]
    signature: [u8; 64],
}

/// A value, and what was signed: by ourselves, or by whom it is known to be of. It is not checked twice.
#[derive(Debug)]
pub(crate) struct Vouched<T> {
    value: T,
    signed: Signed,
}

impl<T> Vouched<T> {
    pub(crate) const fn value(&self) -> &T {
        &self.value
    }

    pub(crate) const fn signed(&self) -> &Signed {
        &self.signed
    }

    pub(crate) fn into_parts(self) -> (T, Signed) {
        (self.value, self.signed)
    }
}

impl<T: Serialize> Vouched<T> {
    /// Signs a value for one purpose.
    pub(crate) fn sign(purpose: &str, value: T, seed: &Seed) -> Self {
        let signed = Signed::sign(purpose, &value, seed);
        Self { value, signed }
    }
}

impl Signed {
    /// Signs a value for one purpose.
    pub(crate) fn sign(purpose: &str, value: &impl Serialize, seed: &Seed) -> Self {
        let body = bytes::encode(value);
        let signature = seed.sign(&message(purpose, &body));
        Self { body, signature }
    }

    /// The value, if the holder of this key signed it for this purpose.
    pub(crate) fn open<T: for<'de> Deserialize<'de>>(&self, purpose: &str, key: &PublicKey) -> Option<T> {
        self.opened(purpose, &key.ready())
    }

    /// The same by a key that is ready.
    pub(crate) fn opened<T: for<'de> Deserialize<'de>>(&self, purpose: &str, key: &ReadyKey) -> Option<T> {
        key.verify(&message(purpose, &self.body), &self.signature).ok()?;
        self.claimed()
    }

    /// What it says, whoever signed it.
    pub(crate) fn claimed<T: for<'de> Deserialize<'de>>(&self) -> Option<T> {
        bytes::decode(&self.body)
    }

    /// The same together with what it was read from.
    pub(crate) fn vouched<T: for<'de> Deserialize<'de>>(
        self,
        purpose: &str,
        key: &ReadyKey,
    ) -> Option<Vouched<T>> {
        let value = self.opened(purpose, key)?;
        Some(Vouched { value, signed: self })
    }

    /// With the value that it [claims](Self::claimed), where its signer has signed its hash.
    pub(crate) const fn vouched_by_hash<T>(self, value: T) -> Vouched<T> {
        Vouched { value, signed: self }
    }

    pub(crate) fn hash(&self) -> Hash {
        Hash(Sha256::digest(&self.body).into())
    }

    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }
}

fn message(purpose: &str, body: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), &[0], body].concat()
}
