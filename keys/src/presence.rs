//! A node's word that it is at a relay: signed by its key for each session, passed on by the relay to its coordinator.
//!
//! A relay is believed about the use of keys that came to it. That they did, it cannot make up: a COSE_Sign1 message over
//! cluster, relay and time, under a type of its own, so that no other signature of a node passes for it. Who shows it
//! proves nothing but that: the relay it names may charge the key.

use thiserror::Error;

use crate::{
    Verified,
    cbor::{self, FieldError, Reader, Writer},
    cose::{self, Envelope, EnvelopeError},
    error::Code,
    id::{Cluster, PublicKey, Serial, SignatureError},
    secret::Seed,
    trust::PRIVATE,
};

/// How far a presence's time may be from that of whoever sees it for the first time, in seconds. A relay that was cut off
/// shows it later, and a node's clock may be wrong; once it was shown, the session is what lasts.
pub const WINDOW: u64 = 24 * 3600;

const TYPE: &str = "mtk-presence+cwt";
const MAX: usize = 512;

/// What a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Serial of the key that signed.
    pub serial: Serial,
    /// When, by the node's clock.
    pub issued_at: u64,
}

/// Why a presence is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// Not a signed presence.
    #[error("the proof of presence is malformed")]
    Envelope(#[from] EnvelopeError),
    /// Its content is not a presence's.
    #[error("the proof of presence is malformed")]
    Content(#[from] FieldError),
    /// The signature is wrong.
    #[error("the proof of presence: {0}")]
    Signature(#[from] SignatureError),
    /// Of another cluster, relay or key.
    #[error("the proof of presence is for another relay or key")]
    Other,
    /// Too old, or from the future.
    #[error("the proof of presence was made at {issued_at}, and it is {now}: check the clock")]
    OutOfTime {
        /// When it was made.
        issued_at: u64,
        /// The time of whoever looks.
        now: u64,
    },
}

impl PresenceError {
    /// What to tell the node.
    pub const fn code(&self) -> Code {
        match self {
            Self::OutOfTime { .. } => Code::KeyExpired,
            Self::Envelope(_) | Self::Content(_) | Self::Signature(_) | Self::Other => Code::InvalidKey,
        }
    }
}

/// Says that the holder of a key is at a relay.
pub fn sign(seed: &Seed, serial: &Serial, cluster: &Cluster, relay: &PublicKey, now: u64) -> Vec<u8> {
    cose::sign(TYPE, serial.as_bytes(), write(cluster, relay, now), seed)
}

/// A presence that names its signer and is not verified yet.
#[derive(Debug)]
pub struct UnverifiedPresence {
    envelope: Envelope<16>,
    presence: Presence,
}

impl UnverifiedPresence {
    /// Reads what [`sign`] wrote.
    ///
    /// # Errors
    /// When it is not a presence in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<Self, PresenceError> {
        let envelope = Envelope::parse(TYPE, bytes, MAX)?;
        let issued_at = read(&envelope.payload)?;
        let presence = Presence { serial: Serial::from_bytes(envelope.kid), issued_at };
        Ok(Self { envelope, presence })
    }

    /// The key that claims to have signed.
    pub const fn serial(&self) -> Serial {
        self.presence.serial
    }

    /// Checks it with the key of that serial.
    ///
    /// # Errors
    /// When it is not of this key, for another relay, or not of this time.
    pub fn verify(
        self,
        key: &PublicKey,
        cluster: &Cluster,
        relay: &PublicKey,
        now: u64,
    ) -> Result<Verified<Presence>, PresenceError> {
        self.envelope.verify(key)?;
        let Presence { issued_at, .. } = self.presence;
        if self.envelope.payload != write(cluster, relay, issued_at) {
            return Err(PresenceError::Other);
        }
        if now.abs_diff(issued_at) > WINDOW {
            return Err(PresenceError::OutOfTime { issued_at, now });
        }
        Ok(Verified::new(self.presence))
    }
}

fn write(cluster: &Cluster, relay: &PublicKey, issued_at: u64) -> Vec<u8> {
    encode(cluster.as_str(), relay.as_bytes(), issued_at)
}

fn encode(cluster: &str, relay: &[u8; 32], issued_at: u64) -> Vec<u8> {
    let private = Writer::new().put(1, 1).put(2, relay.as_slice());
    cbor::encode(&Writer::new().put(3, cluster).put(6, issued_at).put(PRIVATE, private.finish()).finish())
}

fn read(payload: &[u8]) -> Result<u64, FieldError> {
    let mut claims = Reader::new(cbor::decode(payload)?)?;
    let mut private = claims.map(PRIVATE)?;
    private.exactly(1, 1)?;
    let cluster: Cluster = claims.text(3)?;
    let issued_at = claims.uint(6)?;
    let relay = private.bytes(2)?;
    private.finish()?;
    claims.finish()?;
    cbor::same(payload, &encode(cluster.as_str(), &relay, issued_at))?;
    Ok(issued_at)
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests {
    use super::*;
    use crate::{
        proof::{self, UnverifiedRequest},
        testing::{NOW, claims, cluster, holder, seed},
    };

    fn relay() -> PublicKey {
        seed(7).public()
    }

    fn shown() -> Vec<u8> {
        sign(&holder(), &claims().serial, &cluster(), &relay(), NOW)
    }

    fn check(bytes: &[u8], relay: &PublicKey, now: u64) -> Result<Verified<Presence>, PresenceError> {
        UnverifiedPresence::parse(bytes)?.verify(&holder().public(), &cluster(), relay, now)
    }

    #[test]
    fn it_says_who_is_where() {
        let presence = check(&shown(), &relay(), NOW).unwrap();
        assert_eq!(*presence, Presence { serial: claims().serial, issued_at: NOW });
        assert!(shown().len() < 200, "{}", shown().len());
    }

    #[test]
    fn it_is_for_one_relay_of_one_cluster_and_by_one_key() {
        assert_eq!(check(&shown(), &seed(8).public(), NOW), Err(PresenceError::Other));
        let other = UnverifiedPresence::parse(&shown()).unwrap();
        let elsewhere = "other.example".parse().unwrap();
        let refused = other.verify(&holder().public(), &elsewhere, &relay(), NOW);
        assert_eq!(refused, Err(PresenceError::Other));
        let other = UnverifiedPresence::parse(&shown()).unwrap();
        let refused = other.verify(&seed(9).public(), &cluster(), &relay(), NOW);
        assert_eq!(refused, Err(PresenceError::Signature(SignatureError)));
    }

    #[test]
    fn it_is_of_its_time() {
        for (now, good) in [(NOW + WINDOW, true), (NOW - WINDOW, true), (NOW + WINDOW + 1, false), (0, false)]
        {
            assert_eq!(check(&shown(), &relay(), now).is_ok(), good, "{now}");
        }
    }

    #[test]
    fn no_other_signature_of_a_node_passes_for_it() {
        let cluster = cluster();
        let request = proof::Request { cluster: &cluster, method: "POST", path: "/", body: b"" };
        let header = proof::sign_request(&holder(), &claims().serial, &request, NOW, [1; 16]);
        let bytes =
            data_encoding::BASE64URL_NOPAD.decode(header.split_once(' ').unwrap().1.as_bytes()).unwrap();
        assert!(matches!(
            UnverifiedPresence::parse(&bytes),
            Err(PresenceError::Envelope(EnvelopeError::Type { .. }))
        ));
        let header = format!("Mytunnel {}", data_encoding::BASE64URL_NOPAD.encode(&shown()));
        assert!(UnverifiedRequest::parse(&header).is_err());
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let whole = shown();
        for at in 0..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[at] ^= 1;
            assert!(check(&spoilt, &relay(), NOW).is_err() || spoilt == whole, "byte {at}");
            assert!(UnverifiedPresence::parse(&whole[..at]).is_err());
        }
    }
}
