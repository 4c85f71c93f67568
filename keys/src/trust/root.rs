//! The name of a root key, as tokens and operators pin it.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};

use crate::id::{IdError, PublicKey, bytes_serde};

/// The first 16 bytes of SHA-256 of the root's public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootFingerprint([u8; 16]);

impl RootFingerprint {
    /// The fingerprint of a root key.
    pub fn of(root: &PublicKey) -> Self {
        let digest: [u8; 32] = Sha256::digest(root.as_bytes()).into();
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        Self(fingerprint)
    }

    /// Takes the bytes of a token.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of a token.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RootFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for RootFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootFingerprint({self})")
    }
}

impl FromStr for RootFingerprint {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let what = "root fingerprint";
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::Character { what })?;
        Self::try_from(bytes)
    }
}

impl TryFrom<Vec<u8>> for RootFingerprint {
    type Error = IdError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, IdError> {
        bytes.try_into().map(Self).map_err(|_| IdError::Length { what: "root fingerprint" })
    }
}

bytes_serde!(RootFingerprint);
