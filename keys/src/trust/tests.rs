use proptest::prelude::*;

use super::*;
use crate::{
    cose,
    testing::{NOW, bundle, root, seed, trust},
};

fn version(version: u64) -> TrustBundle {
    TrustBundle { version, ..bundle() }
}

#[test]
fn a_bundle_comes_back_under_its_root() {
    let bytes = root().sign(&bundle());
    assert_eq!(*TrustBundle::verify(&bytes, &root().fingerprint()).unwrap(), bundle());
    assert_eq!(trust().bytes(), bytes);
}

#[test]
fn another_root_is_refused_though_its_signature_is_right() {
    let other = RootKey::new(seed(9));
    let error = TrustBundle::verify(&other.sign(&bundle()), &root().fingerprint()).unwrap_err();
    assert_eq!(error, TrustError::Root { expected: root().fingerprint(), found: other.fingerprint() });
}

#[test]
fn the_roots_name_under_anothers_signature_is_refused() {
    let public = seed(1).public();
    let forged = cose::sign(TYPE, Kid::of(&public).as_bytes(), bundle().write(&public), &seed(9));
    assert_eq!(
        TrustBundle::verify(&forged, &root().fingerprint()),
        Err(TrustError::Signature(SignatureError))
    );
    let other_kid = cose::sign(TYPE, &[0; 8], bundle().write(&public), &seed(1));
    assert_eq!(
        TrustBundle::verify(&other_kid, &root().fingerprint()),
        Err(TrustError::Envelope(EnvelopeError::Header))
    );
}

#[test]
fn only_later_bundles_replace_the_one_held() {
    let mut trust = trust();
    assert_eq!(trust.update(&root().sign(&version(1))), Ok(false));
    assert_eq!(trust.update(&root().sign(&version(3))), Ok(true));
    assert_eq!(trust.bundle().version, 3);
    assert_eq!(trust.update(&root().sign(&version(2))), Err(TrustError::Rollback { held: 3, found: 2 }));
    let other = TrustBundle { keys: vec![], ..version(3) };
    assert_eq!(trust.update(&root().sign(&other)), Err(TrustError::Fork(3)));
    let elsewhere = TrustBundle { cluster: "other.example".parse().unwrap(), ..version(4) };
    assert_eq!(trust.update(&root().sign(&elsewhere)), Err(TrustError::Cluster));
    let older_era = TrustBundle { era: 0, ..version(4) };
    assert_eq!(trust.update(&root().sign(&older_era)), Err(TrustError::Rollback { held: 3, found: 4 }));
    assert_eq!(trust.bundle().version, 3);
}

#[test]
fn keys_count_for_their_use_and_time_only() {
    let trust = trust();
    let issuer = seed(2).public();
    let kid = Kid::of(&issuer);
    let entry = bundle().keys[0];
    assert_eq!(trust.key(kid, KeyUse::Certificate, NOW), Ok(&issuer));
    assert_eq!(trust.key(kid, KeyUse::Feed, NOW), Err(KeyError::Unknown(kid)));
    let early = entry.not_before - CLOCK_SKEW;
    assert!(trust.key(kid, KeyUse::Certificate, early).is_ok());
    assert_eq!(trust.key(kid, KeyUse::Certificate, early - 1), Err(KeyError::OutOfTime(kid)));
    let late = entry.not_after + CLOCK_SKEW;
    assert!(trust.key(kid, KeyUse::Certificate, late - 1).is_ok());
    assert_eq!(trust.key(kid, KeyUse::Certificate, late), Err(KeyError::OutOfTime(kid)));
}

#[test]
fn fingerprints_are_hex_text() {
    let fingerprint = root().fingerprint();
    assert_eq!(fingerprint.to_string().len(), 32);
    assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
}

#[test]
fn too_many_keys_are_refused() {
    let keys = vec![bundle().keys[0]; 33];
    let bytes = root().sign(&TrustBundle { keys, ..bundle() });
    assert_eq!(
        TrustBundle::verify(&bytes, &root().fingerprint()),
        Err(TrustError::Content(FieldError::Value(5)))
    );
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_refused(at in 0..1000_usize, bit in 0..8_u32) {
        let mut bytes = root().sign(&bundle());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(TrustBundle::verify(&bytes, &root().fingerprint()).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(TrustBundle::verify(&noise, &root().fingerprint()).is_err());
        let kid = Kid::of(&seed(1).public());
        let signed = cose::sign(TYPE, kid.as_bytes(), noise, &seed(1));
        prop_assert!(TrustBundle::verify(&signed, &root().fingerprint()).is_err());
    }

    #[test]
    fn bundles_come_back_as_they_were(version: u64, era: u64, issued_at: u64, not_before: u64, not_after: u64) {
        let keys = vec![IssuerEntry { key: seed(5).public(), usage: KeyUse::Feed, not_before, not_after }];
        let bundle = TrustBundle { version, era, issued_at, keys, ..bundle() };
        let bytes = root().sign(&bundle);
        prop_assert_eq!(&*TrustBundle::verify(&bytes, &root().fingerprint()).unwrap(), &bundle);
    }
}
