use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn candidate(origin: Origin, over: Over, text: &str) -> Candidate {
    Candidate { origin, over, address: address(text) }
}

fn inside(over: Over, text: &str) -> Candidate {
    candidate(Origin::Interface, over, text)
}

fn seen(over: Over, text: &str) -> Candidate {
    candidate(Origin::Seen, over, text)
}

#[test]
fn what_only_this_machine_can_reach_is_not_offered() {
    let own = [
        "127.0.0.1:4000",
        "[::1]:4000",
        "[fe80::1]:4000",
        "169.254.1.1:4000",
        "0.0.0.0:4000",
        "192.168.1.7:4000",
        "[2001:db8::7]:4000",
    ];
    let offered =
        offer(own.map(|own| (Over::Quic, address(own))), [], [(Over::Quic, address("127.0.0.1:4000"))]);
    assert_eq!(offered, [inside(Over::Quic, "192.168.1.7:4000"), inside(Over::Quic, "[2001:db8::7]:4000")]);
}

#[test]
fn a_machine_of_many_addresses_offers_some_and_always_where_it_is_seen() {
    let many = (1..=200).flat_map(|last| {
        let v4 = SocketAddr::from(([10, 0, 0, last], 4000));
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)], 4000));
        [(Over::Quic, v4), (Over::Tcp, v4), (Over::Quic, v6), (Over::Tcp, v6)]
    });
    let seen = [(Over::Quic, address("192.0.2.1:1")), (Over::Tcp, address("192.0.2.1:2"))];
    let offered = offer(many.clone(), [], seen);
    assert_eq!(offered.len(), 4 * MOST_OF_FAMILY + 2);
    assert!(offered.len() <= MAX_CANDIDATES);
    let has = |offered: &[Candidate], outside: &[(Over, SocketAddr)]| {
        outside.iter().all(|outside| offered.iter().any(|one| (one.over, one.address) == *outside))
    };
    assert!(has(&offered, &seen));
    let mapped: Vec<_> = (3..7).map(|port| (Over::Quic, SocketAddr::from(([192, 0, 2, 1], port)))).collect();
    let offered = offer(many, mapped.clone(), seen);
    assert_eq!(offered.len(), MAX_CANDIDATES);
    assert!(has(&offered, &seen) && has(&offered, &mapped), "{offered:?}");
}

fn networks() -> [IpNet; 2] {
    ["192.168.1.7/24", "fd00:1::7/64"].map(|network| network.parse().unwrap())
}

#[test]
fn a_peer_does_not_make_us_knock_where_no_node_can_be() {
    let ours = [inside(Over::Quic, "192.168.1.7:4000")];
    let refused = [
        "192.0.2.1:22",
        "192.0.2.1:1023",
        "127.0.0.1:4000",
        "[::1]:4000",
        "[::ffff:127.0.0.1]:4000",
        "224.0.0.1:4000",
        "255.255.255.255:4000",
        "0.0.0.0:4000",
        "240.0.0.1:4000",
        "[ff02::1]:4000",
        "[fe80::1]:4000",
        // Inside addresses of other networks than ours, also of those that look alike; all machines of ours; and our own.
        "10.0.0.1:4000",
        "172.16.0.1:4000",
        "192.168.0.8:6379",
        "[::ffff:192.168.0.8]:6379",
        "100.64.0.1:4000",
        "[fd00::1]:4000",
        "192.168.1.0:4000",
        "192.168.1.255:4000",
        "192.168.1.7:4000",
    ];
    for origin in [Origin::Interface, Origin::Seen, Origin::Mapped] {
        for one in refused {
            assert_eq!(believed(&[candidate(origin, Over::Quic, one)], &ours, &networks()), [], "{one}");
        }
    }
    for one in ["192.168.1.8:4000", "192.0.2.1:4000", "[2001:db8::1]:1024", "[fd00:1::8]:4000"] {
        assert_eq!(believed(&[inside(Over::Quic, one)], &ours, &networks()).len(), 1, "{one}");
    }
    assert_eq!(believed(&[inside(Over::Quic, "192.168.1.8:4000")], &ours, &[]), [], "we are in no network");
}

#[test]
fn a_peer_names_few_machines_and_few_ports_of_each() {
    let ports: Vec<_> = (0..16).map(|port| seen(Over::Tcp, &format!("192.0.2.1:{}", 2000 + port))).collect();
    assert_eq!(believed(&ports, &[], &networks()).len(), MOST_PORTS);
    for (prefix, most) in [
        ("192.0.2.", MOST_OUTSIDE),
        ("[::ffff:192.0.2.", MOST_OUTSIDE),
        ("192.168.1.", MOST_INSIDE),
        ("[2001:db8::", MOST_OUTSIDE),
        ("[fd00:1::", MOST_INSIDE),
    ] {
        let close = if prefix.starts_with('[') { "]" } else { "" };
        let machines: Vec<_> = (10..26)
            .map(|last| candidate(Origin::Interface, Over::Quic, &format!("{prefix}{last}{close}:4000")))
            .collect();
        assert_eq!(believed(&machines, &[], &networks()).len(), most, "{prefix}");
    }
    let many = (10..25).map(|last| inside(Over::Quic, &format!("192.0.2.{last}:4000")));
    let last = seen(Over::Quic, "203.0.113.1:4000");
    let kept = believed(&many.chain([last]).collect::<Vec<_>>(), &[], &networks());
    assert!(kept.contains(&last), "where a relay sees the node counts before what it says of itself");
}

#[test]
fn each_way_is_dialled_in_its_manner() {
    let theirs = [
        inside(Over::Quic, "192.168.1.8:4000"),
        inside(Over::Tcp, "192.168.1.8:4001"),
        seen(Over::Quic, "192.0.2.1:5000"),
        seen(Over::Tcp, "192.0.2.1:5001"),
    ];
    let dial = |manner, text| Dial { manner, addresses: vec![address(text)] };
    assert_eq!(
        plan(&theirs, &[], true).at_once,
        [
            dial(Manner::Quic, "192.168.1.8:4000"),
            dial(Manner::Tcp, "192.168.1.8:4001"),
            dial(Manner::Quic, "192.0.2.1:5000"),
            dial(Manner::Tcp, "192.0.2.1:5001"),
            dial(Manner::Punch { speaks_first: true }, "192.0.2.1:5001"),
        ]
    );
    assert_eq!(plan(&[], &[], true), Plan { at_once: Vec::new(), later: Vec::new() });
    let guarded = plan(&[inside(Over::Tcp, "[2001:db8::1]:4000")], &[], false).at_once;
    assert_eq!(guarded[1].manner, Manner::Punch { speaks_first: false }, "a firewall stands before most");
}

#[test]
fn what_is_not_translated_goes_first_where_both_have_it() {
    let v6 = inside(Over::Quic, "[2001:db8::1]:4000");
    let theirs = [
        inside(Over::Quic, "192.168.1.8:4000"),
        v6,
        seen(Over::Quic, "192.0.2.1:5000"),
        seen(Over::Tcp, "192.0.2.1:5001"),
    ];
    let addresses = |dials: &[Dial]| -> Vec<SocketAddr> {
        let mut all: Vec<_> = dials.iter().flat_map(|dial| dial.addresses.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let Plan { at_once, later } = plan(&theirs, &[inside(Over::Quic, "[2001:db8::2]:4000")], true);
    assert_eq!(addresses(&at_once), ["192.168.1.8:4000", "[2001:db8::1]:4000"].map(address));
    assert_eq!(addresses(&later), ["192.0.2.1:5000", "192.0.2.1:5001"].map(address));
    let inside_ones = [inside(Over::Quic, "[fd00:1::2]:4000"), inside(Over::Quic, "192.0.2.7:4000")];
    for (ours, theirs) in [(&[][..], &theirs[..]), (&inside_ones, &theirs), (&[v6], &theirs[2..])] {
        assert_eq!(plan(theirs, ours, true).later, [], "nothing is worth waiting for");
    }
}

#[test]
fn a_router_is_believed_to_lead_here_from_public_addresses_alone() {
    for (outside, believed) in [
        ("192.0.2.1:4000", true),
        ("192.0.2.1:443", false),
        ("10.0.0.1:4000", false),
        ("100.64.0.1:4000", false),
        ("127.0.0.1:4000", false),
        ("0.0.0.0:4000", false),
        ("255.255.255.255:4000", false),
        ("[2001:db8::1]:4000", false),
    ] {
        assert_eq!(may_be_mapped(address(outside)), believed, "{outside}");
    }
    for (ip, translated) in
        [("10.0.0.1", true), ("100.64.0.1", true), ("192.0.2.1", false), ("127.0.0.1", false)]
    {
        assert_eq!(is_translated(ip.parse().unwrap()), translated, "{ip}");
    }
    let outside = (Over::Quic, address("192.0.2.1:4000"));
    let offered = offer([(Over::Quic, address("10.0.0.7:4000"))], [outside], [outside]);
    assert_eq!(
        offered,
        [inside(Over::Quic, "10.0.0.7:4000"), candidate(Origin::Mapped, Over::Quic, "192.0.2.1:4000")],
        "where a relay sees it as well it is told once"
    );
}

#[test]
fn a_direct_path_says_why() {
    let theirs = [
        inside(Over::Quic, "192.168.1.8:4000"),
        inside(Over::Quic, "198.51.100.9:4000"),
        candidate(Origin::Mapped, Over::Quic, "192.0.2.1:6000"),
        seen(Over::Quic, "192.0.2.1:5000"),
        seen(Over::Quic, "100.64.0.9:5000"),
    ];
    for (remote, reason) in [
        ("192.168.1.8:33333", Reason::Lan),
        ("198.51.100.9:4000", Reason::Public),
        ("[2001:db8::1]:4000", Reason::Ipv6),
        ("192.0.2.1:6000", Reason::Mapped),
        ("192.0.2.1:5000", Reason::Punched),
        ("192.0.2.1:5001", Reason::Punched),
        ("100.64.0.9:5000", Reason::Punched),
    ] {
        assert_eq!(Reason::of(address(remote), &theirs), reason, "{remote}");
    }
}

#[test]
fn a_relayed_path_says_why_not() {
    let end = |ports: [u16; 2]| {
        let seen_at = |over, port| seen(over, &format!("192.0.2.1:{port}"));
        let mut end = vec![inside(Over::Quic, "10.0.0.1:4000"), inside(Over::Tcp, "10.0.0.1:4001")];
        end.extend(
            [(Over::Quic, ports[0]), (Over::Tcp, ports[1])]
                .iter()
                .filter(|(_, port)| *port > 0)
                .map(|(over, port)| seen_at(*over, *port)),
        );
        end
    };
    let (easy, hard, no_udp, unseen) = (end([4000, 4001]), end([7000, 7001]), end([0, 4001]), end([0, 0]));
    assert_eq!(obstacle(&end([0, 7001]), &no_udp), "symmetric NAT here", "else TCP would have come through");
    for (ours, theirs, why) in [
        (&hard, &hard, "symmetric NAT at both ends"),
        (&hard, &easy, "symmetric NAT here"),
        (&no_udp, &hard, "symmetric NAT at the other end"),
        (&no_udp, &easy, "UDP is blocked here"),
        (&easy, &no_udp, "UDP is blocked at the other end"),
        (&unseen, &easy, "the relay does not say where it sees both nodes"),
        (&easy, &easy, "the networks between the nodes let nothing through"),
    ] {
        assert_eq!(obstacle(ours, theirs), why);
    }
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let ip = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    let origin = prop_oneof![Just(Origin::Interface), Just(Origin::Seen), Just(Origin::Mapped)];
    (ip, any::<u16>(), origin, any::<bool>()).prop_map(|(ip, port, origin, quic)| Candidate {
        origin,
        over: if quic { Over::Quic } else { Over::Tcp },
        address: SocketAddr::new(ip, port),
    })
}

proptest! {
    #[test]
    fn whatever_a_peer_offers_little_is_dialled_and_nothing_of_this_machine(
        offered in prop::collection::vec(any_candidate(), 0..64),
        ours in prop::collection::vec(any_candidate(), 0..8),
        speaks_first: bool,
    ) {
        let Plan { at_once, later } = plan(&believed(&offered, &ours, &networks()), &ours, speaks_first);
        let all: Vec<_> = at_once.iter().chain(&later).flat_map(|dial| &dial.addresses).collect();
        prop_assert!(all.len() <= 2 * MAX_CANDIDATES);
        let outside = all.iter().map(|address| address.ip().to_canonical()).filter(|ip| block(*ip) == Block::Public);
        prop_assert!(outside.collect::<std::collections::HashSet<_>>().len() <= 2 * MOST_OUTSIDE);
        for address in all {
            prop_assert!(address.port() >= FIRST_PORT && is_reachable(address.ip()));
            prop_assert!(!address.ip().to_canonical().is_loopback() && !address.ip().is_multicast());
        }
    }
}
