use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, claims, cluster, holder, seed};

const BODY: &[u8] = br#"{"ttl":3600}"#;

fn header() -> String {
    let cluster = cluster();
    sign_request(&holder(), &claims().serial, &request(&cluster), NOW, [9; 16])
}

fn request(cluster: &Cluster) -> Request<'_> {
    Request { cluster, method: "POST", path: "/api/v1/mint?x=1", body: BODY }
}

fn check(header: &str, key: &PublicKey, now: u64) -> Result<Verified<Proof>, ProofError> {
    UnverifiedRequest::parse(header)?.verify(key, &request(&cluster()), now)
}

#[test]
fn a_proof_names_its_signer_and_fits_its_request() {
    let unverified = UnverifiedRequest::parse(&header()).unwrap();
    assert_eq!(unverified.serial(), claims().serial);
    let proof = check(&header(), &holder().public(), NOW).unwrap();
    assert_eq!(*proof, Proof { serial: claims().serial, id: [9; 16], issued_at: NOW });
}

#[test]
fn the_scheme_is_read_in_any_case() {
    let lower = header().replace("Mytunnel", "mytunnel");
    assert!(check(&lower, &holder().public(), NOW).is_ok());
}

#[test]
fn a_proof_for_one_request_is_none_for_another() {
    let here = cluster();
    let elsewhere = "other.example".parse().unwrap();
    let right = request(&here);
    let others = [
        Request { method: "DELETE", ..right },
        Request { path: "/api/v1/mint", ..right },
        Request { path: "/api/v1/mint?x=2", ..right },
        Request { body: b"", ..right },
        Request { cluster: &elsewhere, ..right },
    ];
    for other in others {
        let refused = UnverifiedRequest::parse(&header()).unwrap().verify(&holder().public(), &other, NOW);
        assert_eq!(refused, Err(ProofError::OtherRequest), "{other:?}");
    }
}

#[test]
fn another_key_is_refused() {
    assert_eq!(check(&header(), &seed(9).public(), NOW), Err(ProofError::Signature(SignatureError)));
}

#[test]
fn a_proof_counts_for_two_minutes_around_its_time() {
    let at = |now| check(&header(), &holder().public(), now).map(drop);
    assert_eq!((at(NOW - WINDOW), at(NOW + WINDOW)), (Ok(()), Ok(())));
    assert_eq!(at(NOW + WINDOW + 1), Err(ProofError::OutOfTime { issued_at: NOW, now: NOW + WINDOW + 1 }));
    assert!(at(NOW - WINDOW - 1).is_err());
}

#[test]
fn other_headers_are_refused() {
    let refused = |header: &str| UnverifiedRequest::parse(header).map(drop).unwrap_err();
    for other in ["", "Mytunnel", "Bearer abc", "Mytunnel ?", "Mytunnel abc=", &"x".repeat(MAX_HEADER + 1)] {
        assert_eq!(refused(other), ProofError::Header, "{other}");
    }
    let certificate = crate::certificate::issue(&claims(), &crate::testing::issuer()).unwrap();
    let other_type = refused(&format!("Mytunnel {}", BASE64URL_NOPAD.encode(&certificate)));
    assert_eq!(other_type, ProofError::Envelope(EnvelopeError::Type { expected: TYPE }));
}

#[test]
fn an_unknown_or_doubled_claim_is_refused() {
    let sealed = |change: fn(&mut Vec<(ciborium::Value, ciborium::Value)>)| {
        let mut map = cbor::decode(&write(&request(&cluster()), NOW, &[9; 16])).unwrap().into_map().unwrap();
        change(&mut map);
        let payload = cbor::encode(&ciborium::Value::Map(map));
        let bytes = cose::sign(TYPE, claims().serial.as_bytes(), payload, &holder());
        UnverifiedRequest::parse(&format!("{SCHEME} {}", BASE64URL_NOPAD.encode(&bytes)))
            .map(drop)
            .unwrap_err()
    };
    assert_eq!(sealed(|map| map.push((99.into(), 0.into()))), ProofError::Content(FieldError::Unknown(99)));
    assert_eq!(sealed(|map| map.push(map[0].clone())), ProofError::Content(FieldError::Twice(3)));
    assert_eq!(sealed(|map| map.swap(0, 1)), ProofError::Content(FieldError::NotDeterministic));
}

proptest! {
    #[test]
    fn a_changed_character_anywhere_is_refused(at in 9..1000_usize, new in "[A-Za-z0-9_-]") {
        let mut header = header();
        let at = 9 + (at - 9) % (header.len() - 9);
        prop_assume!(header[at..=at] != new);
        header.replace_range(at..=at, &new);
        prop_assert!(check(&header, &holder().public(), NOW).is_err());
    }

    #[test]
    fn noise_is_refused_and_never_panics(noise in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(UnverifiedRequest::parse(&noise).is_err());
        let header = format!("{SCHEME} {}", BASE64URL_NOPAD.encode(&bytes));
        prop_assert!(UnverifiedRequest::parse(&header).is_err());
        let signed = cose::sign(TYPE, &[0; 16], bytes, &holder());
        let header = format!("{SCHEME} {}", BASE64URL_NOPAD.encode(&signed));
        prop_assert!(UnverifiedRequest::parse(&header).is_err());
    }

    #[test]
    fn every_request_verifies(method in "[A-Z]{1,7}", path in "/[ -~]{0,80}", body: Vec<u8>, id: [u8; 16], now: u64) {
        let cluster = cluster();
        let request = Request { cluster: &cluster, method: &method, path: &path, body: &body };
        let header = sign_request(&holder(), &claims().serial, &request, now, id);
        let proof = UnverifiedRequest::parse(&header).unwrap().verify(&holder().public(), &request, now);
        prop_assert_eq!(proof.unwrap().id, id);
    }
}
