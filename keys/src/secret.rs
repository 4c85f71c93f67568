//! Secrets, wiped from memory when they are dropped and never printed: the Ed25519 seed (RFC 8032) that is all of a
//! credential's secret, and the one-time secrets with which a relay joins and a guest comes.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::PublicKey;

/// An Ed25519 seed: the private half of a [`PublicKey`], and of the libp2p identity made from it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes 32 bytes that must come from a cryptographic random source.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key of this seed.
    pub fn public(&self) -> PublicKey {
        PublicKey::of_seed(&SigningKey::from_bytes(&self.0))
    }

    /// Signs a message. Callers sign structures that name their own type (COSE `typ`), never bytes chosen by others.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        SigningKey::from_bytes(&self.0).sign(message).to_bytes()
    }

    /// The bytes themselves, to store in a file of mode 0600 or to make a libp2p key pair.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

macro_rules! one_time_secret {
    ($(#[doc = $doc:literal])+ $name:ident $domain:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 bytes that must come from a cryptographic random source.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes, to send to the coordinator.
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// What the coordinator keeps of it.
            pub fn digest(&self) -> [u8; 32] {
                Sha256::new().chain_update($domain).chain_update(self.0).finalize().into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

one_time_secret! {
    /// The one-time secret of a relay's join token: no key, only something that the coordinator recognises once.
    JoinSecret b"mytunnel join secret 1\0"
}

one_time_secret! {
    /// The one-time secret of a ticket for a private share.
    TicketSecret b"mytunnel ticket secret 1\0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_seed() {
        assert_eq!(format!("{:?}", Seed::from_bytes([0x41; 32])), "Seed(…)");
        assert_eq!(format!("{:?}", JoinSecret::from_bytes([0x41; 32])), "JoinSecret(…)");
        assert_eq!(format!("{:?}", TicketSecret::from_bytes([0x41; 32])), "TicketSecret(…)");
    }

    #[test]
    fn the_digest_of_a_secret_is_not_the_secret_and_not_that_of_another_kind() {
        let secret = JoinSecret::from_bytes([0x41; 32]);
        assert_ne!(secret.digest(), *secret.expose());
        assert_ne!(secret.digest(), JoinSecret::from_bytes([0x42; 32]).digest());
        assert_ne!(secret.digest(), TicketSecret::from_bytes([0x41; 32]).digest());
    }

    #[test]
    fn signs_as_rfc_8032_test_1() {
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let seed = Seed::from_bytes(seed.try_into().unwrap());
        assert_eq!(
            data_encoding::HEXLOWER.encode(seed.public().as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        let signature = seed.sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert!(seed.public().verify(b"", &signature).is_ok());
        assert!(seed.public().verify(b"x", &signature).is_err());
    }
}
