//! Public keys that are worth verifying with, and the short ids by which signatures name them.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{IdError, text::bytes_serde};

/// An Ed25519 public key: on the curve, canonically encoded, and not weak.
///
/// It is also a libp2p identity; its text form is that of the peer id (`12D3KooW…`), so that a key looks the same in a
/// log, in an address and in the API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// A public key with the point that it stands for, which takes a tenth of what a signature does to work out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReadyKey {
    key: PublicKey,
    point: Option<VerifyingKey>,
}

/// The signature is not one of this key over this message, or not in its strict form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature is wrong")]
pub struct SignatureError;

impl PublicKey {
    /// Identity multihash (code 0, length 36) of the protobuf of an Ed25519 key (type 1, 32 bytes).
    const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

    /// Checks 32 bytes.
    ///
    /// # Errors
    /// When they are not the canonical encoding of a point, or a point of small order. libp2p's own check lets the
    /// latter through, for which one fixed signature fits every message.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, IdError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| IdError::NotAPoint)?;
        if key.is_weak() {
            return Err(IdError::Weak);
        }
        if !is_canonical(&bytes) {
            return Err(IdError::NotAPoint);
        }
        Ok(Self(bytes))
    }

    pub(crate) fn of_seed(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// The 32 bytes of RFC 8032.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Verifies by the strict rules, under which a signature has exactly one form.
    ///
    /// # Errors
    /// When the signature is not that of this key over this message.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        self.ready().verify(message, signature)
    }

    /// The same key, for many signatures.
    pub fn ready(&self) -> ReadyKey {
        // Every key was found to be a point when it was made.
        ReadyKey { key: *self, point: VerifyingKey::from_bytes(&self.0).ok() }
    }

    /// The libp2p peer id: a multihash, as in `/p2p/…`.
    pub fn peer_id_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&Self::PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// The key inside a libp2p peer id.
    ///
    /// # Errors
    /// When it is not the identity multihash of an Ed25519 key, or [`PublicKey::from_bytes`] refuses the key.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let key = bytes.strip_prefix(&Self::PEER_ID_PREFIX).ok_or(IdError::PeerId)?;
        Self::from_bytes(key.try_into().map_err(|_| IdError::PeerId)?)
    }
}

impl ReadyKey {
    /// The key itself.
    pub const fn public(&self) -> &PublicKey {
        &self.key
    }

    /// See [`PublicKey::verify`].
    ///
    /// # Errors
    /// When the signature is not that of this key over this message.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let point = self.point.as_ref().ok_or(SignatureError)?;
        point.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureError)
    }
}

impl fmt::Debug for ReadyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// Whether the y coordinate (255 bits, little endian) is below 2^255 - 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    !(bytes[0] >= 0xed && bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[31] & 0x7f == 0x7f)
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // The text of 38 bytes has 52 characters; base58 takes quadratic time, so the length goes first.
        if text.len() != 52 {
            return Err(IdError::PeerId);
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| IdError::PeerId)?;
        Self::from_peer_id_bytes(&bytes)
    }
}

impl TryFrom<Vec<u8>> for PublicKey {
    type Error = IdError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        Self::from_bytes(bytes.try_into().map_err(|_| IdError::Length { what: "public key" })?)
    }
}

/// Which of our signing keys made a signature: the first 8 bytes of SHA-256 of its public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid([u8; 8]);

impl Kid {
    /// The id of a key.
    pub fn of(key: &PublicKey) -> Self {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut kid = [0; 8];
        kid.copy_from_slice(&digest[..8]);
        Self(kid)
    }

    /// Takes the bytes of a header.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The bytes of a header.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kid({self})")
    }
}

impl FromStr for Kid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes =
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::Character { what: "key id" })?;
        Self::try_from(bytes)
    }
}

impl TryFrom<Vec<u8>> for Kid {
    type Error = IdError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Length { what: "key id" })
    }
}

bytes_serde!(PublicKey, Kid);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Seed;

    fn key() -> PublicKey {
        Seed::from_bytes([7; 32]).public()
    }

    #[test]
    fn text_is_the_peer_id() {
        let text = key().to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse(), Ok(key()));
        assert_eq!(PublicKey::from_peer_id_bytes(&key().peer_id_bytes()), Ok(key()));
        assert_eq!(serde_json::to_string(&key()).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn weak_keys_are_refused_in_every_form() {
        // The identity point, which libp2p-identity accepts as a public key.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(identity), Err(IdError::Weak));
        let peer = "12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH";
        assert_eq!(peer.parse::<PublicKey>(), Err(IdError::Weak));
        // Order two, and the point of order four with y = 0.
        let mut order_two = [0xff; 32];
        order_two[0] = 0xec;
        order_two[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(order_two), Err(IdError::Weak));
        assert_eq!(PublicKey::from_bytes([0; 32]), Err(IdError::Weak));
    }

    #[test]
    fn encodings_that_are_no_canonical_point_are_refused() {
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert_eq!(PublicKey::from_bytes(no_point), Err(IdError::NotAPoint));
        // y = p + 3 stands for the same point as y = 3.
        let mut canonical = [0; 32];
        canonical[0] = 3;
        assert!(PublicKey::from_bytes(canonical).is_ok());
        let mut twin = [0xff; 32];
        twin[0] = 0xed + 3;
        twin[31] = 0x7f;
        assert_eq!(PublicKey::from_bytes(twin), Err(IdError::NotAPoint));
    }

    #[test]
    fn other_peer_ids_are_refused() {
        let mut bytes = key().peer_id_bytes();
        bytes[3] = 2;
        assert_eq!(PublicKey::from_peer_id_bytes(&bytes), Err(IdError::PeerId));
        assert_eq!(PublicKey::from_peer_id_bytes(&bytes[..37]), Err(IdError::PeerId));
        assert_eq!(
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<PublicKey>(),
            Err(IdError::PeerId)
        );
    }

    #[test]
    fn kid_is_the_head_of_the_keys_digest() {
        let kid = Kid::of(&key());
        assert_eq!(kid.to_string().len(), 16);
        assert_eq!(kid.to_string().parse(), Ok(kid));
        assert_ne!(kid, Kid::of(&Seed::from_bytes([8; 32]).public()));
        assert!("00".parse::<Kid>().is_err());
    }
}
