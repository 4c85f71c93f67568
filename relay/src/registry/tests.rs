use std::time::Instant;

use super::*;
use crate::testing::{NOW, child_claims, device_claims, project, serial, verified};

/// A registry with a session for each set of claims, on connections 1, 2, …
fn registry(claims: impl IntoIterator<Item = Claims>) -> Registry {
    let mut registry = Registry::default();
    for (number, claims) in (1..).zip(claims) {
        let session = Session::new(PeerId::random(), verified(claims), b"", b"", Instant::now());
        registry.open(connection(number), session);
    }
    registry
}

fn connection(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

/// A registration of the key `key` on the connection `on` by the process `instance`.
fn tunnel(name: &str, key: u8, on: usize, instance: u8) -> Registration {
    let name: TunnelName = name.parse().unwrap();
    Registration {
        id: TunnelId::derive(&crate::testing::cluster(), &project("a"), &name),
        name,
        kind: TunnelKind::Http,
        project: project("a"),
        tenant: crate::testing::tenant(),
        serial: serial(key),
        parent: None,
        account: Some([1; 8]),
        connection: connection(on),
        instance: [instance; 16],
        alone: false,
        since: (0, 0),
    }
}

fn child(key: u8) -> Claims {
    child_claims(key, NOW)
}

fn device(key: u8) -> Claims {
    device_claims(key, NOW)
}

fn code(result: Result<Vec<Registration>, Conflict>) -> Code {
    result.unwrap_err().code
}

fn names(registrations: &[Registration]) -> Vec<&str> {
    registrations.iter().map(|registration| registration.name.as_str()).collect()
}

fn serving(registry: &Registry, name: &str) -> Vec<ConnectionId> {
    registry.members(&name.parse().unwrap()).iter().map(|live| live.connection).collect()
}

#[test]
fn nodes_of_one_project_serve_a_name_together() {
    let mut registry = registry([child(1), child(2), device(3)]);
    for (key, on) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(registry.register(tunnel("web", key, on, key)).unwrap(), []);
    }
    assert_eq!(serving(&registry, "web"), [1, 2, 3].map(connection));
    assert_eq!(registry.counts(), (3, 1));

    let id = tunnel("web", 1, 1, 1).id;
    assert_eq!(registry.unregister(connection(2), &id).unwrap().serial, serial(2));
    assert_eq!(registry.unregister(connection(2), &id), None);
    assert_eq!(serving(&registry, "web"), [1, 3].map(connection));
    registry.end(connection(1));
    registry.end(connection(3));
    assert_eq!(serving(&registry, "web"), []);
    assert!(registry.tunnels.is_empty());
}

#[test]
fn a_name_is_not_shared_with_another_project_or_another_kind() {
    let of_b = Claims { project: Some(project("b")), ..child(2) };
    let mut registry = registry([child(1), of_b, child(3)]);
    registry.register(tunnel("web", 1, 1, 1)).unwrap();
    let foreign = Registration { project: project("b"), ..tunnel("web", 2, 2, 2) };
    assert_eq!(code(registry.register(foreign)), Code::NameTaken);
    let tcp = Registration { kind: TunnelKind::Tcp, ..tunnel("web", 3, 3, 3) };
    assert_eq!(code(registry.register(tcp)), Code::NameTaken);
    assert_eq!(serving(&registry, "web"), [connection(1)]);
}

#[test]
fn only_kin_serve_a_name_together() {
    let of = |key: u8, parent: Option<u8>| Registration {
        parent: parent.map(serial),
        ..tunnel("web", key, key.into(), key)
    };
    let held_by = |first: Registration| {
        let mut registry = registry([child(1), child(2), child(3), child(4), child(5)]);
        registry.register(first).unwrap();
        registry
    };
    let taken = |result: Result<Vec<Registration>, Conflict>| result.err().map(|conflict| conflict.code);
    let mut registry = held_by(of(1, Some(100)));
    assert_eq!(taken(registry.register(of(2, Some(100)))), None, "of the same key");
    assert_eq!(taken(registry.register(of(3, Some(101)))), Some(Code::NameTaken), "of another");
    assert_eq!(taken(registry.register(of(4, None))), Some(Code::NameTaken), "a person");
    let device = |key: u8, account: Option<u8>| Registration {
        account: account.map(|account| [account; 8]),
        ..of(key, None)
    };
    let mut registry = held_by(device(1, Some(7)));
    assert_eq!(taken(registry.register(device(2, Some(7)))), None, "of one person");
    assert_eq!(taken(registry.register(device(3, Some(8)))), Some(Code::NameTaken), "another's");
    assert_eq!(taken(registry.register(device(4, None))), Some(Code::NameTaken), "nobody knows whose");
    let mut registry = held_by(device(1, None));
    assert_eq!(taken(registry.register(device(2, None))), Some(Code::NameTaken), "two such are not of one");
    let mut registry = held_by(of(1, None));
    assert_eq!(taken(registry.register(of(2, Some(1)))), Some(Code::NameTaken), "its own agent's");
    assert_eq!(taken(registry.register(of(3, Some(100)))), Some(Code::NameTaken), "an agent's");
    let mut registry = held_by(of(2, Some(1)));
    assert_eq!(taken(registry.register(of(1, None))), Some(Code::NameTaken), "the key that minted it");
}

#[test]
fn who_serves_a_name_alone_has_nobody_beside_it() {
    let alone = |key: u8, on| Registration { alone: true, ..tunnel("web", key, on, key) };
    let mut registry = registry([child(1), child(2), child(1)]);
    registry.register(tunnel("web", 1, 1, 1)).unwrap();
    let refused = registry.register(alone(2, 2)).unwrap_err();
    assert_eq!(refused.code, Code::NameTaken);
    assert!(refused.help.unwrap().contains("--alone"));
    registry.end(connection(1));
    registry.register(alone(2, 2)).unwrap();
    let refused = registry.register(tunnel("web", 1, 3, 1)).unwrap_err();
    assert_eq!(refused.code, Code::NameTaken);
    assert!(refused.help.unwrap().contains("--alone"));
    assert_eq!(registry.register(alone(2, 2)).unwrap().len(), 1, "it may come back itself");
}

#[test]
fn only_so_many_serve_a_name() {
    let keys = || 1..=u8::try_from(MAX_BACKENDS).unwrap() + 1;
    let mut registry = registry(keys().map(child));
    let joined = keys().filter(|key| registry.register(tunnel("web", *key, (*key).into(), *key)).is_ok());
    assert_eq!(joined.count(), MAX_BACKENDS);
    assert_eq!(code(registry.register(tunnel("web", 17, 17, 17))), Code::TunnelLimit);
    registry.end(connection(5));
    registry.register(tunnel("web", 17, 17, 17)).unwrap();
}

#[test]
fn a_child_has_one_tunnel() {
    let mut registry = registry([child(1), child(1)]);
    registry.register(tunnel("web", 1, 1, 1)).unwrap();
    assert_eq!(code(registry.register(tunnel("pr-1", 1, 1, 1))), Code::TunnelLimit);
    assert_eq!(code(registry.register(tunnel("pr-1", 1, 2, 2))), Code::TunnelLimit);
    assert_eq!(code(registry.register(tunnel("web", 1, 2, 2))), Code::TunnelLimit);
    assert_eq!(registry.tunnels().count(), 1);
}

#[test]
fn the_same_process_takes_over_on_a_new_connection() {
    let mut registry = registry([child(1), child(1)]);
    registry.register(tunnel("web", 1, 1, 7)).unwrap();

    let displaced = registry.register(tunnel("web", 1, 2, 7)).unwrap();
    assert_eq!(names(&displaced), ["web"]);
    assert_eq!(displaced[0].connection, connection(1));
    assert!(registry.is_idle(connection(1)) && !registry.is_idle(connection(2)));

    let displaced = registry.register(tunnel("pr-1", 1, 1, 7)).unwrap();
    assert_eq!(names(&displaced), ["web"]);
    assert_eq!(registry.tunnels().count(), 1);
}

#[test]
fn registering_again_on_the_same_connection_changes_nothing() {
    let mut registry = registry([child(1)]);
    registry.register(tunnel("web", 1, 1, 7)).unwrap();
    let displaced = registry.register(tunnel("web", 1, 1, 7)).unwrap();
    assert_eq!(names(&displaced), ["web"]);
    assert_eq!(registry.tunnels().count(), 1);
    assert!(!registry.is_idle(connection(1)));
}

#[test]
fn a_device_has_as_many_tunnels_as_its_certificate_says_over_all_connections() {
    let mut registry = registry([device(1), device(1)]);
    registry.register(tunnel("a1", 1, 1, 1)).unwrap();
    registry.register(tunnel("b1", 1, 1, 1)).unwrap();
    registry.register(tunnel("c1", 1, 2, 2)).unwrap();
    assert_eq!(code(registry.register(tunnel("d1", 1, 2, 2))), Code::TunnelLimit);
    assert_eq!(code(registry.register(tunnel("a1", 1, 2, 2))), Code::TunnelLimit, "twice is two tunnels");

    registry.end(connection(1));
    registry.register(tunnel("d1", 1, 2, 2)).unwrap();
    assert_eq!(registry.tunnels().count(), 2);
}

#[test]
fn a_key_without_tunnels_gets_none() {
    let mut registry = registry([Claims { max_tunnels: 0, ..child(1) }]);
    let conflict = registry.register(tunnel("web", 1, 1, 1)).unwrap_err();
    assert_eq!(conflict.code, Code::TunnelLimit);
    assert!(conflict.reason.contains("serves nothing") && conflict.help.is_some(), "{conflict:?}");
}

#[test]
fn a_renewal_takes_over_from_the_one_sibling_that_it_was_minted_to_replace() {
    let replacing = |old: u8, new: u8| Claims { replaces: Some(serial(old)), ..child(new) };
    let stranger = Claims { parent: Some(serial(101)), ..replacing(1, 3) };
    let mut registry = registry([child(1), replacing(1, 2), stranger, replacing(5, 4), child(5)]);
    registry.register(tunnel("web", 1, 1, 1)).unwrap();
    registry.register(tunnel("web", 5, 5, 5)).unwrap();

    assert_eq!(registry.register(tunnel("web", 3, 3, 3)).unwrap(), [], "another minted it");
    let displaced = registry.register(tunnel("web", 2, 2, 2)).unwrap();
    assert_eq!(displaced.iter().map(|old| old.serial).collect::<Vec<_>>(), [serial(1)]);
    let displaced = registry.register(tunnel("web", 4, 4, 4)).unwrap();
    assert_eq!(displaced.iter().map(|old| old.serial).collect::<Vec<_>>(), [serial(5)]);
    assert_eq!(serving(&registry, "web"), [3, 2, 4].map(connection));
}

#[test]
fn the_end_of_a_session_ends_its_tunnels_and_leaves_no_trace() {
    let mut registry = registry([device(1), child(2)]);
    registry.register(tunnel("a1", 1, 1, 1)).unwrap();
    registry.register(tunnel("b1", 1, 1, 1)).unwrap();
    registry.register(tunnel("web", 2, 2, 2)).unwrap();

    let mut ended = registry.end(connection(1)).unwrap();
    ended.tunnels.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(names(&ended.tunnels), ["a1", "b1"]);
    assert!(registry.end(connection(1)).is_none());
    assert_eq!(registry.tunnels().count(), 1);

    registry.end(connection(2));
    assert!(registry.by_serial.is_empty() && registry.by_parent.is_empty() && registry.by_project.is_empty());
    assert!(registry.sessions.is_empty() && registry.tunnels.is_empty());
}

#[test]
fn sessions_are_found_by_every_way_in_which_their_right_can_end() {
    let other = Claims { parent: Some(serial(101)), project: Some(project("b")), ..child(3) };
    let registry = registry([child(1), child(2), other, device(4)]);
    let sorted = |mut found: Vec<ConnectionId>| {
        found.sort();
        found
    };
    assert_eq!(sorted(registry.of_parent(&serial(100))), [connection(1), connection(2)]);
    assert_eq!(sorted(registry.of_serial(&serial(3))), [connection(3)]);
    assert_eq!(sorted(registry.of_project(&project("b"))), [connection(3)]);
    assert!(registry.of_parent(&serial(1)).is_empty());
}

#[test]
fn tunnels_of_devices_are_found_by_their_project() {
    let mut registry = registry([device(1), child(2)]);
    registry.register(tunnel("a1", 1, 1, 1)).unwrap();
    registry.register(tunnel("web", 2, 2, 2)).unwrap();
    let found: Vec<_> = registry.of_project_by_others(&project("a")).map(|live| live.name.as_str()).collect();
    assert_eq!(found, ["a1"]);
    assert_eq!(registry.of_project_by_others(&project("b")).count(), 0);
}
