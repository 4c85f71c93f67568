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
        tenant: crate::testing::tenant(),
        serial: serial(1),
        parent: Some(serial(100)),
        account: None,
        connection: node,
        instance: [7; 16],
        alone: false,
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
    let message =
        ToNode::Registered { request: 9, tunnel: id, name, urls, expires_at: NOW + 3600, backends: 1 };
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
        alone: false,
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
    assert_eq!(code_of(&desk.say(node, ask(TunnelKind::Private, "web"))), Some(Code::ScopeDenied));
}

#[test]
fn a_tunnel_with_a_port_stands_when_the_port_is_open_and_falls_when_there_is_none() {
    let mut desk = Desk::open();
    let device = desk.enter(&issued(2, device_claims(2, NOW)));
    let name: TunnelName = "db".parse().unwrap();
    let ask = |desk: &mut Desk, port| {
        let (name, kind) = (name.clone(), TunnelKind::Tcp);
        desk.say(device, ToRelay::Register { request: 4, name, kind, instance: [1; 16], port, alone: false })
    };
    let commands = ask(&mut desk, Some(2222));
    let tunnel = TunnelId::derive(&cluster(), &"ten_a".parse::<TenantId>().unwrap().home_project(), &name);
    let wanted = Wanted {
        tunnel,
        tenant: "ten_a".parse().unwrap(),
        name: name.clone(),
        kind: TunnelKind::Tcp,
        port: Some(2222),
        shared: false,
    };
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
    assert!(commands.contains(&Command::Unroute { place: (name.clone(), device) }), "{commands:?}");
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
    desk.delta(&[Change::Name { name: web.clone(), project: project("b"), kind: None }]);
    let node = desk.enter(&child(1));
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NameTaken));

    let of_b = Claims { project: Some(project("b")), ..child_claims(2, NOW) };
    let owner = desk.enter(&issued(2, of_b));
    desk.serve(owner, "web", 2);
    desk.admission.handle_closed(owner, desk.now());
    desk.delta(&[Change::NameFreed { name: web }]);
    desk.serve(node, "web", 1);
}

/// What nodes are told of others beside them, in order.
fn company(commands: &[Command]) -> Vec<(ConnectionId, u16)> {
    let told = |command: &Command| match command {
        Command::Send { connection, message: ToNode::Backends { count, .. } } => Some((*connection, *count)),
        Command::Send { connection, message: ToNode::Registered { backends, .. } } => {
            Some((*connection, *backends))
        }
        _ => None,
    };
    commands.iter().filter_map(told).collect()
}

#[test]
fn who_serves_a_name_is_told_of_each_who_comes_and_goes() {
    let mut desk = Desk::open();
    let (first, second) = (desk.enter(&child(1)), desk.enter(&child(2)));
    assert_eq!(company(&desk.register(first, "web", 1)), [(first, 1)]);
    let commands = desk.register(second, "web", 2);
    assert_eq!(company(&commands), [(second, 2), (first, 2)]);
    assert_eq!(unrouted(&commands), Vec::<&str>::new());
    let third = desk.enter(&child(3));
    assert_eq!(company(&desk.register(third, "web", 3)), [(third, 3), (first, 3), (second, 3)]);

    let id = TunnelId::derive(&cluster(), &project("a"), &"web".parse().unwrap());
    let commands = desk.say(third, ToRelay::Unregister { tunnel: id });
    assert_eq!(company(&commands), [(first, 2), (second, 2)]);
    assert_eq!(reports(&commands), [&Report::TunnelDown { tunnel: id, serial: serial(3), at: NOW }]);
    desk.admission.handle_closed(first, desk.now());
    let commands = desk.commands();
    assert_eq!(unrouted(&commands), ["web"]);
    assert_eq!(company(&commands), [(second, 1)]);
}

#[test]
fn who_leaves_is_spared_and_served_to_its_end() {
    let mut desk = Desk::open();
    let (first, second) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(first, "web", 1);
    let tunnel = TunnelId::derive(&cluster(), &project("a"), &"web".parse().unwrap());
    assert_eq!(desk.say(second, ToRelay::Leave { tunnel }), [], "it serves no such thing");
    let commands = desk.say(first, ToRelay::Leave { tunnel });
    assert_eq!(commands, [Command::Spare { place: ("web".parse().unwrap(), first) }]);
    assert_eq!(desk.admission.status().tunnels, 1);
}

#[test]
fn a_key_that_serves_a_name_twice_is_reported_down_when_both_are_gone() {
    let mut desk = Desk::open();
    let device = issued(1, device_claims(1, NOW));
    let (first, second) = (desk.enter(&device), desk.enter(&device));
    desk.serve(first, "web", 1);
    desk.serve(second, "web", 2);
    let downs = |desk: &mut Desk, connection| {
        desk.admission.handle_closed(connection, desk.now());
        let commands = desk.commands();
        reports(&commands).iter().filter(|report| matches!(report, Report::TunnelDown { .. })).count()
    };
    assert_eq!(downs(&mut desk, first), 0);
    assert_eq!(downs(&mut desk, second), 1);
}

#[test]
fn the_end_of_ones_right_leaves_the_others_of_the_name() {
    let mut desk = Desk::open();
    let (first, second) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(first, "web", 1);
    desk.serve(second, "web", 2);
    let revoke = Change::Revoke { serial: serial(1), until: NOW + 3600 };
    let commands = desk.delta(&[revoke]);
    assert!(commands.contains(&Command::Unroute { place: ("web".parse().unwrap(), first) }), "{commands:?}");
    assert_eq!((unrouted(&commands).len(), farewells(&commands)), (1, vec![first]));
    assert!(
        !commands.iter().any(|command| matches!(command, Command::Retire { .. })),
        "the name is not over: {commands:?}"
    );
    assert_eq!(company(&commands), [(second, 1)]);
    assert_eq!(desk.admission.status().tunnels, 1);

    let revoke = Change::Revoke { serial: serial(2), until: NOW + 3600 };
    let commands = desk.delta(&[revoke]);
    assert!(commands.iter().any(|command| matches!(command, Command::Retire { .. })), "{commands:?}");
}

#[test]
fn what_is_said_of_a_tunnel_holds_for_each_who_serves_it() {
    let mut desk = Desk::open();
    let (first, second) = (desk.enter(&child(1)), desk.enter(&child(2)));
    desk.serve(first, "web", 1);
    desk.serve(second, "web", 2);
    let (name, id): (TunnelName, _) =
        ("web".parse().unwrap(), TunnelId::derive(&cluster(), &project("a"), &"web".parse().unwrap()));
    let gates = Gates { ends_at: Some(NOW + 3600), ..Gates::default() };
    let commands = desk.delta(&[Change::Gates { tunnel: id, gates }]);
    let gated: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Gate { place, .. } => Some(place.1),
            _ => None,
        })
        .collect();
    assert_eq!(gated, [first, second]);
    let commands = desk.delta(&[Change::Close { tunnel: id, epoch: 9 }]);
    assert_eq!(unrouted(&commands), ["web", "web"]);
    assert_eq!(company(&commands), [], "nobody is left to be told");
    desk.serve(first, "web", 1);
    desk.serve(second, "web", 2);
    let commands = desk.delta(&[Change::NameFreed { name }]);
    assert_eq!(unrouted(&commands), ["web", "web"]);
}

#[test]
fn a_name_that_was_given_up_is_for_its_last_tenant_alone_until_it_is_free() {
    let mut desk = Desk::open();
    let web: TunnelName = "web".parse().unwrap();
    let owned = Change::Name { name: web.clone(), project: project("gone"), kind: None };
    let kept = Change::NameKept { name: web.clone(), tenant: "ten_b".parse().unwrap() };
    let node = desk.enter(&child(1));
    desk.delta(&[owned]);
    let commands = desk.delta(std::slice::from_ref(&kept));
    assert!(commands.contains(&Command::Forget { name: web.clone() }));
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NameTaken));
    let theirs =
        Claims { tenant: "ten_b".parse().unwrap(), project: Some(project("b")), ..child_claims(2, NOW) };
    let theirs = desk.enter(&issued(2, theirs));
    assert_eq!(code_of(&desk.register(theirs, "web", 1)), None, "whose it was may have it at once");
    desk.say(theirs, ToRelay::Unregister { tunnel: TunnelId::derive(&cluster(), &project("b"), &web) });
    desk.snapshot(&[kept]);
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NameTaken));
    assert!(desk.snapshot(&[]).contains(&Command::Forget { name: web.clone() }));
    assert_eq!(code_of(&desk.register(node, "web", 1)), None);
    desk.delta(&[Change::NameKept { name: web.clone(), tenant: "ten_b".parse().unwrap() }]);
    assert_eq!(code_of(&desk.register(node, "web", 1)), Some(Code::NameTaken));
    desk.delta(&[Change::NameFreed { name: web }]);
    assert_eq!(code_of(&desk.register(node, "web", 1)), None);
}

#[test]
fn tls_ends_behind_the_relay_for_who_has_asked_for_that_and_where_the_relay_allows_it() {
    let ask = |desk: &mut Desk, claims: Claims| {
        let node = desk.enter(&issued(claims.serial.as_bytes()[0], claims));
        let (name, kind) = ("web".parse().unwrap(), TunnelKind::Tls);
        let register =
            ToRelay::Register { request: 4, name, kind, instance: [1; 16], port: None, alone: false };
        desk.say(node, register)
    };
    let help_of = |commands: &[Command]| {
        commands.iter().find_map(|command| match command {
            Command::Send { message: ToNode::Refused { code: Code::ScopeDenied, help, .. }, .. } => {
                Some(help.clone())
            }
            _ => None,
        })
    };
    let asked = || Claims { scopes: "http tls".parse().unwrap(), ..child_claims(2, NOW) };
    let mut desk = Desk::open();
    let usual = ask(&mut desk, child_claims(1, NOW));
    assert!(help_of(&usual).is_some_and(|help| help.contains("--scope http,tls")), "{usual:?}");
    assert_eq!(code_of(&ask(&mut desk, asked())), None);
    assert_eq!(code_of(&ask(&mut Desk::open(), device_claims(3, NOW))), None);

    let closed = || {
        let mut desk = Desk::under(Policy { passthrough: false, ..Desk::policy(0) });
        desk.snapshot(&[]);
        desk
    };
    for claims in [asked(), device_claims(3, NOW)] {
        let refused = ask(&mut closed(), claims);
        assert!(help_of(&refused).is_some_and(|help| help.contains("passthrough = true")), "{refused:?}");
    }
    let mut desk = closed();
    let node = desk.enter(&child(1));
    desk.serve(node, "web", 1);
}

#[test]
fn a_port_is_kept_while_one_serves_it_and_asked_for_by_all() {
    let mut desk = Desk::open();
    let nodes = [1, 2].map(|number| desk.enter(&issued(number, device_claims(number, NOW))));
    let name: TunnelName = "db".parse().unwrap();
    let tunnel = TunnelId::derive(&cluster(), &"ten_a".parse::<TenantId>().unwrap().home_project(), &name);
    for (node, shared) in nodes.into_iter().zip([false, true]) {
        let (name, kind) = (name.clone(), TunnelKind::Tcp);
        let register =
            ToRelay::Register { request: 4, name, kind, instance: [1; 16], port: None, alone: false };
        let commands = desk.say(node, register);
        let wanted = |command: &Command| matches!(command, Command::OpenPort { wanted, .. } if wanted.shared == shared);
        assert!(commands.iter().any(wanted), "{commands:?}");
        desk.admission.handle_port((node, 4), &"db".parse().unwrap(), Ok(2222), desk.now());
        desk.commands();
    }
    let closes = |commands: &[Command]| {
        commands.iter().filter(|command| matches!(command, Command::ClosePort { .. })).count()
    };
    assert_eq!(closes(&desk.say(nodes[0], ToRelay::Unregister { tunnel })), 0);
    assert_eq!(closes(&desk.say(nodes[1], ToRelay::Unregister { tunnel })), 1);
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
    assert!(
        !reports(&commands).iter().any(|report| matches!(report, Report::TunnelDown { .. })),
        "{commands:?}"
    );
    let routed =
        commands.iter().position(|command| matches!(command, Command::Route(to, _) if to.connection == new));
    let old_place = ("web".parse().unwrap(), old);
    let unrouted = commands
        .iter()
        .position(|command| matches!(command, Command::Unroute { place } if *place == old_place));
    assert!(routed.is_some() && routed < unrouted, "there is no gap: {commands:?}");
    assert_eq!(company(&commands), [(new, 1)]);

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
