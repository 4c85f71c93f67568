//! The key is the identity: a credential's key as a libp2p key pair and as a peer id, and back.

use libp2p::{PeerId, identity::Keypair, multihash::Multihash};
use mytunnel_keys::{id::PublicKey, secret::Seed};

/// The libp2p key pair of a seed.
pub fn keypair(seed: &Seed) -> Keypair {
    let mut bytes = *seed.expose();
    // libp2p wipes the bytes that it was given.
    Keypair::ed25519_from_bytes(&mut bytes).expect("every 32 bytes are an Ed25519 seed")
}

/// The peer id of a public key.
pub fn peer_id(key: &PublicKey) -> PeerId {
    Multihash::from_bytes(&key.peer_id_bytes())
        .ok()
        .and_then(|hash| PeerId::from_multihash(hash).ok())
        .expect("an identity multihash of 36 bytes is a peer id")
}

/// The public key in a peer id.
///
/// `None` for keys of other kinds, and for weak ones: libp2p's own handshakes let those pass, and anybody can sign for
/// them.
pub fn public_key(peer: &PeerId) -> Option<PublicKey> {
    PublicKey::from_peer_id_bytes(&peer.to_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_key_and_peer_id_are_one_identity() {
        let seed = Seed::from_bytes([7; 32]);
        let keypair = keypair(&seed);
        let peer = keypair.public().to_peer_id();

        assert_eq!(peer_id(&seed.public()), peer);
        assert_eq!(public_key(&peer), Some(seed.public()));
        assert_eq!(keypair.sign(b"message").unwrap(), seed.sign(b"message"));
    }

    #[test]
    fn weak_keys_and_other_kinds_have_no_public_key() {
        // The identity point: for it, one fixed signature fits every message.
        let weak: PeerId = "12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH".parse().unwrap();
        assert_eq!(public_key(&weak), None);
        assert_eq!(public_key(&PeerId::random()), None);
    }
}
