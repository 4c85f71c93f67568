//! What a visitor's browser keeps once they have passed a gate that people pass: until when it counts, and who they are,
//! sealed with the key of that gate's setting.
//!
//! The key comes by the feed and is every relay's, so that a session counts at each of them and after each start; it is
//! another one with each setting, so that no session outlives what it was made for. The seal covers the host: what one
//! name's browser was given means nothing at another.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mytunnel_keys::feed::SessionKey;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Longest value that is looked at.
pub(super) const MAX_VALUE: usize = 2048;
const SEAL: usize = 32;
const END: usize = 8;

/// A session that was sealed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The Unix second at which it ends.
    pub(super) ends_at: u64,
    /// What is known of the visitor; nothing where nobody was asked who they are.
    pub(super) who: Vec<u8>,
}

impl Session {
    /// As a cookie's value.
    pub(super) fn seal(&self, key: &SessionKey, host: &str) -> String {
        let seal = sealed(key, host, self.ends_at, &self.who);
        let bytes = [seal.as_slice(), &self.ends_at.to_be_bytes(), &self.who].concat();
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// From a cookie's value, if it was sealed for this host and has not ended.
    pub(super) fn open(value: &[u8], key: &SessionKey, host: &str, now: u64) -> Option<Self> {
        let value = Some(value).filter(|value| value.len() <= MAX_VALUE)?;
        let bytes = BASE64URL_NOPAD.decode(value).ok()?;
        let (seal, rest) = bytes.split_at_checked(SEAL)?;
        let (end, who) = rest.split_at_checked(END)?;
        let ends_at = u64::from_be_bytes(end.try_into().ok()?);
        let is_ours = bool::from(seal.ct_eq(sealed(key, host, ends_at, who).as_slice()));
        (is_ours && now < ends_at).then(|| Self { ends_at, who: who.to_vec() })
    }
}

fn sealed(key: &SessionKey, host: &str, ends_at: u64, who: &[u8]) -> [u8; SEAL] {
    // HMAC itself fills a key up to a block with zeros.
    let mut block = zeroize::Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key.as_bytes());
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    mac.update(b"mytunnel session at a gate 1\0");
    mac.update(&(host.len() as u64).to_be_bytes());
    mac.update(host.as_bytes());
    mac.update(&ends_at.to_be_bytes());
    mac.update(who);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([7; 32]);
    const HOST: &str = "web.tun.test";
    const NOW: u64 = 1_800_000_000;

    fn session() -> Session {
        Session { ends_at: NOW + 60, who: b"ann@acme.example".to_vec() }
    }

    #[test]
    fn it_counts_for_one_key_one_host_and_its_time() {
        let value = session().seal(&KEY, HOST);
        let open = |value: &str, key: &SessionKey, host, now| Session::open(value.as_bytes(), key, host, now);
        assert_eq!(open(&value, &KEY, HOST, NOW), Some(session()));
        assert_eq!(open(&value, &KEY, HOST, NOW + 59), Some(session()));
        assert_eq!(open(&value, &KEY, HOST, NOW + 60), None);
        assert_eq!(open(&value, &KEY, "evil.tun.test", NOW), None);
        assert_eq!(open(&value, &SessionKey::from_bytes([8; 32]), HOST, NOW), None);
        let nobody = Session { ends_at: NOW + 60, who: Vec::new() };
        assert_eq!(open(&nobody.seal(&KEY, HOST), &KEY, HOST, NOW), Some(nobody));
    }

    #[test]
    fn no_bit_of_it_can_be_changed() {
        let value = BASE64URL_NOPAD.decode(session().seal(&KEY, HOST).as_bytes()).unwrap();
        for at in 0..value.len() {
            let mut other = value.clone();
            other[at] ^= 1;
            let text = BASE64URL_NOPAD.encode(&other);
            assert_eq!(Session::open(text.as_bytes(), &KEY, HOST, NOW), None, "{at}");
        }
        for cut in 0..value.len() {
            let text = BASE64URL_NOPAD.encode(&value[..cut]);
            assert_eq!(Session::open(text.as_bytes(), &KEY, HOST, NOW), None, "{cut}");
        }
        // What is moved between the host and the visitor's name stays none.
        let moved = Session { ends_at: NOW + 60, who: b"tann@acme.example".to_vec() };
        assert_ne!(moved.seal(&KEY, "web.tun.tes"), session().seal(&KEY, HOST));
    }

    proptest! {
        #[test]
        fn whatever_a_browser_sends_is_refused(value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Session::open(&value, &KEY, HOST, NOW), None);
        }
    }
}
