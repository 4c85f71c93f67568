use std::net::Ipv4Addr;

use super::*;

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}

fn tunnel(number: u8) -> TunnelId {
    TunnelId::from_bytes([number; 16])
}

fn wanted(number: u8, port: Option<u16>) -> Wanted {
    let name = format!("db-{number}").parse().unwrap();
    let tenant = "ten_a".parse().unwrap();
    Wanted { tunnel: tunnel(number), tenant, name, kind: TunnelKind::Tcp, port, shared: false }
}

fn ports(range: PortRange) -> Ports {
    let settings = PublicPorts { ip: Ipv4Addr::LOCALHOST.into(), range };
    Ports::new(
        Some(settings),
        PortLimits::default(),
        Duration::from_secs(5),
        Routes::new(),
        (&Crowds::default(), AccessLog::default(), Draining::default()),
    )
}

/// A port that nobody has at the moment.
async fn free() -> u16 {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        if UdpSocket::bind(tcp).await.is_ok() {
            return tcp.port();
        }
    }
    panic!("no port is free for both")
}

#[test]
fn a_range_is_read_and_written() {
    assert_eq!(range("20000-29999"), PortRange::DEFAULT);
    assert_eq!(range("22").to_string(), "22-22");
    for bad in ["", "0-1", "9-8", "1-65536", "a-b", "-", "1-2-3"] {
        assert!(bad.parse::<PortRange>().is_err(), "{bad}");
    }
}

#[test]
fn a_tunnel_has_the_same_candidates_everywhere_each_once() {
    let range = range("65530-65535");
    let of = |number| range.candidates(&tunnel(number)).collect::<Vec<_>>();
    assert_eq!(of(7), of(7));
    let mut all = of(7);
    all.sort_unstable();
    assert_eq!(all, (65_530..=65_535).collect::<Vec<_>>());
    assert!((0..=255).any(|number| of(number)[0] != of(7)[0]));
    assert_eq!(PortRange::DEFAULT.candidates(&tunnel(1)).count(), TRIES);
}

#[tokio::test]
async fn a_port_stays_with_its_tunnel_and_goes_when_the_node_was_away_for_long() {
    let mut ports = ports(PortRange::DEFAULT);
    let now = Instant::now();
    let port = ports.open(wanted(1, None), Instant::now()).unwrap();
    ports.away(&wanted(1, None).name, now);
    ports.sweep(now + Duration::from_secs(59));
    assert_eq!(ports.open(wanted(1, None), Instant::now()), Ok(port), "it has come back");
    ports.sweep(now + Duration::from_secs(3600));
    assert_eq!(ports.open.len(), 1, "it is not away");

    ports.away(&wanted(1, None).name, now);
    ports.away(&wanted(1, None).name, now + Duration::from_secs(59));
    ports.sweep(now + Duration::from_secs(60));
    assert!(ports.open.is_empty());
    ports.tasks.join_next().await.unwrap().unwrap();
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free again");
}

#[tokio::test]
async fn a_wanted_port_is_had_or_refused_with_the_reason() {
    let port = free().await;
    let mut ports = ports(range(&port.to_string()));
    let other = if port == 1024 { 1025 } else { 1024 };
    let refused = ports.open(wanted(1, Some(other)), Instant::now()).unwrap_err();
    assert_eq!(
        (refused, refused.code()),
        (NoPort::OutOfRange(other, range(&port.to_string())), Code::BadRequest)
    );
    assert_eq!(ports.open(wanted(1, Some(port)), Instant::now()), Ok(port));
    let refused = ports.open(wanted(2, Some(port)), Instant::now()).unwrap_err();
    assert_eq!((refused, refused.code()), (NoPort::Taken(port), Code::NameTaken));
    assert_eq!(ports.open(wanted(2, None), Instant::now()).unwrap_err().code(), Code::TunnelLimit);
    let udp = Wanted { kind: TunnelKind::Udp, ..wanted(3, Some(port)) };
    assert_eq!(ports.open(udp, Instant::now()), Ok(port), "datagrams have ports of their own");

    let mut none = Ports::new(
        None,
        PortLimits::default(),
        Duration::ZERO,
        Routes::new(),
        (&Crowds::default(), AccessLog::default(), Draining::default()),
    );
    assert_eq!(none.open(wanted(1, None), Instant::now()), Err(NoPort::NotHere));
    ports.shutdown().await;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free again");
}

#[tokio::test]
async fn a_port_that_was_given_up_is_kept_from_other_tenants_unless_there_is_no_other() {
    let (port, now) = (free().await, Instant::now());
    let mut ports = ports(range(&port.to_string()));
    let of = |number, tenant: &str, port| Wanted { tenant: tenant.parse().unwrap(), ..wanted(number, port) };
    assert_eq!(ports.open(of(1, "ten_a", None), now), Ok(port));
    ports.close(&wanted(1, None).name, now);
    ports.tasks.join_next().await.unwrap().unwrap();
    let refused = ports.open(of(2, "ten_b", Some(port)), now).unwrap_err();
    assert_eq!((refused, refused.code()), (NoPort::Kept(port), Code::NameTaken));
    assert_eq!(ports.open(of(3, "ten_a", Some(port)), now), Ok(port), "whose it was has it at once");
    ports.away(&wanted(3, None).name, now);
    ports.sweep(now + Duration::from_secs(60));
    ports.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ports.open(of(2, "ten_b", Some(port)), now), Err(NoPort::Kept(port)));
    ports.sweep(now + Duration::from_secs(60 + 24 * 3600));
    assert_eq!(ports.open(of(2, "ten_b", Some(port)), now), Ok(port));
    ports.close(&wanted(2, None).name, now);
    ports.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ports.open(of(1, "ten_a", None), now), Ok(port), "there is no other");
}

#[tokio::test]
async fn of_ports_that_were_given_up_the_first_is_taken_last_but_one() {
    let range = range("1024-1027");
    let (settings, now) = (PublicPorts { ip: Ipv4Addr::LOCALHOST.into(), range }, Instant::now());
    let mut given_up = GivenUp::default();
    let other = "ten_b".parse().unwrap();
    for (port, after) in [(1024, 3), (1025, 1), (1026, 2)] {
        given_up.note((TunnelKind::Tcp, port), &other, now + Duration::from_secs(after));
    }
    let order = |wanted: &Wanted| settings.in_order(wanted, &given_up);
    assert_eq!(order(&wanted(1, None)), [1027, 1025, 1026, 1024]);
    let own = Wanted { tenant: other.clone(), ..wanted(1, None) };
    assert_eq!(order(&own), range.candidates(&tunnel(1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn datagrams_of_one_tunnel_that_wait_leave_room_for_those_of_others() {
    const MOST: usize = 65_507;
    let ports = ports(PortRange::DEFAULT);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let way = |number| Way::new(Arc::clone(&ports.house), &wanted(number, None), at);
    let (flooded, other) = (way(1), way(2));
    // Whatever address they say that they come from.
    let from = |number: u32| SocketAddr::from((Ipv4Addr::from_bits(number << 8), 1000));
    let fill = |way: &Way, from: &dyn Fn(u32) -> SocketAddr| -> Vec<_> {
        (1..2000).filter_map(|number| way.room(from(number), MOST)).collect()
    };
    let held = fill(&flooded, &from);
    assert!(held.len() > 200 && held.len() * MOST <= QUEUED / 2, "{}", held.len());
    assert!(other.room(from(9), MOST).is_some());
    drop(held);
    assert_eq!(ports.queued().taken(), 0);
    // One network alone has half of it, at however many tunnels.
    let one = |_| SocketAddr::from(([192, 0, 2, 7], 1000));
    let held = [fill(&flooded, &one), fill(&other, &one)];
    assert!(held.iter().map(Vec::len).sum::<usize>() * MOST <= QUEUED / 2);
    assert!(other.room(from(9), MOST).is_some());
}

#[tokio::test]
async fn neither_one_port_nor_one_network_has_all_places_for_visitors() {
    let ports = ports(PortRange::DEFAULT);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let way = |number| Way::new(Arc::clone(&ports.house), &wanted(number, None), at);
    let most = ports.house.limits.visitors;
    let (one, other) = (way(1), way(2));
    let network = |number: u32| SocketAddr::from((Ipv4Addr::from_bits(0xC000_0200 | (number & 255)), 1000));
    let held: Vec<_> = (0..u32::MAX).map_while(|number| one.place(network(number), 0)).collect();
    assert_eq!(held.len(), most / 2);
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 1000));
    assert!(other.place(elsewhere, 0).is_some());
    assert!(one.place(elsewhere, held.len()).is_none(), "this port has half of all already");
    drop(held);
    assert_eq!(ports.house.tcp.all.taken(), 0);
}
