//! The keys of an issuer, and signatures by them.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde::Deserialize;

use crate::claims::Claims;
use crate::error::{SignInError, TokenError};

/// Keys of one issuer that are looked at; real ones have two to ten.
const MAX_KEYS: usize = 64;
/// Longest ID token.
const MAX_TOKEN: usize = 32 * 1024;

/// The public keys that an issuer signs with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<Jwk>);

impl Keys {
    /// Reads a JWK set; keys of a kind that is not known here are passed over.
    pub(crate) fn read(body: &[u8]) -> Result<Self, SignInError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(body)
            .map_err(|error| SignInError::answer("key set", error.to_string()))?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok()).filter(is_for_signatures);
        Ok(Self(keys.collect()))
    }

    /// What a token says, if one of these keys signed it. Time and addressee are not looked at yet.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        // An algorithm that the library does not know, `none` among them, is no header for it.
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Algorithm)?;
        let family = family(header.alg).ok_or(TokenError::Algorithm)?;
        let mut fitting = self.0.iter().filter(|key| {
            let named = header.kid.is_none() || key.common.key_id == header.kid;
            let algorithm = key.common.key_algorithm.is_none_or(|known| known == header.alg.into());
            named && algorithm && family_of(key) == Some(family)
        });
        let key = fitting.next().ok_or(TokenError::UnknownKey)?;
        if header.kid.is_none() && fitting.next().is_some() {
            return Err(TokenError::UnknownKey);
        }
        let key = DecodingKey::from_jwk(key).map_err(|_| TokenError::UnknownKey)?;
        let mut validation = Validation::new(header.alg);
        // The rest is checked by `Claims::check`, against a time that is passed in.
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &key, &validation).map(|token| token.claims).map_err(|error| {
            let unsigned = matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature);
            if unsigned { TokenError::Signature } else { TokenError::Malformed }
        })
    }
}

/// Algorithms whose public key is of no use for making tokens. Those with a shared secret are not among them: the
/// "secret" could be a public key that everybody knows.
fn family(algorithm: Algorithm) -> Option<AlgorithmFamily> {
    let family = algorithm.family();
    (family != AlgorithmFamily::Hmac).then_some(family)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a kind that is not known is no key for us")]
fn family_of(key: &Jwk) -> Option<AlgorithmFamily> {
    match key.algorithm {
        AlgorithmParameters::RSA(_) => Some(AlgorithmFamily::Rsa),
        AlgorithmParameters::EllipticCurve(_) => Some(AlgorithmFamily::Ec),
        AlgorithmParameters::OctetKeyPair(_) => Some(AlgorithmFamily::Ed),
        // A shared secret, or a kind that is not known here.
        _ => None,
    }
}

fn is_for_signatures(key: &Jwk) -> bool {
    let usage = &key.common.public_key_use;
    family_of(key).is_some() && usage.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use serde_json::json;

    use super::*;
    use crate::testing::{claims, ed25519, signed};

    #[test]
    fn a_token_is_believed_by_the_named_key() {
        let (keys, signer) = ed25519("one");
        assert!(keys.verify(&signed(&signer, Some("one"), &claims())).is_ok());
        assert!(keys.verify(&signed(&signer, None, &claims())).is_ok(), "there is but one key");
        let other = signed(&signer, Some("two"), &claims());
        assert_eq!(keys.verify(&other).unwrap_err(), TokenError::UnknownKey);
        let (_, stranger) = ed25519("one");
        let forged = signed(&stranger, Some("one"), &claims());
        assert_eq!(keys.verify(&forged).unwrap_err(), TokenError::Signature);
    }

    #[test]
    fn a_changed_token_is_not_believed() {
        let (keys, signer) = ed25519("one");
        let (token, other) = (signed(&signer, Some("one"), &claims()), {
            let mut other = claims();
            other["sub"] = json!("somebody else");
            signed(&signer, Some("one"), &other)
        });
        let parts: Vec<&str> = token.split('.').collect();
        let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
        assert_eq!(keys.verify(&swapped).unwrap_err(), TokenError::Signature);
        for bad in ["", "a", "a.b", "a.b.c", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(keys.verify(bad).is_err(), "{bad:.10}");
        }
    }

    #[test]
    fn no_algorithm_a_shared_secret_and_unknown_ones_are_refused() {
        let (keys, signer) = ed25519("one");
        let token = signed(&signer, Some("one"), &claims());
        let payload = token.split('.').nth(1).unwrap();
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None", "kid": "one"}),
            json!({"alg": "XS256", "kid": "one"}),
            json!({"kid": "one"}),
        ] {
            let header = data_encoding::BASE64URL_NOPAD.encode(header.to_string().as_bytes());
            for signature in ["", "AAAA"] {
                let token = format!("{header}.{payload}.{signature}");
                assert_eq!(keys.verify(&token).unwrap_err(), TokenError::Algorithm, "{token}");
            }
        }
        // The classic: the public key as a shared secret.
        let public = serde_json::to_vec(&keys.0[0]).unwrap();
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = Some("one".to_owned());
        let forged = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&public)).unwrap();
        assert_eq!(keys.verify(&forged).unwrap_err(), TokenError::Algorithm);
    }

    #[test]
    fn a_key_is_used_for_what_it_is_for() {
        let set = |usage: &str, algorithm: &str| {
            let (keys, signer) = ed25519("one");
            let mut key = serde_json::to_value(&keys.0[0]).unwrap();
            key["use"] = json!(usage);
            key["alg"] = json!(algorithm);
            let keys = Keys::read(json!({"keys": [{"kty": "new"}, key, 7]}).to_string().as_bytes()).unwrap();
            keys.verify(&signed(&signer, Some("one"), &claims())).map(drop)
        };
        assert_eq!(set("sig", "EdDSA"), Ok(()));
        assert_eq!(set("enc", "EdDSA"), Err(TokenError::UnknownKey));
        assert_eq!(set("sig", "RS256"), Err(TokenError::UnknownKey));
        let shared = Keys::read(br#"{"keys":[{"kty":"oct","k":"AAAA","kid":"one"}]}"#).unwrap();
        assert!(shared.0.is_empty());
    }
}
