use ciborium::Value;
use proptest::prelude::*;

use super::*;
use crate::{
    cbor, cose,
    id::{Cluster, IdError, Serial},
    testing::{NOW, bundle, claims, holder, issuer, root, seed, trust},
    trust::TrustBundle,
};

fn check(bytes: &[u8]) -> Result<Verified<Claims>, VerifyError> {
    verify(bytes, &trust(), &holder().public(), NOW)
}

fn good() -> Vec<u8> {
    issue(&claims(), &issuer()).unwrap()
}

/// A certificate that the issuer signed over any bytes at all.
fn signed(payload: Vec<u8>) -> Vec<u8> {
    cose::sign(TYPE, Kid::of(&issuer().public()).as_bytes(), payload, &seed(2))
}

fn map_of_claims() -> Vec<(Value, Value)> {
    cbor::decode(&claims().write()).unwrap().into_map().unwrap()
}

/// A certificate that the issuer signed over claims that were changed on the level of CBOR.
fn changed(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Result<Verified<Claims>, VerifyError> {
    let mut map = map_of_claims();
    change(&mut map);
    check(&signed(cbor::encode(&Value::Map(map))))
}

/// The same for the map of private claims.
fn private(change: impl FnOnce(&mut Vec<(Value, Value)>)) -> Result<Verified<Claims>, VerifyError> {
    changed(|claims| change(claims.last_mut().unwrap().1.as_map_mut().unwrap()))
}

fn set(map: &mut [(Value, Value)], label: i64, value: impl Into<Value>) {
    let entry = map.iter_mut().find(|(found, _)| *found == Value::from(label)).unwrap();
    entry.1 = value.into();
}

fn content(error: FieldError) -> Result<Verified<Claims>, VerifyError> {
    Err(VerifyError::Content(error))
}

#[test]
fn a_certificate_comes_back_with_every_claim() {
    let verified = check(&good()).unwrap();
    assert_eq!(*verified, claims());
    assert_eq!(verified.into_inner(), *inspect(&good()).unwrap().peek());
}

#[test]
fn claims_that_are_left_out_come_back_as_left_out() {
    let bare = Claims {
        kind: Kind::Relay,
        project: None,
        parent: None,
        hosts: vec![],
        scopes: "".parse().unwrap(),
        budget: None,
        flags: Flags::BOUND,
        ..claims()
    };
    let bytes = issue(&bare, &issuer()).unwrap();
    assert_eq!(*check(&bytes).unwrap(), bare);
}

#[test]
fn a_renewal_names_the_one_key_that_it_replaces() {
    let renewal = Claims { replaces: Some(Serial::from_bytes([0x0d; 16])), ..claims() };
    assert_eq!(*check(&issue(&renewal, &issuer()).unwrap()).unwrap(), renewal);
    let itself = Claims { replaces: Some(claims().serial), ..claims() };
    let device = Claims { kind: Kind::UserDevice, ..renewal.clone() };
    for wrong in [itself, device] {
        assert_eq!(issue(&wrong, &issuer()), Err(ClaimsError::Replaces));
        assert_eq!(check(&signed(wrong.write())), Err(VerifyError::Claims(ClaimsError::Replaces)));
    }
}

#[test]
fn a_usual_child_stays_small() {
    assert!(good().len() <= 330, "{}", good().len());
}

#[test]
fn another_holder_is_refused() {
    let other = seed(9).public();
    assert_eq!(verify(&good(), &trust(), &other, NOW), Err(VerifyError::Holder));
}

#[test]
fn time_is_kept_with_thirty_seconds_of_grace() {
    let at = |now| verify(&good(), &trust(), &holder().public(), now).map(drop);
    assert_eq!(at(NOW - 30), Ok(()));
    assert_eq!(at(NOW - 31), Err(VerifyError::NotYetValid { not_before: NOW, now: NOW - 31 }));
    assert_eq!(at(NOW + 3629), Ok(()));
    let late = VerifyError::Expired { not_after: NOW + 3600, now: NOW + 3630 };
    assert_eq!(at(NOW + 3630), Err(late));
    assert_eq!(late.code(), Code::KeyExpired);
}

#[test]
fn no_issuer_can_give_a_child_more_than_a_day() {
    let long = Claims { not_after: NOW + 86_401, ..claims() };
    let refused = ClaimsError::TooLong { life: 86_401, max: 86_400 };
    assert_eq!(issue(&long, &issuer()), Err(refused));
    assert_eq!(check(&signed(long.write())), Err(VerifyError::Claims(refused)));
    let late_start = Claims { issued_at: NOW - 86_000, ..claims() };
    assert!(matches!(check(&signed(late_start.write())), Err(VerifyError::Claims(_))));
    let device = Claims { kind: Kind::UserDevice, not_after: NOW + 30 * 86_400, ..claims() };
    assert!(check(&issue(&device, &issuer()).unwrap()).is_ok());
}

#[test]
fn claims_that_make_no_sense_are_neither_issued_nor_taken() {
    let backwards = Claims { not_after: NOW, ..claims() };
    let orphan = Claims { parent: None, ..claims() };
    let homeless = Claims { project: None, ..claims() };
    let wide = Claims { hosts: vec!["a*".parse().unwrap(); 17], ..claims() };
    for (claims, error) in [
        (backwards, ClaimsError::Order),
        (orphan, ClaimsError::Orphan),
        (homeless, ClaimsError::Orphan),
        (wide, ClaimsError::Hosts(17)),
    ] {
        assert_eq!(issue(&claims, &issuer()), Err(error));
        assert_eq!(check(&signed(claims.write())), Err(VerifyError::Claims(error)));
    }
}

#[test]
fn a_certificate_over_the_limit_is_not_issued() {
    let hosts = (0..8).map(|at| format!("a{at}{}", "x".repeat(40)).parse().unwrap()).collect();
    let large = Claims { hosts, ..claims() };
    assert!(matches!(issue(&large, &issuer()), Err(ClaimsError::TooLarge(_))));
    assert!(matches!(
        check(&signed(large.write())),
        Err(VerifyError::Envelope(EnvelopeError::TooLarge { .. }))
    ));
}

#[test]
fn other_issuers_and_other_uses_of_a_key_are_refused() {
    let stranger = IssuerKey::new(seed(8));
    let by_stranger = issue(&claims(), &stranger).unwrap();
    let unknown = |key: &IssuerKey| Err(VerifyError::Issuer(KeyError::Unknown(Kid::of(&key.public()))));
    assert_eq!(check(&by_stranger), unknown(&stranger));
    let feed = IssuerKey::new(seed(3));
    assert_eq!(check(&issue(&claims(), &feed).unwrap()), unknown(&feed));
    // The right key id under a wrong signature.
    let forged = cose::sign(TYPE, Kid::of(&issuer().public()).as_bytes(), claims().write(), &seed(8));
    assert_eq!(check(&forged), Err(VerifyError::Signature(SignatureError)));
}

#[test]
fn a_bundle_without_the_issuer_ends_all_it_signed() {
    let keys = bundle().keys.split_off(1);
    let mut trust = trust();
    trust.update(&root().sign(&TrustBundle { version: 2, keys, ..bundle() })).unwrap();
    let refused = verify(&good(), &trust, &holder().public(), NOW).unwrap_err();
    assert!(matches!(refused, VerifyError::Issuer(KeyError::Unknown(_))));
    assert_eq!(refused.code(), Code::InvalidKey);
}

#[test]
fn another_cluster_is_refused() {
    let elsewhere = Claims { cluster: "other.example".parse::<Cluster>().unwrap(), ..claims() };
    assert_eq!(check(&issue(&elsewhere, &issuer()).unwrap()), Err(VerifyError::Cluster));
}

#[test]
fn a_message_of_another_type_is_no_certificate() {
    let kid = Kid::of(&issuer().public());
    let feed = cose::sign("mtk-feed+cwt", kid.as_bytes(), claims().write(), &seed(2));
    assert_eq!(check(&feed), Err(VerifyError::Envelope(EnvelopeError::Type { expected: TYPE })));
}

#[test]
fn unknown_claims_are_refused_on_every_level() {
    assert_eq!(changed(|map| map.insert(7, (10.into(), 0.into()))), content(FieldError::Unknown(10)));
    assert_eq!(private(|map| map.push((99.into(), 0.into()))), content(FieldError::Unknown(99)));
    let nested = |map: &mut Vec<(Value, Value)>| {
        let confirmation = map.iter_mut().find(|(label, _)| *label == Value::from(8)).unwrap();
        let key = &mut confirmation.1.as_map_mut().unwrap()[0].1;
        key.as_map_mut().unwrap().push(((-4).into(), 0.into()));
    };
    assert_eq!(changed(nested), content(FieldError::Unknown(-4)));
}

#[test]
fn duplicates_are_refused_on_every_level() {
    assert_eq!(changed(|map| map.insert(0, map[0].clone())), content(FieldError::Twice(3)));
    assert_eq!(private(|map| map.insert(0, map[0].clone())), content(FieldError::Twice(1)));
    let nested = |map: &mut Vec<(Value, Value)>| {
        let confirmation = map.iter_mut().find(|(label, _)| *label == Value::from(8)).unwrap();
        let key = confirmation.1.as_map_mut().unwrap()[0].1.as_map_mut().unwrap();
        key.push(key[2].clone());
    };
    assert_eq!(changed(nested), content(FieldError::Twice(-2)));
}

#[test]
fn values_outside_the_profile_are_refused() {
    // Master keys have no kind; neither has anything that is yet to come.
    assert_eq!(private(|map| set(map, 2, 0)), content(FieldError::Value(2)));
    assert_eq!(private(|map| set(map, 2, 5)), content(FieldError::Value(2)));
    assert_eq!(private(|map| set(map, 1, 2)), content(FieldError::Value(1)));
    assert_eq!(private(|map| set(map, 9, -1)), content(FieldError::Value(9)));
    for unknown in [2, 4] {
        assert_eq!(private(|map| map.push((10.into(), unknown.into()))), content(FieldError::Value(10)));
    }
    assert_eq!(private(|map| map.push((11.into(), vec![1_u8; 15].into()))), content(FieldError::Value(11)));
    assert_eq!(private(|map| map.push((10.into(), 0.into()))), content(FieldError::NotDeterministic));
    assert_eq!(private(|map| set(map, 6, Value::Array(vec!["a.b".into()]))), content(FieldError::Value(6)));
    assert_eq!(private(|map| set(map, 6, Value::Array(vec!["www".into()]))), content(FieldError::Value(6)));
    assert_eq!(changed(|map| set(map, 4, Value::Float(1.9e9))), content(FieldError::Value(4)));
    assert_eq!(changed(|map| set(map, 9, "tcp http")), content(FieldError::NotDeterministic));
    assert_eq!(changed(|map| set(map, 9, "http root")), content(FieldError::Value(9)));
    assert_eq!(changed(|map| drop(map.remove(4))), content(FieldError::Missing(7)));
}

#[test]
fn another_order_or_encoding_is_refused() {
    assert_eq!(changed(|map| map.swap(0, 1)), content(FieldError::NotDeterministic));
    assert_eq!(private(|map| map.swap(2, 3)), content(FieldError::NotDeterministic));
    let mut payload = claims().write();
    payload.splice(0..1, [0xb8, payload[0] & 0x1f]);
    assert_eq!(check(&signed(payload)), content(FieldError::NotDeterministic));
    let mut payload = claims().write();
    payload.push(0);
    assert_eq!(check(&signed(payload)), content(FieldError::NotCbor));
}

#[test]
fn a_weak_subject_is_refused() {
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(PublicKey::from_bytes(weak), Err(IdError::Weak));
    let with_weak_key = |map: &mut Vec<(Value, Value)>| {
        let confirmation = map.iter_mut().find(|(label, _)| *label == Value::from(8)).unwrap();
        let key = confirmation.1.as_map_mut().unwrap()[0].1.as_map_mut().unwrap();
        set(key, -2, weak.as_slice());
    };
    assert_eq!(changed(with_weak_key), content(FieldError::Value(-2)));
}

#[test]
fn deep_nesting_neither_passes_nor_overflows() {
    let mut nested = Value::Null;
    for _ in 0..200 {
        nested = Value::Array(vec![nested]);
    }
    assert!(private(|map| set(map, 6, nested)).is_err());
    assert!(check(&signed(vec![0x81; 300])).is_err());
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_refused(at in 0..300_usize, bit in 0..8_u32) {
        let mut bytes = good();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(check(&noise).is_err());
        prop_assert!(inspect(&noise).is_err());
        prop_assert!(check(&signed(noise)).is_err());
    }

    #[test]
    fn claims_come_back_as_they_were(
        life in 1..86_400_u64,
        max_tunnels: u16,
        max_staleness: u32,
        serial: [u8; 16],
        budget: Option<[u8; 8]>,
        hosts in prop::collection::vec("[a-v][a-v0-9]{0,6}\\*?", 0..6),
    ) {
        let hosts: Vec<_> = hosts.iter().filter_map(|host| host.parse().ok()).collect();
        let serial = Serial::from_bytes(serial);
        let claims =
            Claims { not_after: NOW + life, max_tunnels, max_staleness, serial, budget, hosts, ..claims() };
        let bytes = issue(&claims, &issuer()).unwrap();
        prop_assert_eq!(&*check(&bytes).unwrap(), &claims);
    }
}
