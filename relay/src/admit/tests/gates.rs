//! Gates, and tunnels that their owner closes.

use mytunnel_keys::feed::BasicGate;

use super::*;
use crate::testing::{cluster, device_claims, project};

fn id(name: &str) -> TunnelId {
    TunnelId::derive(&cluster(), &project("a"), &name.parse().unwrap())
}

fn password(generation: u64) -> Gates {
    let basic = BasicGate { user: "ann".to_owned(), hash: "$argon2id$x".to_owned(), generation };
    Gates { basic: Some(basic), ..Gates::default() }
}

fn gated(name: &str, gates: Gates) -> Change {
    Change::Gates { tunnel: id(name), gates }
}

fn close(name: &str, epoch: u64) -> Change {
    Change::Close { tunnel: id(name), epoch }
}

/// The gates of each name that is routed or gated, in order.
fn gates(commands: &[Command]) -> Vec<(&str, Option<Gates>)> {
    let mut found = Vec::new();
    for command in commands {
        match command {
            Command::Route(to, gates) => found.push((to.name.as_str(), gates.as_deref().cloned())),
            Command::Gate { place: (name, _), gates } => {
                found.push((name.as_str(), gates.as_deref().cloned()))
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_tunnel_is_never_up_without_its_gates() {
    let mut desk = Desk::unheard();
    let node = desk.connect(&child(1));
    let early = desk.hello(node, &child(1).certificate);
    assert_eq!(code_of(&early), Some(Code::RelayStale), "before the first snapshot nobody gets in");

    desk.snapshot(&[gated("web", password(1))]);
    let node = desk.enter(&child(1));
    assert_eq!(gates(&desk.register(node, "web", 1)), [("web", Some(password(1)))]);
    // A node that comes back finds them again, also those that came while it was away.
    desk.admission.handle_closed(node, desk.now());
    desk.commands();
    desk.delta(&[gated("web", password(2))]);
    let node = desk.enter(&child(1));
    assert_eq!(gates(&desk.register(node, "web", 1)), [("web", Some(password(2)))]);
}

#[test]
fn gates_of_a_live_tunnel_change_before_that_counts_as_applied() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let commands = desk.delta(&[gated("web", password(1)), gated("other", password(1))]);
    assert_eq!(gates(&commands), [("web", Some(password(1)))]);
    assert_eq!(commands.last(), Some(&Command::Report(Report::Applied { epoch: 1, closed: 0 })));
    let commands = desk.delta(&[gated("web", Gates::default())]);
    assert_eq!(gates(&commands), [("web", None)]);
}

#[test]
fn a_snapshot_has_all_gates_that_there_are() {
    let mut desk = Desk::open();
    let claims = device_claims(3, NOW);
    let home = claims.tenant.home_project();
    let device = desk.enter(&issued(3, claims));
    for name in ["a1", "b1", "c1"] {
        desk.serve(device, name, 1);
    }
    let of = |name: &str, gates| {
        let tunnel = TunnelId::derive(&cluster(), &home, &name.parse().unwrap());
        Change::Gates { tunnel, gates }
    };
    desk.delta(&[of("a1", password(1)), of("b1", password(1))]);

    let commands = desk.snapshot(&[of("b1", password(1)), of("c1", password(2))]);
    let mut now: Vec<_> = gates(&commands);
    now.sort_by_key(|(name, _)| *name);
    assert_eq!(now, [("a1", None), ("b1", Some(password(1))), ("c1", Some(password(2)))]);
}

#[test]
fn gates_belong_to_a_project_and_not_to_a_name() {
    let mut desk = Desk::open();
    desk.delta(&[gated("web", password(1))]);
    let of_b = Claims { project: Some(project("b")), ..child_claims(2, NOW) };
    let node = desk.enter(&issued(2, of_b));
    assert_eq!(gates(&desk.register(node, "web", 1)), [("web", None)], "another project's tunnel");
}

#[test]
fn a_closed_tunnel_ends_for_its_visitors_and_its_node_may_serve_it_again() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    let commands = desk.delta(&[close("web", 1)]);
    assert_eq!(unrouted(&commands), ["web"]);
    assert!(commands.contains(&Command::Retire { name: "web".parse().unwrap() }));
    assert_eq!(code_of(&commands), Some(Code::NotFound));
    assert_eq!(farewells(&commands), [], "its session goes on");
    assert_eq!(commands.iter().filter(|one| matches!(one, Command::Report(_))).count(), 2);
    assert_eq!(reports(&commands).last(), Some(&&Report::Applied { epoch: 1, closed: 1 }));
    desk.serve(node, "web", 1);
    assert_eq!(unrouted(&desk.delta(&[])), Vec::<&str>::new());
}

#[test]
fn a_relay_that_was_away_closes_what_it_registered_before_it_knew() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    // Closed in epoch 1, of which this relay hears by a snapshot.
    desk.epoch = 3;
    assert_eq!(unrouted(&desk.snapshot(&[close("web", 1)])), ["web"]);
    desk.serve(node, "web", 1);
    let again = desk.snapshot(&[close("web", 1)]);
    assert_eq!(unrouted(&again), Vec::<&str>::new(), "registered with knowledge of it");
}

#[test]
fn nobody_waits_for_a_node_that_was_away_when_its_tunnel_ended() {
    let retired = Command::Retire { name: "web".parse().unwrap() };
    let mut desk = Desk::open();
    desk.delta(&[named("web"), named("other"), gated("web", ending(NOW + 60))]);
    assert!(!desk.wait(59).contains(&retired));
    let commands = desk.wait(1);
    let count = commands.iter().filter(|one| matches!(one, Command::Retire { .. })).count();
    assert!(commands.contains(&retired) && count == 1, "{commands:?}");
    // Also after a restart, when all that is known comes at once.
    let state = [named("web"), gated("web", ending(NOW - 1))];
    assert!(Desk::open().snapshot(&state).contains(&retired));
}

#[test]
fn gates_of_a_name_are_known_also_where_no_node_serves_it() {
    let known = |commands: &[Command]| -> Vec<(String, Option<Gates>)> {
        let pick = |command: &Command| match command {
            Command::KnownGates { name, gates } => Some((name.to_string(), gates.as_deref().cloned())),
            _ => None,
        };
        commands.iter().filter_map(pick).collect()
    };
    let web = |gates: Option<Gates>| [("web".to_owned(), gates)];
    let mut desk = Desk::open();
    // Whichever of the two is heard of first.
    assert_eq!(known(&desk.delta(&[gated("web", password(1))])), []);
    assert_eq!(known(&desk.delta(&[named("web")])), web(Some(password(1))));
    assert_eq!(known(&desk.delta(&[gated("web", password(2))])), web(Some(password(2))));
    assert_eq!(known(&desk.delta(&[gated("web", Gates::default())])), web(None));
    assert_eq!(
        known(&desk.snapshot(&[named("web"), gated("web", password(3))])).last(),
        web(Some(password(3))).last()
    );
    // The next owner of the name has none of them.
    let of_b = Change::Name { name: "web".parse().unwrap(), project: project("b"), kind: None };
    assert_eq!(known(&desk.delta(&[of_b])), web(None));
    assert_eq!(known(&desk.delta(&[gated("web", password(4))])), []);
}

fn named(name: &str) -> Change {
    Change::Name { name: name.parse().unwrap(), project: project("a"), kind: None }
}

fn ending(at: u64) -> Gates {
    Gates { ends_at: Some(at), ..Gates::default() }
}

#[test]
fn a_tunnel_ends_at_its_end_and_stays_so_until_it_has_another() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.delta(&[gated("web", ending(NOW + 60))]);
    desk.serve(node, "web", 1);
    assert_eq!(unrouted(&desk.wait(59)), Vec::<&str>::new());
    let commands = desk.wait(1);
    assert_eq!(unrouted(&commands), ["web"]);
    assert!(commands.contains(&Command::Retire { name: "web".parse().unwrap() }));
    assert_eq!(
        (code_of(&commands), farewells(&commands).len()),
        (Some(Code::NotFound), 0),
        "its session goes on"
    );

    // A node that has gone mad does not get it back, also by a clock that was set back.
    let again = desk.register(node, "web", 1);
    assert_eq!(code_of(&again), Some(Code::NotFound));
    desk.behind = Duration::from_secs(30);
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NotFound));
    desk.delta(&[gated("web", Gates::default())]);
    desk.serve(node, "web", 1);

    // Another end is one that comes another time; one that is past has come.
    desk.behind = Duration::ZERO;
    desk.delta(&[gated("web", ending(NOW + 120))]);
    assert_eq!(unrouted(&desk.delta(&[gated("web", ending(NOW + 180))])), Vec::<&str>::new());
    assert_eq!(unrouted(&desk.wait(119)), Vec::<&str>::new());
    assert_eq!(unrouted(&desk.wait(1)), ["web"]);
    desk.delta(&[gated("web", Gates::default())]);
    desk.serve(node, "web", 1);
    assert_eq!(unrouted(&desk.delta(&[gated("web", ending(NOW + 1))])), ["web"]);
}

#[test]
fn an_end_that_a_relay_hears_of_late_is_one_at_once() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    assert_eq!(unrouted(&desk.delta(&[gated("web", ending(NOW - 1))])), ["web"]);
    // One that was moved is the later one.
    desk.delta(&[gated("web", ending(NOW + 10))]);
    desk.serve(node, "web", 1);
    desk.delta(&[gated("web", ending(NOW + 100))]);
    assert_eq!(unrouted(&desk.wait(50)), Vec::<&str>::new());
    assert_eq!(unrouted(&desk.snapshot(&[gated("web", ending(NOW + 100))])), Vec::<&str>::new());
    assert_eq!(unrouted(&desk.wait(50)), ["web"]);
}
