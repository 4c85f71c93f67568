//! Byte strings in CBOR, of any length: for `#[serde(with = "crate::bytes")]` on `Vec<u8>` and `[u8; N]`.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(crate) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes.as_ref())
}

pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    deserializer.deserialize_byte_buf(BytesVisitor(PhantomData))
}

struct BytesVisitor<T>(PhantomData<T>);

impl<T: TryFrom<Vec<u8>>> de::Visitor<'_> for BytesVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes of the right length")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        self.visit_byte_buf(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        let length = bytes.len();
        T::try_from(bytes).map_err(|_| E::invalid_length(length, &self))
    }
}

/// What peers send each other, as CBOR.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    encode_behind(Vec::new(), value)
}

/// The same behind what is there.
pub(crate) fn encode_behind(mut bytes: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    ciborium::into_writer(value, &mut bytes).expect("memory takes what is written, and our types have names");
    bytes
}

/// The value of exactly these bytes.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16).ok()?;
    rest.is_empty().then_some(value)
}
