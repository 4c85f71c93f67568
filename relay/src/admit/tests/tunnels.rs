//! What a node may serve, and how long.

use mytunnel_keys::id::TenantId;

use super::*;
use crate::ports::NoPort;
use crate::testing::{cluster, device_claims, project, serial};

#[test]
fn a_registration_is_routed_answered_and_reported() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    let commands = desk.register(node, "web", 7);

    let name: TunnelName = "web".parse().unwrap();
    let id = TunnelId::derive(&cluster(), &project("a"), &name);
    let kind = TunnelKind::Http;
    let registration = Registration {
        id,
        name: name.clone(),
        kind,
        project: project("a"),
        serial: serial(1),
        parent: Some(serial(100)),
        connection: node,
        instance: [7; 16],
        since: (1, 0),
    };
    let up = Report::TunnelUp {
        tunnel: id,
        name: name.clone(),
        project: project("a"),
        serial: serial(1),
        kind,
        at: NOW,
    };
    let urls = vec!["https://web.tun.example".to_owned()];
    let message = ToNode::Registered { request: 9, tunnel: id, name, urls, expires_at: NOW + 3600 };
    let send = Command::Send { connection: node, message };
    assert_eq!(commands, [Command::Report(up), Command::Route(registration, None), send]);
}

#[test]
fn what_the_certificate_does_not_cover_is_refused_and_the_session_goes_on() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    let ask = |kind, name: &str| ToRelay::Register {
        request: 1,
        name: name.parse().unwrap(),
        kind,
        instance: [1; 16],
        port: None,
    };
    for (message, code) in [
        (ask(TunnelKind::Tcp, "web"), Code::ScopeDenied),
        (ask(TunnelKind::Http, "other"), Code::ScopeDenied),
        (ask(TunnelKind::Http, "pr"), Code::ScopeDenied),
    ] {
        let commands = desk.say(node, message);
        assert_eq!(code_of(&commands), Some(code));
        assert_eq!(farewells(&commands), []);
        let refused = Report::Refused { serial: Some(serial(1)), code, at: NOW };
        assert_eq!(reports(&commands), [&refused]);
    }
    desk.serve(node, "pr-12", 1);

    let device = desk.enter(&issued(2, device_claims(2, NOW)));
    assert_eq!(code_of(&desk.say(device, ask(TunnelKind::Private, "db"))), Some(Code::BadRequest));
}

#[test]
fn a_tunnel_with_a_port_stands_when_the_port_is_open_and_falls_when_there_is_none() {
    let mut desk = Desk::open();
    let device = desk.enter(&issued(2, device_claims(2, NOW)));
    let name: TunnelName = "db".parse().unwrap();
    let ask = |desk: &mut Desk, port| {
        let (name, kind) = (name.clone(), TunnelKind::Tcp);
        desk.say(device, ToRelay::Register { request: 4, name, kind, instance: [1; 16], port })
    };
    let commands = ask(&mut desk, Some(2222));
    let tunnel = TunnelId::derive(&cluster(), &"ten_a".parse::<TenantId>().unwrap().home_project(), &name);
    let wanted = Wanted { tunnel, name: name.clone(), kind: TunnelKind::Tcp, port: Some(2222) };
    assert!(matches!(&commands[1], Command::Route(..)), "{commands:?}");
    assert_eq!(commands[2], Command::OpenPort { connection: device, request: 4, wanted });
    assert_eq!(commands.len(), 3, "nothing is promised before the port is open");

    let now = desk.now();
    desk.admission.handle_port((device, 4), &name, Ok(2222), now);
    let [Command::Send { message: ToNode::Registered { request: 4, urls, .. }, .. }] = &desk.commands()[..]
    else {
        panic!("no registration")
    };
    assert_eq!(urls, &["tcp://tun.example:2222"]);

    ask(&mut desk, None);
    desk.admission.handle_port((device, 4), &name, Err(NoPort::Taken(2222)), now);
    let commands = desk.commands();
    assert_eq!(code_of(&commands), Some(Code::NameTaken));
    assert!(commands.contains(&Command::Unroute { name: name.clone() }), "{commands:?}");
    assert!(reports(&commands).iter().any(|report| matches!(report, Report::TunnelDown { .. })));
    ask(&mut desk, None);
    let other = desk.enter(&issued(3, device_claims(3, NOW)));
    desk.admission.handle_port((other, 4), &name, Ok(2222), now);
    assert_eq!(desk.commands(), [], "it is for another connection");
    desk.say(device, ToRelay::Unregister { tunnel });
    // The node may have left meanwhile.
    desk.admission.handle_port((device, 4), &name, Ok(2222), now);
    assert_eq!(desk.commands(), []);
}

#[test]
fn a_name_belongs_to_a_project() {
    let mut desk = Desk::open();
    let web: TunnelName = "web".parse().unwrap();
    desk.delta(&[Change::Name { name: web.clone(), project: project("b") }]);
    let node = desk.enter(&child(1));
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NameTaken));

    let of_b = Claims { project: Some(project("b")), ..child_claims(2, NOW) };
    let owner = desk.enter(&issued(2, of_b));
    desk.serve(owner, "web", 2);
    desk.admission.handle_closed(owner, desk.now());
    desk.delta(&[Change::NameFreed { name: web }]);
    desk.serve(node, "web", 1);
}

#[test]
fn a_name_is_live_once() {
    let mut desk = Desk::open();
    let (first, second) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(first, "web", 1);
    assert_eq!(code_of(&desk.register(second, "web", 2)), Some(Code::NameTaken));
}

#[test]
fn a_childs_second_tunnel_is_refused() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
    assert_eq!(code_of(&desk.register(node, "pr-1", 1)), Some(Code::TunnelLimit));
    let elsewhere = desk.enter(&child(1));
    assert_eq!(code_of(&desk.register(elsewhere, "web", 2)), Some(Code::TunnelLimit));

    let id = TunnelId::derive(&cluster(), &project("a"), &"web".parse().unwrap());
    let commands = desk.say(node, ToRelay::Unregister { tunnel: id });
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(reports(&commands), [&Report::TunnelDown { tunnel: id, serial: serial(1), at: NOW }]);
    desk.serve(elsewhere, "pr-1", 2);
}

#[test]
fn a_node_that_comes_back_takes_over_from_its_half_dead_connection() {
    let mut desk = Desk::open();
    let old = desk.enter(&child(1));
    desk.serve(old, "web", 7);
    let new = desk.enter(&child(1));
    let commands = desk.register(new, "web", 7);

    assert_eq!(farewells(&commands), [old]);
    assert_eq!(unrouted(&commands), Vec::<&str>::new(), "the new route replaces the old one without a gap");
    assert!(
        !reports(&commands).iter().any(|report| matches!(report, Report::TunnelDown { .. })),
        "{commands:?}"
    );
    let routed =
        commands.iter().position(|command| matches!(command, Command::Route(to, _) if to.connection == new));
    assert!(routed.is_some(), "{commands:?}");

    desk.admission.handle_closed(old, desk.now());
    assert_eq!(desk.commands(), [], "the late end of the old connection changes nothing");
    assert_eq!(desk.admission.status().tunnels, 1);
}

#[test]
fn a_tunnel_that_goes_to_another_connection_leaves_others_of_the_old_one_alone() {
    let mut desk = Desk::open();
    let device = issued(1, device_claims(1, NOW));
    let old = desk.enter(&device);
    desk.serve(old, "a1", 7);
    desk.serve(old, "b1", 7);
    let new = desk.enter(&device);
    let commands = desk.register(new, "a1", 7);
    assert_eq!(farewells(&commands), []);
    let told = commands.iter().any(|command| {
        matches!(command, Command::Send { connection, message: ToNode::Closed { .. } } if *connection == old)
    });
    assert!(told, "{commands:?}");
    assert_eq!(desk.admission.status().tunnels, 2);
}

#[test]
fn a_device_serves_in_its_tenants_own_project() {
    let mut desk = Desk::open();
    let device = desk.enter(&issued(1, device_claims(1, NOW)));
    let commands = desk.register(device, "web", 1);
    let Some(Report::TunnelUp { project: own, .. }) = reports(&commands).first() else {
        panic!("{commands:?}")
    };
    assert_eq!(*own, project("a"));
}

#[test]
fn asking_too_often_is_refused_for_a_while() {
    let mut desk = Desk::open();
    let node = desk.enter(&child(1));
    let refused = (0..100).find(|_| code_of(&desk.register(node, "other", 1)) == Some(Code::RateLimited));
    assert_eq!(refused, Some(34));
    desk.wait(1);
    desk.serve(node, "web", 1);
}

#[test]
fn nothing_new_is_served_without_fresh_news_and_what_is_live_goes_on() {
    let mut desk = Desk::open();
    let (serving, idle) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(serving, "web", 1);
    assert_eq!(desk.wait(61), []);
    assert_eq!(code_of(&desk.register(idle, "pr-2", 2)), Some(Code::RelayStale));
    desk.heartbeat();
    desk.serve(idle, "pr-2", 2);
}

#[test]
fn at_the_end_of_its_certificate_a_tunnel_ends_by_itself() {
    let mut desk = Desk::open();
    let (node, other) = (desk.enter(&child(1)), desk.enter(&issued(2, device_claims(2, NOW))));
    desk.serve(node, "web", 1);
    desk.serve(other, "b1", 1);
    let mut before = Vec::new();
    for _ in 0..60 {
        desk.heartbeat();
        before.extend(desk.wait(59));
    }
    desk.heartbeat();
    assert_eq!(before, []);
    assert_eq!(desk.admission.poll_timeout(), Some(desk.start + Duration::from_secs(3600)));

    let commands = desk.wait(60);
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(farewells(&commands), [node]);
    assert_eq!(code_of(&commands), Some(Code::KeyExpired));
    assert!(matches!(commands[0], Command::Unroute { .. }), "{commands:?}");
    assert_eq!(desk.admission.status().tunnels, 1);
}
