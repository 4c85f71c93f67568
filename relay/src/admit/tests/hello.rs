//! From connection to admission.

use mytunnel_keys::{certificate::IssuerKey, trust::Trust};

use super::*;
use crate::testing::{
    bundle, child_claims, cluster, device_claims, project, relay_claims, root, seed, serial,
};

/// What becomes of a connection that shows this certificate.
fn refusal(desk: &mut Desk, credential: &Credential) -> Option<Code> {
    let connection = desk.connect(credential);
    let commands = desk.hello(connection, &credential.certificate);
    let code = code_of(&commands);
    assert_eq!(farewells(&commands).len(), usize::from(code.is_some()), "{commands:?}");
    code
}

#[test]
fn a_valid_certificate_is_welcome() {
    let mut desk = Desk::open();
    let child = child(1);
    let connection = desk.connect(&child);
    let commands = desk.hello(connection, &child.certificate);

    let peer = mytunnel_carrier::peer_id(&child.seed.public());
    assert_eq!(commands[0], Command::Admit { connection, peer, pass: Pass::of(&child_claims(1, NOW)) });
    let Command::Send { message: ToNode::Welcome { certificate, trust, domain, time, .. }, .. } =
        &commands[1]
    else {
        panic!("{commands:?}")
    };
    assert_eq!(certificate, b"relay certificate");
    assert_eq!(trust, &bundle(1, &[seed(201)], NOW));
    assert_eq!(domain, &cluster());
    assert_eq!(*time, NOW);
    assert!(matches!(commands[2..], [Command::Report(Report::Present { .. })]), "{commands:?}");
    assert_eq!(desk.admission.status().nodes, 1);
}

#[test]
fn every_certificate_that_does_not_hold_has_its_code() {
    let claims = || child_claims(1, NOW);
    let other_cluster = Claims { cluster: "other.example".parse().unwrap(), ..claims() };
    let early = Claims { not_before: NOW + 31, not_after: NOW + 3600, ..claims() };
    let cases = [
        ("in its time", issued(1, claims()), None),
        ("device", issued(1, device_claims(1, NOW)), None),
        (
            "ended",
            issued(1, Claims { not_after: NOW, not_before: NOW - 60, ..claims() }),
            Some(Code::KeyExpired),
        ),
        ("not begun", issued(1, early), Some(Code::KeyExpired)),
        ("another cluster's", issued(1, other_cluster), Some(Code::InvalidKey)),
        (
            "another issuer's",
            Credential::issue_by(&IssuerKey::new(seed(99)), 1, claims()),
            Some(Code::InvalidKey),
        ),
        ("another key's", Credential { seed: seed(2), ..issued(1, claims()) }, Some(Code::InvalidKey)),
        ("a relay's", issued(1, relay_claims(1, NOW)), Some(Code::InvalidKey)),
        ("none at all", Credential { seed: seed(1), certificate: vec![0; 300] }, Some(Code::InvalidKey)),
    ];
    for (what, credential, expected) in cases {
        assert_eq!(refusal(&mut Desk::open(), &credential), expected, "{what}");
    }
}

#[test]
fn what_is_revoked_does_not_enter() {
    let until = NOW + 90_000;
    for change in [
        Change::Revoke { serial: serial(1), until },
        Change::RevokeTree { serial: serial(100), until },
        Change::RevokeTree { serial: serial(1), until },
        Change::RevokeProject { project: project("a"), until },
    ] {
        let mut desk = Desk::open();
        desk.delta(std::slice::from_ref(&change));
        assert_eq!(refusal(&mut desk, &child(1)), Some(Code::KeyRevoked), "{change:?}");

        let other = Claims { parent: Some(serial(101)), project: Some(project("b")), ..child_claims(2, NOW) };
        assert_eq!(refusal(&mut desk, &issued(2, other)), None, "{change:?}");
    }
}

#[test]
fn nobody_enters_without_news_that_is_fresh_enough_for_him() {
    let mut desk = Desk::unheard();
    assert_eq!(refusal(&mut desk, &child(1)), Some(Code::RelayStale));

    desk.heartbeat();
    desk.wait(60);
    assert_eq!(refusal(&mut desk, &child(2)), None);
    desk.wait(1);
    assert_eq!(refusal(&mut desk, &child(3)), Some(Code::RelayStale));
    assert_eq!(refusal(&mut desk, &issued(4, device_claims(4, NOW))), None);

    desk.heartbeat();
    assert_eq!(refusal(&mut desk, &child(5)), None);
}

#[test]
fn nobody_enters_while_the_clock_is_wrong() {
    let mut desk = Desk::open();
    desk.admission.handle_clock_offset(3600);
    assert_eq!(refusal(&mut desk, &child(1)), Some(Code::RelayStale));
    assert_eq!(desk.admission.status().clock_offset, Some(3600));
    desk.heartbeat();
    assert_eq!(refusal(&mut desk, &child(1)), None);
}

#[test]
fn another_version_is_told_so() {
    let mut desk = Desk::open();
    let child = child(1);
    let connection = desk.connect(&child);
    let certificate = child.certificate;
    let (version, presence) = (VERSION + 1, Vec::new());
    let hello = ToRelay::Hello { version, certificate, presence, agent: String::new(), clock: NOW };
    assert_eq!(code_of(&desk.say(connection, hello)), Some(Code::BadRequest));
}

/// Use of a key that the coordinator does not know to be here would count for nothing.
#[test]
fn nobody_enters_without_a_word_that_the_coordinator_will_believe() {
    let (own, other) = (seed(RELAY).public(), seed(RELAY + 1).public());
    let (one, two) = (child(1), child(2));
    let swapped = Credential { seed: two.seed.clone(), certificate: one.certificate.clone() };
    for (presence, code) in [
        (Vec::new(), Code::InvalidKey),
        (one.presence(&other, NOW), Code::InvalidKey),
        (two.presence(&own, NOW), Code::InvalidKey),
        (swapped.presence(&own, NOW), Code::InvalidKey),
        (one.presence(&own, NOW - mytunnel_keys::presence::WINDOW - 1), Code::KeyExpired),
        (one.presence(&own, NOW + mytunnel_keys::presence::WINDOW + 1), Code::KeyExpired),
    ] {
        let mut desk = Desk::open();
        let connection = desk.connect(&one);
        assert_eq!(code_of(&desk.show(connection, &one.certificate, presence)), Some(code));
    }
}

#[test]
fn who_is_here_is_told_at_once_and_again_to_a_coordinator_that_begins_anew() {
    let mut desk = Desk::open();
    let child = child(1);
    let connection = desk.connect(&child);
    let presence = child.presence(&seed(RELAY).public(), NOW);
    let expected = Report::Present { presence, at: NOW };
    assert!(reports(&desk.hello(connection, &child.certificate)).contains(&&expected));
    assert!(reports(&desk.snapshot(&[])).contains(&&expected));
}

#[test]
fn a_peer_whose_key_no_certificate_can_name_is_dropped_at_once() {
    let weak = "12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH".parse().unwrap();
    for peer in [weak, PeerId::random()] {
        let mut desk = Desk::open();
        let connection = desk.connect_as(peer);
        assert_eq!(farewells(&desk.commands()), [connection]);
    }
}

#[test]
fn a_stranger_has_five_seconds_and_the_admitted_have_not() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    let stranger = desk.connect(&child(2));
    assert_eq!(desk.admission.poll_timeout(), Some(desk.start + Duration::from_secs(5)));
    assert_eq!(farewells(&desk.wait(4)), []);
    assert_eq!(farewells(&desk.wait(1)), [stranger]);
    assert_eq!(farewells(&desk.wait(60)), []);
    assert_ne!(node, stranger);
}

#[test]
fn a_stranger_who_left_is_forgotten() {
    let mut desk = Desk::open();
    let stranger = desk.connect(&child(1));
    desk.admission.handle_closed(stranger, desk.now());
    assert_eq!(desk.wait(60), []);
    assert_eq!(desk.admission.status().strangers, 0);
}

#[test]
fn hello_comes_first_and_once() {
    let mut desk = Desk::open();
    let first = desk.connect(&child(1));
    assert_eq!(code_of(&desk.register(first, "web", 1)), Some(Code::BadRequest));

    let node = desk.enter(&child(2));
    desk.serve(node, "web", 1);
    let commands = desk.hello(node, &child(2).certificate);
    assert_eq!(code_of(&commands), Some(Code::BadRequest));
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(farewells(&commands), [node]);
}

#[test]
fn who_sends_garbage_is_told_and_dropped() {
    let mut desk = Desk::open();
    let node = desk.connect(&child(1));
    desk.admission.handle_garbage(node, desk.now());
    let commands = desk.commands();
    assert_eq!(code_of(&commands), Some(Code::BadRequest));
    assert_eq!(farewells(&commands), [node]);
}

#[test]
fn refusals_are_reported_of_strangers_only_so_many() {
    let mut desk = Desk::open();
    let mut reported = 0;
    for _ in 0..1000 {
        let connection = desk.connect(&child(1));
        reported += reports(&desk.hello(connection, b"garbage")).len();
    }
    assert_eq!(reported, 100);

    desk.delta(&[Change::Revoke { serial: serial(1), until: NOW + 90_000 }]);
    let child = child(1);
    let connection = desk.connect(&child);
    let commands = desk.hello(connection, &child.certificate);
    let refused = Report::Refused { serial: Some(serial(1)), code: Code::KeyRevoked, at: NOW };
    assert_eq!(reports(&commands), [&refused]);
}

#[test]
fn trust_that_was_taken_away_ends_what_it_had_admitted() {
    let mut desk = Desk::open();
    let old = desk.enter(&child(1));
    desk.serve(old, "web", 1);

    let both = Trust::open(&bundle(2, &[seed(201), seed(99)], NOW), &root().fingerprint()).unwrap();
    desk.admission.handle_trust(both, desk.now());
    assert_eq!(desk.commands(), []);
    let new = desk.enter(&Credential::issue_by(&IssuerKey::new(seed(99)), 2, child_claims(2, NOW)));

    let one = Trust::open(&bundle(3, &[seed(99)], NOW), &root().fingerprint()).unwrap();
    desk.admission.handle_trust(one, desk.now());
    let commands = desk.commands();
    assert_eq!(farewells(&commands), [old]);
    assert_eq!(code_of(&commands), Some(Code::InvalidKey));
    assert_eq!(unrouted(&commands), ["web"]);
    desk.serve(new, "pr-1", 2);
    assert_eq!(refusal(&mut desk, &child(3)), Some(Code::InvalidKey));
}
