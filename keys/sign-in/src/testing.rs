//! What the tests of this crate need: an issuer without a network.

use std::sync::atomic::{AtomicU8, Ordering};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::keys::Keys;
use crate::provider::{Provider, Settings};

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const CLIENT: &str = "client";
pub(crate) const NONCE: &str = "a nonce";
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn provider(id: &str, domains: &[&str]) -> Provider {
    Provider::new(Settings {
        id: id.to_owned(),
        issuer: (id == "co").then(|| ISSUER.to_owned()),
        client_id: CLIENT.to_owned(),
        client_secret: Zeroizing::new("secret".to_owned()),
        allowed_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        name: None,
        authorities: None,
    })
    .unwrap()
}

pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "subject", "aud": CLIENT, "exp": NOW + 300, "iat": NOW, "nonce": NONCE})
}

/// A key set of one key, and what signs by it; another one each time.
pub(crate) fn ed25519(kid: &str) -> (Keys, EncodingKey) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    // RFC 8410: the prefix of a PKCS #8 document that holds a seed.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([NEXT.fetch_add(1, Ordering::Relaxed); 32]);
    let signer = EncodingKey::from_ed_der(&der);
    let mut key = jsonwebtoken::jwk::Jwk::from_encoding_key(&signer, Algorithm::EdDSA).unwrap();
    key.common.key_id = Some(kid.to_owned());
    (Keys::read(json!({"keys": [key]}).to_string().as_bytes()).unwrap(), signer)
}

pub(crate) fn signed(signer: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, signer).unwrap()
}
