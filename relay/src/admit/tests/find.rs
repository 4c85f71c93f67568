//! Who is told where a private name is served.

use super::*;
use crate::testing::{device_claims, project, seed, serial};

const NAME: &str = "web";

/// A child of project a that may serve and reach private shares.
fn private(number: u8, change: impl FnOnce(Claims) -> Claims) -> Credential {
    issued(number, change(Claims { scopes: "http private".parse().unwrap(), ..child_claims(number, NOW) }))
}

fn serve(desk: &mut Desk, credential: &Credential) -> ConnectionId {
    let node = desk.enter(credential);
    let commands = desk.say(
        node,
        ToRelay::Register {
            request: 1,
            name: NAME.parse().unwrap(),
            kind: TunnelKind::Private,
            instance: [1; 16],
            port: None,
            alone: false,
        },
    );
    assert_eq!(code_of(&commands), None, "{commands:?}");
    let forgotten = Command::Forget { name: NAME.parse().unwrap() };
    assert!(commands.contains(&forgotten), "visitors have no business with it: {commands:?}");
    let urls = commands.iter().find_map(|command| match command {
        Command::Send { message: ToNode::Registered { urls, .. }, .. } => Some(urls.len()),
        _ => None,
    });
    assert_eq!(urls, Some(0));
    node
}

/// What a node is told that asks for the name.
fn find(desk: &mut Desk, node: ConnectionId) -> ToNode {
    let commands = desk.say(node, ToRelay::Find { request: 5, name: NAME.parse().unwrap() });
    let answer = commands.iter().find_map(|command| match command {
        Command::Send { message, .. } => Some(message.clone()),
        _ => None,
    });
    answer.expect("an answer")
}

fn refused(answer: &ToNode) -> Code {
    match answer {
        ToNode::NotFound { request: 5, code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_node_of_the_name_is_told_to_whom_the_project_is_open() {
    let mut desk = Desk::open();
    serve(&mut desk, &private(1, |claims| claims));
    serve(&mut desk, &private(2, |claims| claims));
    let all = ToNode::Found { request: 5, peers: vec![seed(1).public(), seed(2).public()] };
    let child = desk.enter(&private(3, |claims| claims));
    assert_eq!(find(&mut desk, child), all);
    let device = desk.enter(&issued(4, device_claims(4, NOW)));
    assert_eq!(find(&mut desk, device), all);
}

#[test]
fn who_may_not_reach_it_is_told_why_and_another_tenant_nothing() {
    let mut desk = Desk::open();
    let foreign = |claims| Claims { tenant: "ten_b".parse().unwrap(), ..claims };
    let stranger = desk.enter(&private(7, foreign));
    let nothing = find(&mut desk, stranger);
    serve(&mut desk, &private(1, |claims| claims));
    assert_eq!(find(&mut desk, stranger), nothing, "as if there were none");
    assert_eq!(refused(&nothing), Code::NotFound);
    for (number, credential, code) in [
        (2, child(2), Code::ScopeDenied),
        (3, private(3, |claims| Claims { project: Some(project("b")), ..claims }), Code::ProjectMismatch),
        (
            4,
            private(4, |claims| Claims { hosts: vec!["pr-*".parse().unwrap()], ..claims }),
            Code::ScopeDenied,
        ),
    ] {
        let node = desk.enter(&credential);
        let commands = desk.say(node, ToRelay::Find { request: 5, name: NAME.parse().unwrap() });
        assert_eq!(reports(&commands), [&Report::Refused { serial: Some(serial(number)), code, at: NOW }]);
        assert_eq!(refused(&find(&mut desk, node)), code);
    }
}

#[test]
fn a_name_without_its_node_and_a_public_one_are_not_found() {
    let mut desk = Desk::open();
    desk.delta(&[Change::Name { name: NAME.parse().unwrap(), project: project("a"), kind: None }]);
    let seeker = desk.enter(&private(3, |claims| claims));
    assert_eq!(refused(&find(&mut desk, seeker)), Code::NotFound);
    let public = desk.enter(&child(1));
    desk.serve(public, NAME, 1);
    assert_eq!(refused(&find(&mut desk, seeker)), Code::NotFound);
}

#[test]
fn who_asks_too_often_or_was_never_admitted_is_told_nothing() {
    let mut desk = Desk::open();
    serve(&mut desk, &private(1, |claims| claims));
    let seeker = desk.enter(&private(3, |claims| claims));
    let answers: Vec<_> = (0..60).map(|_| find(&mut desk, seeker)).collect();
    assert_eq!(refused(answers.last().unwrap()), Code::RateLimited);
    let stranger = desk.connect(&private(4, |claims| claims));
    let commands = desk.say(stranger, ToRelay::Find { request: 5, name: NAME.parse().unwrap() });
    assert_eq!(code_of(&commands), Some(Code::BadRequest));
}

#[test]
fn the_feed_does_not_make_visitors_wait_for_a_private_name() {
    let mut desk = Desk::open();
    let is_known = |desk: &mut Desk, kind| {
        let name: TunnelName = NAME.parse().unwrap();
        let commands = desk.delta(&[Change::Name { name, project: project("a"), kind }]);
        commands.iter().any(|command| matches!(command, Command::Known { .. }))
    };
    assert!(!is_known(&mut desk, Some(TunnelKind::Private)));
    assert!(is_known(&mut desk, None), "it may be another kind");
    serve(&mut desk, &private(1, |claims| claims));
    assert!(!is_known(&mut desk, None), "its kind is seen");
}
