//! Signed messages: COSE_Sign1 (RFC 9052) with exactly one shape.
//!
//! Tag 18; protected header of `alg` = Ed25519 (-19, RFC 9864), `kid` and `typ` (RFC 9596) and nothing else; empty
//! unprotected header; no external data, so that any COSE library can check them. `typ` keeps one kind of message from
//! passing as another. Every other encoding of the same is refused.

use ciborium::Value;
use coset::{
    Algorithm, CoseSign1, CoseSign1Builder, Header, HeaderBuilder, Label, TaggedCborSerializable as _, iana,
};
use thiserror::Error;

use crate::{
    id::{PublicKey, SignatureError},
    secret::Seed,
};

/// Bytes up to the end of the protected header, when it is one of ours.
const MAX_HEADER: usize = 64;

/// Label of `typ` in a header.
const TYP: i64 = 16;

/// What is wrong with the envelope of a signed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Longer than such a message can be.
    #[error("{found} bytes are over the limit of {max}")]
    TooLarge {
        /// How long it is.
        found: usize,
        /// How long it may be.
        max: usize,
    },
    /// Not a COSE_Sign1 message, or not in deterministic encoding.
    #[error("not a COSE_Sign1 message in deterministic encoding")]
    Malformed,
    /// Signed by another algorithm.
    #[error("not signed by Ed25519")]
    Algorithm,
    /// Another kind of message.
    #[error("not a message of type {expected}")]
    Type {
        /// The type it should have.
        expected: &'static str,
    },
    /// A header that does not belong there, or lacks.
    #[error("the header is not exactly alg, kid and typ")]
    Header,
}

/// A message that has the right shape and is not verified yet.
#[derive(Debug)]
pub(crate) struct Envelope<const KID: usize> {
    pub(crate) kid: [u8; KID],
    pub(crate) payload: Vec<u8>,
    signature: [u8; 64],
    signed: Vec<u8>,
}

impl<const KID: usize> Envelope<KID> {
    pub(crate) fn parse(typ: &'static str, bytes: &[u8], max: usize) -> Result<Self, EnvelopeError> {
        if bytes.len() > max {
            return Err(EnvelopeError::TooLarge { found: bytes.len(), max });
        }
        check_outline(bytes)?;
        let message = CoseSign1::from_tagged_slice(bytes).map_err(|_| EnvelopeError::Malformed)?;
        let kid = check_header(typ, &message)?;
        let signed = message.tbs_data(&[]);
        let signature = message.signature.as_slice().try_into().map_err(|_| EnvelopeError::Malformed)?;
        let payload = message.payload.ok_or(EnvelopeError::Malformed)?;
        let written = seal(typ, &kid, payload, |_| signature);
        if written.bytes != bytes {
            return Err(EnvelopeError::Malformed);
        }
        Ok(Self { kid, payload: written.payload, signature, signed })
    }

    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), SignatureError> {
        key.verify(&self.signed, &self.signature)
    }
}

/// The bytes of a signed message.
pub(crate) fn sign(typ: &'static str, kid: &[u8], payload: Vec<u8>, key: &Seed) -> Vec<u8> {
    seal(typ, kid, payload, |signed| key.sign(signed)).bytes
}

struct Sealed {
    bytes: Vec<u8>,
    payload: Vec<u8>,
}

fn seal(typ: &'static str, kid: &[u8], payload: Vec<u8>, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Sealed {
    let header = HeaderBuilder::new()
        .algorithm(iana::Algorithm::Ed25519)
        .key_id(kid.to_vec())
        .value(TYP, Value::from(typ))
        .build();
    let message = CoseSign1Builder::new()
        .protected(header)
        .payload(payload.clone())
        .create_signature(&[], |signed| sign(signed).to_vec())
        .build();
    let bytes = message.to_tagged_vec().expect("a header of three different labels can be written");
    Sealed { bytes, payload }
}

/// Looks at lengths only, so that what the CBOR reader allocates before the signature is checked stays in proportion:
/// tag 18, array of 4, a short byte string, empty map, byte string, byte string of 64.
fn check_outline(bytes: &[u8]) -> Result<(), EnvelopeError> {
    let rest = bytes.strip_prefix(&[0xd2, 0x84]).and_then(skip_bytes).ok_or(EnvelopeError::Malformed)?;
    if bytes.len() - rest.len() > MAX_HEADER {
        return Err(EnvelopeError::Header);
    }
    let rest = match rest {
        [0xa0, rest @ ..] => rest,
        [0xa1..=0xbf, ..] => return Err(EnvelopeError::Header),
        _ => return Err(EnvelopeError::Malformed),
    };
    match skip_bytes(rest) {
        Some([0x58, 64, signature @ ..]) if signature.len() == 64 => Ok(()),
        _ => Err(EnvelopeError::Malformed),
    }
}

/// What follows a byte string.
fn skip_bytes(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = match bytes {
        [head @ 0x40..=0x57, rest @ ..] => (usize::from(head - 0x40), rest),
        [0x58, a, rest @ ..] => (usize::from(*a), rest),
        [0x59, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
        [0x5a, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return None,
    };
    rest.get(length..)
}

fn check_header<const KID: usize>(
    typ: &'static str,
    message: &CoseSign1,
) -> Result<[u8; KID], EnvelopeError> {
    let header = &message.protected.header;
    if header.alg != Some(Algorithm::Assigned(iana::Algorithm::Ed25519)) {
        return Err(EnvelopeError::Algorithm);
    }
    if !header.rest.contains(&(Label::Int(TYP), Value::from(typ))) {
        return Err(EnvelopeError::Type { expected: typ });
    }
    let only_ours = Header {
        alg: header.alg.clone(),
        key_id: header.key_id.clone(),
        rest: vec![(Label::Int(TYP), Value::from(typ))],
        ..Header::default()
    };
    if *header != only_ours || !message.unprotected.is_empty() {
        return Err(EnvelopeError::Header);
    }
    header.key_id.as_slice().try_into().map_err(|_| EnvelopeError::Header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "test+cwt";

    fn key() -> Seed {
        Seed::from_bytes([1; 32])
    }

    fn parse(bytes: &[u8]) -> Result<Envelope<8>, EnvelopeError> {
        Envelope::parse(TYPE, bytes, 1024)
    }

    /// A message with this header, rightly signed.
    fn signed(protected: Header, unprotected: Header) -> Vec<u8> {
        CoseSign1Builder::new()
            .protected(protected)
            .unprotected(unprotected)
            .payload(b"payload".to_vec())
            .create_signature(&[], |message| key().sign(message).to_vec())
            .build()
            .to_tagged_vec()
            .unwrap()
    }

    fn header() -> HeaderBuilder {
        HeaderBuilder::new()
            .algorithm(iana::Algorithm::Ed25519)
            .key_id(vec![7; 8])
            .value(TYP, Value::from(TYPE))
    }

    #[test]
    fn a_message_comes_back_and_verifies() {
        let bytes = sign(TYPE, &[7; 8], b"payload".to_vec(), &key());
        assert_eq!(bytes, signed(header().build(), Header::default()));
        let envelope = parse(&bytes).unwrap();
        assert_eq!((envelope.kid, envelope.payload.as_slice()), ([7; 8], b"payload".as_slice()));
        assert_eq!(envelope.verify(&key().public()), Ok(()));
        assert_eq!(envelope.verify(&Seed::from_bytes([2; 32]).public()), Err(SignatureError));
    }

    #[test]
    fn headers_other_than_ours_are_refused() {
        let refused =
            |protected: HeaderBuilder| parse(&signed(protected.build(), Header::default())).unwrap_err();
        let eddsa = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(vec![7; 8]);
        assert_eq!(refused(eddsa.value(TYP, Value::from(TYPE))), EnvelopeError::Algorithm);
        let other = || HeaderBuilder::new().algorithm(iana::Algorithm::Ed25519).key_id(vec![7; 8]);
        assert_eq!(
            refused(other().value(TYP, Value::from("mtk+cwt"))),
            EnvelopeError::Type { expected: TYPE }
        );
        assert_eq!(refused(other()), EnvelopeError::Type { expected: TYPE });
        assert_eq!(refused(header().add_critical(iana::HeaderParameter::Alg)), EnvelopeError::Header);
        assert_eq!(refused(header().iv(vec![1])), EnvelopeError::Header);
        assert_eq!(refused(header().value(99, Value::Null)), EnvelopeError::Header);
        assert_eq!(refused(header().value(99, Value::from("x".repeat(99)))), EnvelopeError::Header);
        assert_eq!(refused(header().key_id(vec![7; 9])), EnvelopeError::Header);
    }

    #[test]
    fn an_unprotected_header_is_refused() {
        let unprotected = HeaderBuilder::new().key_id(vec![7; 8]).build();
        assert_eq!(parse(&signed(header().build(), unprotected)).unwrap_err(), EnvelopeError::Header);
    }

    #[test]
    fn other_encodings_of_the_same_are_refused() {
        let bytes = sign(TYPE, &[7; 8], b"payload".to_vec(), &key());
        assert_eq!(parse(&bytes[1..]).unwrap_err(), EnvelopeError::Malformed, "without its tag");
        let long_tag = [&[0xd8, 0x12], &bytes[1..]].concat();
        assert_eq!(parse(&long_tag).unwrap_err(), EnvelopeError::Malformed);
        let trailing = [bytes.as_slice(), &[0]].concat();
        assert_eq!(parse(&trailing).unwrap_err(), EnvelopeError::Malformed);
        let endless = [&[0xd2, 0x9f], &bytes[2..], &[0xff]].concat();
        assert_eq!(parse(&endless).unwrap_err(), EnvelopeError::Malformed);
        assert_eq!(parse(&[0x81; 1000]).unwrap_err(), EnvelopeError::Malformed, "deep nesting");
        assert_eq!(parse(&[0; 1025]).unwrap_err(), EnvelopeError::TooLarge { found: 1025, max: 1024 });
    }

    #[test]
    fn headers_in_another_order_are_refused() {
        let mut bytes = sign(TYPE, &[7; 8], b"payload".to_vec(), &key());
        // a3 | 01 32 | 04 48 kid | 10 68 typ: put kid before alg.
        let alg = bytes.windows(2).position(|pair| pair == [0x01, 0x32]).unwrap();
        bytes[alg..alg + 12].rotate_left(2);
        assert_eq!(bytes[alg..alg + 2], [0x04, 0x48]);
        assert_eq!(parse(&bytes).unwrap_err(), EnvelopeError::Malformed);
    }
}
