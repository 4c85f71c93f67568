//! Is the lab what it says? Judged by bare sockets.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    lab::{Host, Lab, Router},
    nat::{Egress, Kind, Nat},
    probe::{Behaviour, Scope, punch_tcp, punch_udp, tcp_behaviour, udp_behaviour},
};

/// Longer than the theory's pairs take by far; those that it forbids are watched for so long.
const PUNCHING: Duration = Duration::from_millis(800);

const TRANSLATING: [Kind; 4] = [Kind::FullCone, Kind::Restricted, Kind::PortRestricted, Kind::Symmetric];

/// Two hosts that everybody reaches, one behind a router.
struct Home {
    servers: [Host; 2],
    router: Router,
    host: Host,
    lab: Lab,
}

fn home(nat: Nat) -> Result<Home> {
    let lab = Lab::new()?;
    let servers = [lab.host()?, lab.host()?];
    let router = lab.router(nat)?;
    let host = lab.host_behind(&router)?;
    Ok(Home { servers, router, host, lab })
}

impl Home {
    fn behaviours(&self) -> Result<[Behaviour; 2]> {
        let servers = self.servers.each_ref();
        Ok([udp_behaviour(&self.host, servers)?, tcp_behaviour(&self.host, servers)?])
    }
}

/// What a kind is named for.
fn named_for(kind: Kind) -> (Scope, Scope) {
    match kind {
        Kind::Routed | Kind::FullCone => (Scope::Any, Scope::Any),
        Kind::Firewall | Kind::PortRestricted => (Scope::Any, Scope::Endpoint),
        Kind::Restricted => (Scope::Any, Scope::Address),
        Kind::Symmetric => (Scope::Endpoint, Scope::Endpoint),
    }
}

#[test]
fn each_kind_maps_and_filters_as_it_is_named_for() -> Result<()> {
    let mut home = home(Nat::new(Kind::Routed))?;
    for kind in [Kind::Routed, Kind::Firewall].into_iter().chain(TRANSLATING) {
        for nat in [Nat::new(kind), Nat::new(kind).with_random_ports()] {
            home.router.set(nat.clone())?;
            let (mapping, filtering) = named_for(kind);
            for found in home.behaviours()? {
                assert_eq!((found.mapping, found.filtering), (mapping, filtering), "{nat:?}");
                let keeps = nat == Nat::new(kind) && kind != Kind::Symmetric || nat.is_routed();
                assert_eq!(found.keeps_port, keeps, "{nat:?}");
            }
        }
    }
    Ok(())
}

/// Two NATs let their hosts meet unless one is symmetric and the other looks at ports.
#[test]
fn holes_are_punched_where_theory_says() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.host()?;
    let mut routers = [lab.router(Nat::new(Kind::FullCone))?, lab.router(Nat::new(Kind::FullCone))?];
    let hosts = [lab.host_behind(&routers[0])?, lab.host_behind(&routers[1])?];
    for one in TRANSLATING {
        for other in TRANSLATING {
            routers[0].set(Nat::new(one))?;
            routers[1].set(Nat::new(other))?;
            let hard = |kind| matches!(kind, Kind::PortRestricted | Kind::Symmetric);
            let theory =
                !((one == Kind::Symmetric && hard(other)) || (other == Kind::Symmetric && hard(one)));
            assert_eq!(punch_udp(&hosts[0], &hosts[1], &server, PUNCHING)?, theory, "{one:?} {other:?} UDP");
            assert_eq!(punch_tcp(&hosts[0], &hosts[1], &server, PUNCHING)?, theory, "{one:?} {other:?} TCP");
        }
    }
    Ok(())
}

#[test]
fn ports_of_its_own_do_not_keep_a_cone_from_being_punched() -> Result<()> {
    let lab = Lab::new()?;
    let server = lab.host()?;
    let nat = Nat::new(Kind::PortRestricted).with_random_ports();
    let routers = [lab.router(nat.clone())?, lab.router(nat)?];
    let hosts = [lab.host_behind(&routers[0])?, lab.host_behind(&routers[1])?];
    assert!(punch_udp(&hosts[0], &hosts[1], &server, PUNCHING)?);
    assert!(punch_tcp(&hosts[0], &hosts[1], &server, PUNCHING)?);
    Ok(())
}

#[test]
fn behind_two_routers_one_behaves_as_behind_the_harder() -> Result<()> {
    let Home { servers, router: carrier, lab, .. } = home(Nat::new(Kind::PortRestricted))?;
    let inner = lab.router_behind(&carrier, Nat::new(Kind::Symmetric))?;
    let host = lab.host_behind(&inner)?;
    for found in [udp_behaviour(&host, servers.each_ref())?, tcp_behaviour(&host, servers.each_ref())?] {
        assert_eq!((found.mapping, found.filtering), (Scope::Endpoint, Scope::Endpoint));
    }
    Ok(())
}

#[test]
fn hosts_behind_one_router_meet_by_its_address_only_where_it_turns_packets_back() -> Result<()> {
    let mut home = home(Nat::new(Kind::PortRestricted))?;
    let neighbour = home.lab.host_behind(&home.router)?;
    assert!(!punch_udp(&home.host, &neighbour, &home.servers[0], PUNCHING)?);
    home.router.set(Nat::new(Kind::PortRestricted).with_hairpin())?;
    assert!(punch_udp(&home.host, &neighbour, &home.servers[0], PUNCHING)?);
    Ok(())
}

#[test]
fn where_udp_is_blocked_tcp_passes() -> Result<()> {
    let home = home(Nat::new(Kind::PortRestricted).with_egress(Egress::Tcp))?;
    assert!(udp_behaviour(&home.host, home.servers.each_ref()).is_err());
    tcp_behaviour(&home.host, home.servers.each_ref())?;
    Ok(())
}

#[test]
fn a_router_that_starts_anew_gives_other_ports() -> Result<()> {
    let mut home = home(Nat::new(Kind::PortRestricted))?;
    let (inside, outside) = (home.host.udp()?, home.servers[0].udp()?);
    let seen = || -> Result<_> {
        inside.send_to(b"?", home.servers[0].at(outside.local_addr())?)?;
        Ok(outside.recv_from(&mut [0; 8])?.1)
    };
    let before = seen()?;
    assert_eq!(seen()?, before);
    home.router.rebind()?;
    let rebound = seen()?;
    assert_eq!(rebound.ip(), before.ip());
    assert_ne!(rebound.port(), before.port());
    home.router.readdress()?;
    assert_ne!(seen()?.ip(), before.ip());
    Ok(())
}

#[test]
fn a_cable_is_cut_and_healed_and_plugged_in_elsewhere() -> Result<()> {
    let mut home = home(Nat::new(Kind::PortRestricted))?;
    let cafe = home.lab.router(Nat::new(Kind::Symmetric))?;
    let reaches = |home: &Home| udp_behaviour(&home.host, home.servers.each_ref()).ok();
    home.host.cable.cut()?;
    assert_eq!(reaches(&home), None);
    home.host.cable.heal()?;
    assert_eq!(reaches(&home).map(|found| found.mapping), Some(Scope::Any));
    home.lab.roam(&mut home.host, &cafe)?;
    assert_eq!(reaches(&home).map(|found| found.mapping), Some(Scope::Endpoint));
    Ok(())
}

#[test]
fn packets_are_late_and_lost_as_asked_for() -> Result<()> {
    let lab = Lab::new()?;
    let (mut one, other) = (lab.host()?, lab.host()?);
    let (asking, answering) = (one.udp()?, other.udp()?);
    answering.set_read_timeout(Some(Duration::from_secs(5)))?;
    let to = other.at(answering.local_addr())?;
    one.cable.delay(Duration::from_millis(40))?;
    let trip = || -> Result<_> {
        let asked = Instant::now();
        asking.send_to(b"?", to)?;
        let (_, from) = answering.recv_from(&mut [0; 8])?;
        answering.send_to(b"!", from)?;
        asking.recv_from(&mut [0; 8])?;
        Ok(asked.elapsed())
    };
    // The first asks for the neighbour, too.
    trip()?;
    let trip = (0..5).map(|_| trip()).collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or_default();
    assert!((80..160).contains(&trip.as_millis()), "twice 40 ms and little more: {trip:?}");

    one.cable.lose(20)?;
    answering.set_read_timeout(Some(Duration::from_millis(250)))?;
    let mut arrived = 0;
    for _ in 0..10 {
        for _ in 0..50 {
            asking.send_to(b"?", to)?;
        }
        arrived += std::iter::from_fn(|| answering.recv_from(&mut [0; 8]).ok()).count();
    }
    assert!((340..460).contains(&arrived), "four of five: {arrived}");
    Ok(())
}

#[test]
fn without_translation_ipv6_reaches_out_but_not_in() -> Result<()> {
    let lab = Lab::dual()?;
    let (server, router) = (lab.host()?, lab.router(Nat::new(Kind::PortRestricted))?);
    let host = lab.host_behind(&router)?;
    let [outside, inside] = [&server, &host].map(|host| {
        let address = host.cable.location().address6();
        let socket = host.inside(|| Ok(std::net::UdpSocket::bind("[::]:0")?))?;
        socket.set_read_timeout(Some(Duration::from_millis(250)))?;
        let port = socket.local_addr()?.port();
        let address = address.ok_or_else(|| anyhow::anyhow!("the lab has IPv6"))?;
        anyhow::Ok((socket, std::net::SocketAddr::from((address, port))))
    });
    let ((outside, server), (inside, host)) = (outside?, inside?);
    outside.send_to(b"in", host)?;
    assert!(inside.recv_from(&mut [0; 8]).is_err(), "nobody asked");
    inside.send_to(b"out", server)?;
    assert_eq!(outside.recv_from(&mut [0; 8])?.1, host, "as itself");
    outside.send_to(b"back", host)?;
    assert!(inside.recv_from(&mut [0; 8]).is_ok());
    Ok(())
}

#[test]
fn labs_do_not_meet_and_leave_nothing_in_the_machine() -> Result<()> {
    let devices = || -> Result<Vec<_>> {
        Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect())
    };
    let before = devices()?;
    let labs = [Lab::new()?, Lab::new()?];
    let hosts = [labs[0].host()?, labs[1].host()?];
    assert_eq!(hosts[0].address(), hosts[1].address(), "each has all addresses to itself");
    let sockets = [hosts[0].udp()?, hosts[1].udp()?];
    sockets[0].set_read_timeout(Some(Duration::from_millis(100)))?;
    let to = hosts[0].at(sockets[0].local_addr())?;
    sockets[1].send_to(b"?", to)?;
    assert!(sockets[0].recv_from(&mut [0; 8]).is_err());
    assert_eq!(devices()?, before);
    Ok(())
}
