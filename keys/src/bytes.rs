//! Byte fields in serde types: base64url text where people read (JSON), a byte string where they do not (CBOR).
//!
//! For `#[serde(with = "crate::bytes")]` on `Vec<u8>` and `[u8; N]`, and for the identifiers' own implementations.

use std::{fmt, marker::PhantomData};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserializer, Serializer, de};

pub(crate) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(bytes.as_ref()))
    } else {
        serializer.serialize_bytes(bytes.as_ref())
    }
}

pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(BytesVisitor(PhantomData))
    } else {
        deserializer.deserialize_bytes(BytesVisitor(PhantomData))
    }
}

struct BytesVisitor<T>(PhantomData<T>);

impl<T: TryFrom<Vec<u8>>> de::Visitor<'_> for BytesVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes of the right length")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| E::custom("not base64url without padding"))?;
        self.visit_byte_buf(bytes)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        self.visit_byte_buf(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        let length = bytes.len();
        T::try_from(bytes).map_err(|_| E::invalid_length(length, &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Both {
        #[serde(with = "crate::bytes")]
        long: Vec<u8>,
        #[serde(with = "crate::bytes")]
        exact: [u8; 4],
    }

    #[test]
    fn text_in_json_and_byte_strings_in_cbor() {
        let both = Both { long: vec![0xfb, 0xff], exact: [1, 2, 3, 4] };
        let json = serde_json::to_string(&both).unwrap();
        assert_eq!(json, r#"{"long":"-_8","exact":"AQIDBA"}"#);
        assert_eq!(serde_json::from_str::<Both>(&json).unwrap(), both);

        let mut cbor = Vec::new();
        ciborium::into_writer(&both, &mut cbor).unwrap();
        assert!(cbor.windows(3).any(|part| part == [0x42, 0xfb, 0xff]));
        assert_eq!(ciborium::from_reader::<Both, _>(&cbor[..]).unwrap(), both);
    }

    #[test]
    fn a_wrong_length_or_alphabet_is_refused() {
        for json in [
            r#"{"long":"","exact":"AQID"}"#,
            r#"{"long":"+/8","exact":"AQIDBA"}"#,
            r#"{"long":"-_9","exact":"AQIDBA"}"#,
        ] {
            assert!(serde_json::from_str::<Both>(json).is_err(), "{json}");
        }
    }
}
