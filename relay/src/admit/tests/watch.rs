//! Who is told that a key has ended which it has met.

use mytunnel_keys::{
    certificate,
    id::Serial,
    usage::Standing,
    wire::{MAX_WATCHED, Signed},
};

use super::*;
use crate::testing::{project, serial};

fn private(number: u8, change: impl FnOnce(Claims) -> Claims) -> Credential {
    issued(number, change(Claims { scopes: "private".parse().unwrap(), ..child_claims(number, NOW) }))
}

fn plain(number: u8) -> Credential {
    private(number, |claims| claims)
}

fn watch(desk: &mut Desk, node: ConnectionId, met: &[&Credential]) -> Vec<(ConnectionId, Code)> {
    let certificates = met.iter().map(|met| Signed(met.certificate.clone())).collect();
    let commands = desk.say(node, ToRelay::Watch { certificates });
    told(&commands)
}

/// Who is told, and which code.
fn told(commands: &[Command]) -> Vec<(ConnectionId, Code)> {
    let told = commands.iter().filter_map(|command| match command {
        Command::Send { connection, message: ToNode::Revoked { code, .. } } => Some((*connection, *code)),
        _ => None,
    });
    told.collect()
}

/// How many a node is told that are not watched.
fn unwatched(commands: &[Command]) -> usize {
    let unwatched = commands.iter().map(|command| match command {
        Command::Send { message: ToNode::Unwatched { serials }, .. } => serials.len(),
        _ => 0,
    });
    unwatched.sum()
}

fn revoke(number: u8) -> Change {
    Change::Revoke { serial: serial(number), until: NOW + 86_400 }
}

#[test]
fn whoever_has_met_a_key_is_told_of_its_end_before_it_counts_as_applied() {
    let mut desk = Desk::open();
    let [one, two, three] = [1, 2, 3].map(|number| desk.enter(&plain(number)));
    assert_eq!(watch(&mut desk, one, &[&plain(9), &plain(8)]), []);
    assert_eq!(watch(&mut desk, two, &[&plain(9)]), []);
    assert_eq!(watch(&mut desk, three, &[&plain(8)]), []);
    let commands = desk.delta(&[revoke(9)]);
    assert_eq!(told(&commands), [(one, Code::KeyRevoked), (two, Code::KeyRevoked)], "it need not be here");
    let at = |is: fn(&Command) -> bool| commands.iter().position(is);
    let last = commands.iter().rposition(|command| matches!(command, Command::Send { .. }));
    assert!(last < at(|command| matches!(command, Command::Report(Report::Applied { .. }))), "{commands:?}");
    assert_eq!(told(&desk.delta(&[revoke(9)])), [], "it was told");
    assert_eq!(
        watch(&mut desk, three, &[&plain(9)]),
        [(three, Code::KeyRevoked)],
        "who comes later, at once"
    );
}

#[test]
fn every_way_in_which_a_key_ends_is_told() {
    let until = NOW + 86_400;
    let parent = child_claims(9, NOW).parent.unwrap();
    let ways = [
        (Change::RevokeTree { serial: parent, until }, Code::KeyRevoked),
        (Change::RevokeTree { serial: serial(9), until }, Code::KeyRevoked),
        (Change::RevokeProject { project: project("z"), until }, Code::KeyRevoked),
        (Change::RevokeBefore { at: NOW + 10, until }, Code::KeyRevoked),
        (Change::Budget { serial: serial(9), standing: Standing::Frozen }, Code::BudgetExceeded),
        (Change::Budget { serial: parent, standing: Standing::Frozen }, Code::BudgetExceeded),
    ];
    for (change, code) in ways {
        let mut desk = Desk::open();
        // Of another family, issued later: it stays itself.
        let own = private(1, |claims| Claims { parent: Some(serial(77)), issued_at: NOW + 20, ..claims });
        let met = private(9, |claims| Claims { project: Some(project("z")), ..claims });
        let node = desk.enter(&own);
        assert_eq!(watch(&mut desk, node, &[&met]), []);
        assert_eq!(told(&desk.delta(std::slice::from_ref(&change))), [(node, code)], "{change:?}");
    }
    let mut desk = Desk::open();
    let node = desk.enter(&plain(1));
    watch(&mut desk, node, &[&plain(9)]);
    assert_eq!(told(&desk.snapshot(&[revoke(9)])), [(node, Code::KeyRevoked)], "also by a whole state");
}

#[test]
fn nothing_is_told_of_another_tenant_of_a_made_up_key_or_to_who_left() {
    let mut desk = Desk::open();
    let [node, left] = [1, 2].map(|number| desk.enter(&plain(number)));
    let foreign = private(9, |claims| Claims { tenant: "ten_b".parse().unwrap(), ..claims });
    let mut false_one = plain(9);
    *false_one.certificate.last_mut().unwrap() ^= 1;
    let public = desk.enter(&child(3));
    for (watcher, met) in [(node, &foreign), (node, &false_one), (public, &plain(9))] {
        watch(&mut desk, watcher, &[met]);
    }
    watch(&mut desk, left, &[&plain(9), &plain(8)]);
    desk.say(left, ToRelay::Unwatch { serials: vec![serial(9)] });
    assert_eq!(told(&desk.delta(&[revoke(9)])), []);
    desk.admission.handle_closed(left, desk.now());
    assert_eq!(told(&desk.delta(&[revoke(8)])), []);
    assert_eq!(desk.admission.watches.counts(), [0; 4], "nothing is kept of who left");
}

/// Certificates of so many children of one parent.
fn family(count: usize) -> Vec<Signed> {
    let child = |number: usize| {
        let mut bytes = [7; 16];
        bytes[..2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        Signed(private(9, |claims| Claims { serial: Serial::from_bytes(bytes), ..claims }).certificate)
    };
    (0..count).map(child).collect()
}

#[test]
fn the_end_of_a_family_is_one_message_for_each_node_that_has_met_it() {
    let mut desk = Desk::open();
    let nodes = [1, 2].map(|number| {
        let own = private(number, |claims| Claims { parent: Some(serial(77)), ..claims });
        desk.enter(&own)
    });
    let family = family(MAX_WATCHED);
    let parent = child_claims(9, NOW).parent.unwrap();
    for node in nodes {
        for some in family.chunks(64) {
            let commands = desk.say(node, ToRelay::Watch { certificates: some.to_vec() });
            assert_eq!((told(&commands), unwatched(&commands)), (vec![], 0));
        }
    }
    let commands = desk.delta(&[Change::RevokeTree { serial: parent, until: NOW + 86_400 }]);
    let ended = commands.iter().filter_map(|command| match command {
        Command::Send { message: ToNode::Revoked { serials, .. }, .. } => Some(serials.len()),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), [MAX_WATCHED; 2], "no queue takes one for each");
    let certificates = family[..64].to_vec();
    assert_eq!(
        desk.say(nodes[0], ToRelay::Watch { certificates }).len(),
        1,
        "nor do those that are over already"
    );
    assert_eq!(desk.admission.watches.counts(), [0; 4]);
}

#[test]
fn what_is_not_watched_is_said() {
    let mut desk = Desk::open();
    let node = desk.enter(&plain(1));
    let mut say =
        |certificates: &[Signed]| desk.say(node, ToRelay::Watch { certificates: certificates.to_vec() });
    let many = family(MAX_WATCHED + 2);
    assert_eq!(unwatched(&say(&many[..MAX_WATCHED])), 0);
    assert_eq!(unwatched(&say(&many[MAX_WATCHED..])), 2, "it watches as many as it may");
    assert_eq!(unwatched(&say(&many[..MAX_WATCHED])), 0, "what is watched costs nothing");
    let serial = |signed: &Signed| certificate::inspect(&signed.0).unwrap().peek().serial;
    desk.say(node, ToRelay::Unwatch { serials: many.iter().map(serial).collect() });
    assert_eq!(desk.admission.watches.counts(), [0; 4]);
    // Each that is new costs the relay a signature.
    let tenant = child_claims(1, NOW).tenant;
    while desk.admission.watches.may_name(node, &tenant, desk.now().instant) {}
    let commands = desk.say(node, ToRelay::Watch { certificates: many[..3].to_vec() });
    assert_eq!(unwatched(&commands), 3);
    desk.elapsed += Duration::from_secs(1);
    let commands = desk.say(node, ToRelay::Watch { certificates: many[..3].to_vec() });
    assert_eq!(unwatched(&commands), 0);
}
