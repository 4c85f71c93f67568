//! Which credentials were right before, so that a visitor pays for hashing once.
//!
//! Kept is a keyed hash of tunnel, gate, credentials and where they came from, whose key lives as long as the process: it
//! tells nobody a password, and means nothing for another gate, another setting of the same, or from elsewhere. That last is
//! what keeps guesses few: where one visitor was right, others could else find out what is right faster than they may guess.
//! What was wrong is never kept.

use std::{collections::HashSet, net::IpAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use mytunnel_keys::id::TunnelId;
use sha2::Sha256;

use super::Secret;
use crate::ingress::owner;

/// Proofs in one generation. At the bound the older of two generations is forgotten; whoever was in it pays again.
const GENERATION: usize = 16 * 1024;

/// Stands for credentials at a gate.
pub(super) type Proof = [u8; 32];

/// See the [module documentation](self).
pub(super) struct Proven {
    key: Hmac<Sha256>,
    young: HashSet<Proof>,
    old: HashSet<Proof>,
}

impl Proven {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = zeroize::Zeroizing::new([0; 64]);
        getrandom::fill(&mut *key)?;
        Ok(Self::keyed(&key))
    }

    fn keyed(key: &[u8; 64]) -> Self {
        Self { key: Hmac::new(key.into()), young: HashSet::new(), old: HashSet::new() }
    }

    /// What stands for these credentials.
    pub(super) fn proof(
        &self,
        tunnel: &TunnelId,
        secret: &Secret<'_>,
        credentials: &[u8],
        from: IpAddr,
    ) -> Proof {
        let from = owner(from).to_string();
        let mut mac = self.key.clone();
        mac.update(tunnel.as_bytes());
        mac.update(&secret.generation.to_be_bytes());
        mac.update(&[secret.kind as u8]);
        for part in [secret.user.as_bytes(), secret.hash.as_bytes(), from.as_bytes(), credentials] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether they were right.
    pub(super) fn holds(&self, proof: &Proof) -> bool {
        self.young.contains(proof) || self.old.contains(proof)
    }

    /// Notes that they are.
    pub(super) fn keep(&mut self, proof: Proof) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(proof);
    }
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven").field("young", &self.young.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Kind, *};

    #[test]
    fn a_proof_is_for_one_tunnel_one_setting_one_header_and_one_process() {
        let proven = Proven::keyed(&[1; 64]);
        let proof = |proven: &Proven, tunnel: u8, kind, hash: &str, generation, header: &[u8]| {
            let secret = Secret { kind, user: "", hash, generation };
            proven.proof(&TunnelId::from_bytes([tunnel; 16]), &secret, header, [192, 0, 2, 1].into())
        };
        let own = proof(&proven, 1, Kind::Pin, "h", 1, b"x");
        assert_eq!(own, proof(&proven, 1, Kind::Pin, "h", 1, b"x"));
        for other in [
            proof(&proven, 2, Kind::Pin, "h", 1, b"x"),
            proof(&proven, 1, Kind::Bearer, "h", 1, b"x"),
            proof(&proven, 1, Kind::Pin, "i", 1, b"x"),
            proof(&proven, 1, Kind::Pin, "h", 2, b"x"),
            proof(&proven, 1, Kind::Pin, "h", 1, b"y"),
            proof(&proven, 1, Kind::Pin, "hx", 1, b""),
            proof(&Proven::keyed(&[2; 64]), 1, Kind::Pin, "h", 1, b"x"),
        ] {
            assert_ne!(own, other);
        }
        let secret = Secret { kind: Kind::Pin, user: "", hash: "h", generation: 1 };
        let from =
            |from: &str| proven.proof(&TunnelId::from_bytes([1; 16]), &secret, b"x", from.parse().unwrap());
        assert_eq!(own, from("::ffff:192.0.2.1"));
        assert_ne!(own, from("192.0.2.2"));
        assert_eq!(from("2001:db8::1"), from("2001:db8::2"), "neighbours are one");
    }

    #[test]
    fn it_does_not_grow_and_forgets_the_oldest() {
        let mut proven = Proven::keyed(&[1; 64]);
        let number = |number: usize| {
            let mut proof = [0; 32];
            proof[..8].copy_from_slice(&(number as u64).to_be_bytes());
            proof
        };
        for at in 0..5 * GENERATION {
            proven.keep(number(at));
            assert!(proven.holds(&number(at)));
        }
        assert!(!proven.holds(&number(0)));
        assert!(proven.holds(&number(4 * GENERATION)));
        assert!(proven.young.len() + proven.old.len() <= 2 * GENERATION);
    }
}
