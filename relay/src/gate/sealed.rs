//! What a browser carries between our pages, so that no relay has to remember it: sealed with the key of the gate that it
//! is for, each kind of it under a label of its own.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mytunnel_keys::feed::SessionKey;
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Longest text that is looked at.
const MAX_TEXT: usize = 4096;
const SEAL: usize = 32;

/// Something that is sealed.
pub(super) trait Carried: Serialize + DeserializeOwned {
    /// Tells it from every other kind under the same key.
    const LABEL: &'static str;

    /// The Unix second from which on it counts no more.
    fn ends_at(&self) -> u64;
}

/// Seals it for a browser. Nothing comes of what cannot be written.
pub(super) fn seal<T: Carried>(key: &SessionKey, content: &T) -> Option<String> {
    let content = serde_json::to_vec(content).ok()?;
    let bytes = [mac(key, T::LABEL, &content).as_slice(), &content].concat();
    Some(BASE64URL_NOPAD.encode(&bytes))
}

/// What it says, whoever wrote it: to find out whose key it is sealed with, and for nothing else.
pub(super) fn peek<T: Carried>(text: &str) -> Option<T> {
    serde_json::from_slice(split(text)?.1.as_slice()).ok()
}

/// What was sealed with this key and has not ended.
pub(super) fn open<T: Carried>(key: &SessionKey, text: &str, now: u64) -> Option<T> {
    let (seal, content) = split(text)?;
    if !bool::from(seal.ct_eq(mac(key, T::LABEL, &content).as_slice())) {
        return None;
    }
    serde_json::from_slice(&content).ok().filter(|content: &T| now < content.ends_at())
}

/// Bytes that only who has the key can make of this text.
pub(super) fn derive(key: &SessionKey, label: &str, text: &str) -> [u8; SEAL] {
    mac(key, label, text.as_bytes())
}

fn split(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = Some(text).filter(|text| text.len() <= MAX_TEXT)?;
    let mut seal = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    if seal.len() < SEAL {
        return None;
    }
    let content = seal.split_off(SEAL);
    Some((seal, content))
}

fn mac(key: &SessionKey, label: &str, content: &[u8]) -> [u8; SEAL] {
    // HMAC itself fills a key up to a block with zeros.
    let mut block = zeroize::Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.as_bytes());
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(b"mytunnel sign-in at a gate 1\0");
    mac.update(label.as_bytes());
    mac.update(b"\0");
    mac.update(content);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([7; 32]);

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct One(u64);
    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Other(u64);

    impl Carried for One {
        const LABEL: &'static str = "one";

        fn ends_at(&self) -> u64 {
            self.0
        }
    }

    impl Carried for Other {
        const LABEL: &'static str = "other";

        fn ends_at(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn it_counts_for_one_key_one_purpose_and_its_time() {
        let text = seal(&KEY, &One(100)).unwrap();
        assert_eq!((peek(&text), open(&KEY, &text, 99)), (Some(One(100)), Some(One(100))));
        assert_eq!(open::<One>(&KEY, &text, 100), None);
        assert_eq!(open::<Other>(&KEY, &text, 99), None);
        assert_eq!(open::<One>(&SessionKey::from_bytes([8; 32]), &text, 99), None);
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(open::<One>(&KEY, &BASE64URL_NOPAD.encode(&changed), 99), None, "{at}");
            assert_eq!(open::<One>(&KEY, &BASE64URL_NOPAD.encode(&bytes[..at]), 99), None, "{at}");
        }
        assert_eq!(open::<One>(&KEY, &"A".repeat(MAX_TEXT + 1), 99), None);
        assert_ne!(derive(&KEY, "a", "x"), derive(&KEY, "b", "x"));
    }
}
