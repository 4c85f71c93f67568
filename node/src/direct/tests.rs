use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
};
use mytunnel_keys::wire::direct::Origin;

use super::*;
use crate::testing::opener;

/// A connection through a relay.
struct Circuit {
    opener: Opener,
    endpoint: ConnectedPoint,
}

impl Circuit {
    fn new(number: usize, peer: PeerId, is_ours: bool) -> Self {
        let through: Multiaddr = "/ip4/203.0.113.1/tcp/4001/p2p-circuit".parse().unwrap();
        let endpoint = if is_ours {
            let role_override = Endpoint::Dialer;
            ConnectedPoint::Dialer { address: through, role_override, port_use: PortUse::Reuse }
        } else {
            ConnectedPoint::Listener { local_addr: through, send_back_addr: Multiaddr::empty() }
        };
        Self { opener: opener(ConnectionId::new_unchecked(number), peer, &endpoint), endpoint }
    }

    fn connection(&self) -> ConnectionId {
        self.opener.connection()
    }

    fn stands(&self, finder: &mut Finder, now: Instant) {
        let arrived = finder.on_connected(self.opener.peer(), &self.opener, &self.endpoint, now);
        assert_eq!(arrived, Arrived::Relayed);
    }
}

fn finder() -> Finder {
    Finder::new(PeerId::random(), true)
}

fn acts(finder: &mut Finder) -> Vec<Act> {
    std::iter::from_fn(|| finder.next_act()).collect()
}

fn listens(acts: &[Act]) -> bool {
    acts.iter().any(|act| matches!(act, Act::Listen))
}

fn rounds(acts: &[Act]) -> usize {
    acts.iter().filter(|act| matches!(act, Act::Dial(..))).count()
}

#[test]
fn a_connection_that_is_gone_already_is_no_session() {
    let (mut finder, peer, now) = (finder(), PeerId::random(), Instant::now());
    for number in 0..2 * MOST_SESSIONS {
        let circuit = Circuit::new(number, peer, false);
        circuit.stands(&mut finder, now);
        finder.on_closed(circuit.connection(), now);
        finder.meet(circuit.opener, Side::Shares, now);
    }
    assert!(finder.sessions.is_empty() && finder.relayed.is_empty());
    assert!(acts(&mut finder).is_empty(), "nobody is expected");
    let circuit = Circuit::new(10 * MOST_SESSIONS, peer, false);
    circuit.stands(&mut finder, now);
    finder.meet(circuit.opener.clone(), Side::Shares, now);
    assert_eq!(finder.sessions.len(), 1);
    finder.on_closed(circuit.connection(), now);
    assert!(finder.sessions.is_empty());
    assert!(matches!(acts(&mut finder)[..], [Act::Expect(_, true), Act::Listen, Act::Expect(_, false)]));
}

#[test]
fn for_a_stranger_we_do_not_listen() {
    let (mut finder, now) = (finder(), Instant::now());
    let stranger = Circuit::new(1, PeerId::random(), false);
    stranger.stands(&mut finder, now);
    assert!(!listens(&acts(&mut finder)));
    finder.meet(stranger.opener, Side::Shares, now);
    assert!(listens(&acts(&mut finder)), "it has shown who it is");
    let mut other = self::finder();
    Circuit::new(2, PeerId::random(), true).stands(&mut other, now);
    assert!(listens(&acts(&mut other)), "whom we have dialled is waited for");
}

#[test]
fn who_wants_none_does_not_listen_at_all() {
    let (mut finder, now) = (Finder::new(PeerId::random(), false), Instant::now());
    let circuit = Circuit::new(1, PeerId::random(), true);
    circuit.stands(&mut finder, now);
    finder.meet(circuit.opener, Side::Reaches, now);
    assert!(acts(&mut finder).is_empty() && finder.sessions.is_empty());
}

#[test]
fn however_many_connections_a_peer_has_its_dials_are_counted_together() {
    let (mut finder, peer, now) = (finder(), PeerId::random(), Instant::now());
    let address = "192.0.2.1:4000".parse().unwrap();
    let mut dialled = 0;
    for number in 0..64 {
        let circuit = Circuit::new(number, peer, false);
        circuit.stands(&mut finder, now);
        finder.meet(circuit.opener.clone(), Side::Shares, now);
        let session = finder.sessions.get_mut(&circuit.connection()).unwrap();
        session.theirs = vec![Candidate { origin: Origin::Seen, over: Over::Quic, address }];
        finder.carry_out(circuit.connection(), Command::Dial, now);
        dialled += rounds(&acts(&mut finder));
    }
    assert_eq!(dialled, 8, "of 64 at once");
}

#[test]
fn addresses_inside_are_judged_by_the_networks_of_the_moment() {
    let (mut finder, now) = (finder(), Instant::now());
    let circuit = Circuit::new(1, PeerId::random(), false);
    circuit.stands(&mut finder, now);
    finder.meet(circuit.opener.clone(), Side::Shares, now);
    let address = "192.168.1.8:4000".parse().unwrap();
    let theirs = vec![Candidate { origin: Origin::Interface, over: Over::Quic, address }];
    finder.sessions.get_mut(&circuit.connection()).unwrap().theirs = theirs;
    finder.carry_out(circuit.connection(), Command::Dial, now);
    assert_eq!(rounds(&acts(&mut finder)), 0, "we are in no such network yet");
    finder.on_networks(vec!["192.168.1.7/24".parse().unwrap()]);
    finder.carry_out(circuit.connection(), Command::Dial, now);
    assert_eq!(rounds(&acts(&mut finder)), 1);
}

#[test]
fn a_machine_that_moves_as_soon_as_it_listens_has_moved() {
    let (mut finder, now) = (finder(), Instant::now());
    Circuit::new(1, PeerId::random(), true).stands(&mut finder, now);
    let home = "10.0.1.2:4000".parse().unwrap();
    for over in [Over::Quic, Over::Tcp] {
        finder.on_listening(over, home, true, now);
    }
    let probe = ConnectionId::new_unchecked(9);
    finder.on_probing(Over::Tcp, Some(probe), now);
    finder.on_listening(Over::Tcp, home, false, now);
    let is_closed = |act: &Act| matches!(act, Act::Close(closed) if *closed == probe);
    assert!(acts(&mut finder).iter().any(is_closed), "where it was seen it is no longer");
}

#[test]
fn an_address_that_is_not_offered_disturbs_nobody() {
    let (mut finder, mut now) = (finder(), Instant::now());
    Circuit::new(1, PeerId::random(), true).stands(&mut finder, now);
    let at = |last: u8, port: u16| SocketAddr::from(([10, 0, 0, last], port));
    for over in [Over::Quic, Over::Tcp] {
        for last in 1..=3 {
            finder.on_listening(over, at(last, 4000), true, now);
        }
    }
    let probe = ConnectionId::new_unchecked(9);
    finder.on_probing(Over::Quic, Some(probe), now);
    acts(&mut finder);
    now += 2 * ARRIVING;
    finder.on_listening(Over::Quic, at(200, 4000), true, now);
    finder.on_listening(Over::Quic, at(200, 4000), false, now);
    assert!(acts(&mut finder).iter().all(|act| matches!(act, Act::Map(_))), "three others come before it");
    finder.on_listening(Over::Quic, at(1, 4000), false, now);
    assert!(matches!(acts(&mut finder)[..], [Act::Map(_), Act::Close(closed)] if closed == probe));
}

#[test]
fn what_is_translated_is_dialled_later_and_only_while_it_is_needed() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (over, v6) = (Over::Quic, address("[2001:db8::1]:4000"));
    let theirs = vec![
        Candidate { origin: Origin::Interface, over, address: address("[2001:db8::2]:4000") },
        Candidate { origin: Origin::Seen, over, address: address("192.0.2.1:4000") },
    ];
    for answers in [false, true] {
        let (mut finder, peer, now) = (finder(), PeerId::random(), Instant::now());
        finder.on_listening(over, v6, true, now);
        let circuit = Circuit::new(1, peer, false);
        circuit.stands(&mut finder, now);
        finder.meet(circuit.opener.clone(), Side::Shares, now);
        finder.sessions.get_mut(&circuit.connection()).unwrap().theirs.clone_from(&theirs);
        finder.carry_out(circuit.connection(), Command::Dial, now);
        assert_eq!(rounds(&acts(&mut finder)), 1, "IPv6 alone");
        assert_eq!(finder.next_timeout(), Some(now + HEAD_START));
        finder.tick(now + HEAD_START / 2, 0);
        assert_eq!(rounds(&acts(&mut finder)), 0);
        if answers {
            finder.standing.insert(ConnectionId::new_unchecked(2), peer);
        }
        finder.tick(now + HEAD_START, 0);
        assert_eq!(rounds(&acts(&mut finder)), usize::from(!answers));
        assert_eq!(finder.next_timeout(), None);
    }
}

#[test]
fn a_router_is_asked_once_for_each_port_and_what_it_leads_here_is_offered() {
    let (mut finder, now) = (finder(), Instant::now());
    Circuit::new(1, PeerId::random(), true).stands(&mut finder, now);
    let inside: SocketAddr = "10.0.0.7:4000".parse().unwrap();
    finder.on_listening(Over::Quic, "192.0.2.9:4000".parse().unwrap(), true, now);
    assert!(!acts(&mut finder).iter().any(|act| matches!(act, Act::Map(_))), "nothing stands before it");
    for _ in 0..2 {
        finder.on_listening(Over::Quic, inside, true, now);
    }
    let asked: Vec<_> = acts(&mut finder)
        .into_iter()
        .filter_map(|act| if let Act::Map(ports) = act { Some(ports.len()) } else { None })
        .collect();
    assert_eq!(asked, [1]);
    let outside = "192.0.2.1:5000".parse().unwrap();
    finder.on_mapped(vec![(Over::Quic, outside)], now);
    let mapped = Candidate { origin: Origin::Mapped, over: Over::Quic, address: outside };
    assert!(finder.offer().contains(&mapped));
    finder.on_mapped(Vec::new(), now);
    assert!(!finder.offer().contains(&mapped));
    finder.on_listening(Over::Quic, inside, false, now);
    assert!(acts(&mut finder).iter().any(|act| matches!(act, Act::Map(ports) if ports.is_empty())));
}

#[tokio::test]
async fn an_offer_waits_for_the_router_a_moment_and_no_longer() {
    for answers in [true, false] {
        let (mut finder, now) = (finder(), Instant::now());
        let circuit = Circuit::new(1, PeerId::random(), true);
        circuit.stands(&mut finder, now);
        finder.meet(circuit.opener.clone(), Side::Reaches, now);
        for over in [Over::Quic, Over::Tcp] {
            finder.on_listening(over, "10.0.0.7:4000".parse().unwrap(), true, now);
        }
        for over in [Over::Quic, Over::Tcp] {
            finder.on_probing(over, None, now);
        }
        let is_gathering =
            |finder: &Finder| finder.sessions.values().all(|session| session.role.is_gathering());
        finder.tick(now, 0);
        assert!(is_gathering(&finder));
        let soon = now + Duration::from_millis(149);
        if answers {
            finder.on_mapped(vec![(Over::Quic, "192.0.2.1:4000".parse().unwrap())], soon);
        } else {
            finder.tick(soon, 0);
            assert!(is_gathering(&finder));
            assert!(finder.next_timeout().is_some_and(|at| at <= now + Duration::from_millis(150)));
            finder.tick(now + Duration::from_millis(150), 0);
        }
        assert!(!is_gathering(&finder), "answers: {answers}");
        assert!(finder.next_timeout().is_none_or(|at| at > now + Duration::from_millis(150)));
    }
}
