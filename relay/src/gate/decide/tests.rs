use http::{HeaderMap, Method, Uri};
use mytunnel_keys::feed::{AddressGate, SessionKey, SignInGate};

use super::*;
use crate::ingress::head::Visitor;

/// What a request that shows nothing is told at these gates.
fn told(gates: &Gates) -> Option<Failure> {
    let (headers, uri) = (HeaderMap::new(), Uri::from_static("/"));
    let visitor = Visitor::new([192, 0, 2, 1].into(), true);
    let (method, host) = (&Method::GET, "web.tun.test");
    let asked =
        Asked { method, uri: &uri, headers: &headers, visitor: &visitor, host, now: 1000, signed_out: false };
    match decide(gates, &asked, false) {
        Decision::Deny(failure) | Decision::People(Door::Ask(failure)) => Some(failure),
        Decision::People(Door::Open(_)) => None,
        other @ (Decision::Program(..) | Decision::Person(..) | Decision::People(_)) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn every_kind_of_gate_keeps_out_who_shows_nothing() {
    let (hash, generation) = (|| "$h".to_owned(), 1);
    let key = || SessionKey::from_bytes([1; 32]);
    let none = Gates::default();
    let basic = Some(BasicGate { user: "ann".to_owned(), hash: hash(), generation });
    let pin = Some(PinGate { hash: hash(), generation, session_key: key() });
    let bearer = Some(BearerGate { hash: hash(), generation });
    let sign_in = Some(SignInGate {
        provider: "google".to_owned(),
        allowed_domains: vec![],
        allowed_emails: vec![],
        session_key: key(),
    });
    let deny = vec!["192.0.2.1".parse().unwrap()];
    let addresses = Some(AddressGate { allow: vec![], deny });
    let cases = [
        (Gates { basic, ..none.clone() }, Failure::PasswordRequired),
        (Gates { pin, ..none.clone() }, Failure::PinRequired),
        (Gates { bearer, ..none.clone() }, Failure::TokenRequired),
        (Gates { sign_in, ..none.clone() }, Failure::SignInUnavailable),
        (Gates { addresses, ..none.clone() }, Failure::AddressDenied),
    ];
    let line = |gates: &Gates, last| admits_line(gates, [192, 0, 2, last].into(), 1000);
    for (gates, failure) in &cases {
        assert_eq!(told(gates), Some(*failure));
        assert!(!line(gates, 1), "at a port nothing can be shown");
        let at_once = if gates.sign_in.is_some() { Failure::SignInRequired } else { *failure };
        assert_eq!(first_question(gates), at_once);
    }
    let ends = |at| Gates { ends_at: Some(at), ..none.clone() };
    assert_eq!((told(&ends(1000)), told(&ends(1001))), (Some(Failure::Ended), None));
    assert_eq!(told(&none), None);
    assert!(line(&none, 1) && !line(&ends(1000), 1) && line(&ends(1001), 1));
    let from_elsewhere = &cases[4].0;
    assert!(line(from_elsewhere, 2), "addresses are looked at there, too");
}
