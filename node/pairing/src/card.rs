//! Who somebody in a session is: a name, a kind of agent, and the key that signs what it says.

use mytunnel_keys::{id::PublicKey, secret::Seed};
use serde::{Deserialize, Serialize};

use crate::{bytes, limits, secret, text};

const DOMAIN: &str = "mytunnel pair card 1";

/// What one end of a handshake says of itself, signed for that handshake alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    /// Name, as wished.
    pub name: String,
    /// What runs there, such as `claude-code`; may be empty.
    pub agent: String,
    /// Version of this program.
    pub version: String,
    /// The key that signs what this member says in this session.
    pub key: PublicKey,
    #[serde(with = "bytes")]
    signature: [u8; 64],
}

impl Card {
    /// Signs a card for the handshake with this hash.
    pub(crate) fn sign(name: &str, agent: &str, seed: &Seed, handshake: &[u8; 32]) -> Self {
        let mut card = Self {
            name: text::cut(name),
            agent: text::cut(agent),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: seed.public(),
            signature: [0; 64],
        };
        card.signature = seed.sign(&card.signed(handshake));
        card
    }

    /// Reads a card and checks that its key signed it for this very handshake.
    pub(crate) fn open(bytes: &[u8], handshake: &[u8; 32]) -> Option<Self> {
        bytes::decode::<Self>(bytes)?.checked(handshake)
    }

    /// See [`Self::open`].
    pub(crate) fn checked(self, handshake: &[u8; 32]) -> Option<Self> {
        let mut card = self;
        if card.name.len() > limits::FIELD {
            return None;
        }
        card.key.verify(&card.signed(handshake), &card.signature).ok()?;
        card.name = text::name(&card.name)?;
        card.agent = text::field(&card.agent)?;
        card.version = text::field(&card.version)?;
        Some(card)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    fn signed(&self, handshake: &[u8; 32]) -> [u8; 32] {
        let fields = [self.name.as_bytes(), self.agent.as_bytes(), self.version.as_bytes()];
        secret::hash_of(DOMAIN, &[handshake, fields[0], fields[1], fields[2], self.key.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_holds_for_its_handshake_and_as_it_was_signed() {
        let seed = Seed::from_bytes([1; 32]);
        let card = Card::sign("ada", "claude-code", &seed, &[2; 32]);
        assert_eq!(Card::open(&card.to_bytes(), &[2; 32]), Some(card.clone()));
        assert_eq!(Card::open(&card.to_bytes(), &[3; 32]), None);
        let other = Card { name: "bob".to_owned(), ..card };
        assert_eq!(Card::open(&other.to_bytes(), &[2; 32]), None);
    }

    #[test]
    fn a_name_that_could_deceive_is_refused_even_signed() {
        let seed = Seed::from_bytes([1; 32]);
        for name in ["", "a\nb", "a\u{202e}b", "\u{1b}[2J", "аda"] {
            let card = Card::sign(name, "", &seed, &[2; 32]);
            assert_eq!(Card::open(&card.to_bytes(), &[2; 32]), None, "{name:?}");
        }
    }
}
