//! What of second factors is kept, and under which keys: the one key of the file `accounts.key`, never in the database.
//!
//! From it come keys for one use each: it encrypts the secrets of authenticators, it makes the secret that an
//! enrolment shows (so that nothing is kept before its proof, and nobody can bring a secret of their own), and it keys
//! the hashes of recovery codes, whose 40 bits could otherwise be tried out by whoever has a copy of the database, and it
//! vouches for links to a new password, of which nothing needs to be kept either: the operator of this machine makes
//! one from the file alone, whether the coordinator runs or not. Coordinators that share a database make the same setup
//! code of it.

use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mytunnel_keys::feed::SessionKey;
use mytunnel_keys::id::TunnelId;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::authority::RESET_LIFE;
use crate::random::{self, NoRandomness};

/// Bytes of an authenticator's secret: what RFC 4226 recommends.
pub(crate) const SECRET: usize = 20;
/// Bytes before the ciphertext.
const NONCE: usize = 24;
/// For so many seconds an enrolment shows the same secret; it can be confirmed until the end of the next such time.
const ENROLMENT: u64 = 10 * 60;

/// The secret of an authenticator.
pub(crate) type TotpSecret = Zeroizing<[u8; SECRET]>;

/// A key for each use.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Vault {
    seal: [u8; 32],
    enrol: [u8; 32],
    codes: [u8; 32],
    resets: [u8; 32],
    setup: [u8; 32],
    gates: [u8; 32],
}

/// Makes the keys of visitors' sessions, one for each setting of a gate: relays get them by the feed, and whoever has only
/// the database has none.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct GateSessions([u8; 32]);

impl std::fmt::Debug for GateSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GateSessions")
    }
}

impl GateSessions {
    /// What makes them in this era of the feed: generations begin anew with each, and no old session is to count again.
    pub(crate) fn in_era(&self, era: u64) -> Self {
        Self(mac(&self.0, &[b"era".as_slice(), &era.to_be_bytes()]))
    }

    /// The key of sessions at a gate of this kind that was set in this generation.
    pub(crate) fn key(&self, tunnel: &TunnelId, kind: &str, generation: u64) -> SessionKey {
        let parts = [tunnel.as_bytes().as_slice(), &generation.to_be_bytes(), kind.as_bytes()];
        SessionKey::from_bytes(mac(&self.0, &parts))
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self([7; 32])
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let of = |usage: &[u8]| mac(key, &[b"mytunnel accounts 1\0", usage]);
        Self {
            seal: of(b"authenticator"),
            enrol: of(b"enrolment"),
            codes: of(b"recovery code"),
            resets: of(b"password"),
            setup: of(b"set-up code"),
            gates: of(b"sessions at gates"),
        }
    }

    /// What makes the keys of visitors' sessions.
    pub(crate) fn gate_sessions(&self) -> GateSessions {
        GateSessions(self.gates)
    }

    /// What the database says of the key, so that another one is noticed at the start.
    pub(crate) fn fingerprint(key: &[u8; 32]) -> [u8; 32] {
        Sha256::new().chain_update(b"mytunnel accounts key 1\0").chain_update(key).finalize().into()
    }

    /// Encrypts a secret for this account.
    pub(crate) fn seal(&self, account: &str, secret: &TotpSecret) -> Result<Vec<u8>, NoRandomness> {
        let nonce: [u8; NONCE] = random::bytes()?;
        let message = Payload { msg: secret.as_slice(), aad: account.as_bytes() };
        let cipher = XChaCha20Poly1305::new((&self.seal).into());
        // It fails for messages of more than 256 GiB.
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), message).map_err(|_| NoRandomness)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what was sealed for this account, and for no other.
    pub(crate) fn open(&self, account: &str, sealed: &[u8]) -> Option<TotpSecret> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE)?;
        let message = Payload { msg: sealed, aad: account.as_bytes() };
        let cipher = XChaCha20Poly1305::new((&self.seal).into());
        let opened = Zeroizing::new(cipher.decrypt(XNonce::from_slice(nonce), message).ok()?);
        opened.as_slice().try_into().ok().map(Zeroizing::new)
    }

    /// The secret that an enrolment of this account shows at this time.
    pub(crate) fn enrolment(&self, account: &str, now: u64) -> TotpSecret {
        self.enrolment_in(account, now / ENROLMENT)
    }

    /// The secrets that can be confirmed at this time.
    pub(crate) fn confirmable(&self, account: &str, now: u64) -> [TotpSecret; 2] {
        let window = now / ENROLMENT;
        [window, window.saturating_sub(1)].map(|window| self.enrolment_in(account, window))
    }

    /// What the database keeps of a recovery code.
    pub(crate) fn recovery_hash(&self, account: &str, code: &str) -> [u8; 32] {
        mac(&self.codes, &[account.as_bytes(), b"\0", code.as_bytes()])
    }

    /// What the setup code is made of that all coordinators with this key give, by what the database keeps for it.
    pub(crate) fn setup_code(&self, salt: &[u8]) -> Zeroizing<[u8; 16]> {
        let mut code = Zeroizing::new([0; 16]);
        code.copy_from_slice(&mac(&self.setup, &[salt])[..16]);
        code
    }

    /// A link to a new password of the account with that address.
    pub(crate) fn reset_token(&self, email: &str, now: u64) -> Zeroizing<String> {
        let payload = [&now.to_be_bytes(), email.as_bytes()].concat();
        let mac = mac(&self.resets, &[&payload]);
        Zeroizing::new(BASE64URL_NOPAD.encode(&[mac.as_slice(), &payload].concat()))
    }

    /// Whose password such a token sets, and when it was made, if it is good at this time.
    pub(crate) fn read_reset(&self, token: &str, now: u64) -> Option<(String, u64)> {
        // The longest address has 254 characters.
        let bytes = Some(token.trim()).filter(|token| token.len() <= 512)?;
        let bytes = BASE64URL_NOPAD.decode(bytes.as_bytes()).ok()?;
        let (tag, payload) = bytes.split_at_checked(32)?;
        if !bool::from(tag.ct_eq(mac(&self.resets, &[payload]).as_slice())) {
            return None;
        }
        let (made_at, email) = payload.split_at_checked(8)?;
        let made_at = u64::from_be_bytes(made_at.try_into().ok()?);
        let email = std::str::from_utf8(email).ok()?.to_owned();
        (made_at <= now && now < made_at.checked_add(RESET_LIFE)?).then_some((email, made_at))
    }

    fn enrolment_in(&self, account: &str, window: u64) -> TotpSecret {
        let whole = Zeroizing::new(mac(&self.enrol, &[account.as_bytes(), b"\0", &window.to_be_bytes()]));
        let mut secret = Zeroizing::new([0; SECRET]);
        secret.copy_from_slice(&whole[..SECRET]);
        secret
    }
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC itself fills a key up to a block with zeros.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_sealed_secret_opens_for_its_account_and_key_only() {
        let vault = Vault::new(&[1; 32]);
        let secret = vault.enrolment("acc_1", NOW);
        let sealed = vault.seal("acc_1", &secret).unwrap();
        assert_ne!(sealed, vault.seal("acc_1", &secret).unwrap());
        assert!(!sealed.windows(8).any(|part| secret.windows(8).any(|clear| clear == part)));
        assert_eq!(vault.open("acc_1", &sealed), Some(secret));
        assert_eq!(vault.open("acc_2", &sealed), None);
        assert_eq!(Vault::new(&[2; 32]).open("acc_1", &sealed), None);
        for at in [0, NONCE, sealed.len() - 1] {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(vault.open("acc_1", &bent), None);
        }
        assert_eq!(vault.open("acc_1", &sealed[..NONCE - 1]), None);
    }

    #[test]
    fn an_enrolment_shows_one_secret_for_ten_minutes_and_another_to_everybody_else() {
        let vault = Vault::new(&[1; 32]);
        let start = NOW - NOW % ENROLMENT;
        let secret = vault.enrolment("acc_1", start);
        assert_eq!(secret, vault.enrolment("acc_1", start + ENROLMENT - 1));
        assert_ne!(secret, vault.enrolment("acc_1", start + ENROLMENT));
        assert_ne!(secret, vault.enrolment("acc_2", start));
        assert_ne!(secret, Vault::new(&[2; 32]).enrolment("acc_1", start));
        assert!(vault.confirmable("acc_1", start + 2 * ENROLMENT - 1).contains(&secret));
        assert!(!vault.confirmable("acc_1", start + 2 * ENROLMENT).contains(&secret));
    }

    #[test]
    fn a_recovery_code_hashes_under_account_and_key() {
        let hash = |key: u8, account| Vault::new(&[key; 32]).recovery_hash(account, "ABCD1234");
        assert_eq!(hash(1, "acc_1"), hash(1, "acc_1"));
        assert_ne!(hash(1, "acc_1"), hash(1, "acc_2"));
        assert_ne!(hash(1, "acc_1"), hash(2, "acc_1"));
    }

    #[test]
    fn a_link_to_a_new_password_is_for_one_address_for_an_hour() {
        let vault = Vault::new(&[1; 32]);
        let token = vault.reset_token("a@b.example", NOW);
        let read = |token: &str, now| vault.read_reset(token, now);
        assert_eq!(read(&token, NOW + RESET_LIFE - 1), Some(("a@b.example".to_owned(), NOW)));
        assert_eq!(read(&token, NOW + RESET_LIFE), None);
        assert_eq!(read(&token, NOW - 1), None);
        assert_eq!(Vault::new(&[2; 32]).read_reset(&token, NOW), None);
        let mut bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(read(&BASE64URL_NOPAD.encode(&bytes), NOW), None, "{at}");
            bytes[at] ^= 1;
        }
        for bad in ["", "AAAA", "ä", &"A".repeat(5000)] {
            assert_eq!(read(bad, NOW), None);
        }
    }

    #[test]
    fn a_key_of_sessions_is_for_one_setting_of_one_gate_of_one_tunnel() {
        let sessions = Vault::new(&[1; 32]).gate_sessions();
        let key = |tunnel: u8, kind, generation| {
            *sessions.key(&TunnelId::from_bytes([tunnel; 16]), kind, generation).as_bytes()
        };
        assert_eq!(key(1, "pin", 7), key(1, "pin", 7));
        for other in [key(2, "pin", 7), key(1, "oidc", 7), key(1, "pin", 8)] {
            assert_ne!(other, key(1, "pin", 7));
        }
        let tunnel = TunnelId::from_bytes([1; 16]);
        let in_era = |era| *sessions.in_era(era).key(&tunnel, "pin", 7).as_bytes();
        assert!(in_era(1) == in_era(1) && in_era(1) != in_era(2));
        let elsewhere = Vault::new(&[2; 32]).gate_sessions();
        assert_ne!(*elsewhere.key(&TunnelId::from_bytes([1; 16]), "pin", 7).as_bytes(), key(1, "pin", 7));
    }
}
