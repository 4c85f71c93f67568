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
    assert_eq!(desk.admission.watches.len(), (0, 0), "nothing is kept of who left");
}

#[test]
fn a_node_watches_so_many_and_is_let_name_so_many() {
    let mut desk = Desk::open();
    let node = desk.enter(&plain(1));
    let many = (0..=MAX_WATCHED).map(|number| {
        let mut bytes = [7; 16];
        bytes[0] = u8::try_from(number).unwrap();
        private(9, |claims| Claims { serial: Serial::from_bytes(bytes), ..claims })
    });
    let many: Vec<_> = many.collect();
    for part in many.chunks(32) {
        watch(&mut desk, node, &part.iter().collect::<Vec<_>>());
    }
    assert_eq!(desk.admission.watches.len().0, MAX_WATCHED);
    let serials = many.iter().map(|met| certificate::inspect(&met.certificate).unwrap().peek().serial);
    desk.say(node, ToRelay::Unwatch { serials: serials.collect() });
    assert_eq!(desk.admission.watches.len().0, 0);
    // It has named half of what it may at once: each costs the relay a signature.
    let mut named = 0;
    while desk.admission.watches.may_name(node, desk.now().instant) {
        named += 1;
    }
    assert_eq!(named, MAX_WATCHED);
    desk.elapsed += Duration::from_secs(1);
    assert!(desk.admission.watches.may_name(node, desk.now().instant));
}
