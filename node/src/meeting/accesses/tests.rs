use libp2p::core::ConnectedPoint;
use mytunnel_keys::wire::peer::Carries;

use super::*;
use crate::{peers::rights::Own, testing};

const LINE: LineId = 0;

/// Accesses to one share, whose node is there.
struct Reaching {
    accesses: Accesses,
    handles: Vec<Access>,
    host: PeerId,
    now: Instant,
}

impl Reaching {
    fn new() -> Self {
        let mut accesses = Accesses::new(PeerId::random(), 1);
        accesses.lines = vec![LineState::Online("/ip4/203.0.113.1/tcp/4001".parse().unwrap())];
        let host = mytunnel_carrier::peer_id(&testing::node().public());
        Self { accesses, handles: Vec::new(), host, now: Instant::now() }
    }

    /// Another access, which is welcomed through the relay.
    fn reached(&mut self, number: usize) -> AccessId {
        let id = self.accesses.next;
        self.handles.push(self.accesses.add(name(), self.now));
        let connected = self.connection(number, true);
        self.accesses.dials.insert(connected.connection, id);
        assert!(self.accesses.on_connected(LINE, &connected, self.now));
        self.greeted(id, number, Ok(welcome()));
        id
    }

    fn direct(&mut self, number: usize) -> bool {
        let connected = self.connection(number, false);
        self.accesses.on_direct(LINE, &connected, &[])
    }

    fn connection(&self, number: usize, is_relayed: bool) -> Connected {
        let (connection, peer) = (ConnectionId::new_unchecked(number), self.host);
        let (local_addr, send_back_addr) = (Multiaddr::empty(), Multiaddr::empty());
        let opener =
            testing::opener(connection, peer, &ConnectedPoint::Listener { local_addr, send_back_addr });
        Connected { peer, connection, opener, is_relayed, is_ours: true, why: "" }
    }

    fn greeted(&mut self, id: AccessId, number: usize, answer: Result<Answer, NoAnswer>) {
        let trust = Trust::open(&testing::bundle(1), &testing::root().fingerprint()).unwrap();
        let own = own();
        let grounds = Grounds { own: &own, certificate: &[], trust: Some(&trust), unix: testing::NOW };
        self.accesses.on_greeted((id, ConnectionId::new_unchecked(number), answer), &grounds, self.now, 0);
    }

    /// Connections that are to be parted with by now.
    fn parted(&mut self) -> Vec<ConnectionId> {
        let acts = std::iter::from_fn(|| self.accesses.next_act(&[], self.now, 0));
        acts.filter_map(|act| if let Act::Part(connection) = act { Some(connection) } else { None }).collect()
    }

    fn holds(&self, id: AccessId, number: usize) -> bool {
        self.accesses.entries[&id].paths.contains_key(&ConnectionId::new_unchecked(number))
    }
}

fn name() -> TunnelName {
    "box".parse().unwrap()
}

fn own() -> Own {
    let claims = testing::node_claims();
    Own { cluster: claims.cluster, tenant: claims.tenant, project: claims.project }
}

fn welcome() -> Answer {
    let mut claims = testing::node_claims();
    claims.scopes = "private".parse().unwrap();
    Answer::Welcome {
        version: VERSION,
        certificate: testing::sign(&claims),
        tunnel: own().tunnel(&name()),
        carries: Carries::Streams,
    }
}

#[tokio::test]
async fn a_direct_connection_whose_greeting_fails_makes_room_for_another() {
    let mut reaching = Reaching::new();
    let id = reaching.reached(1);
    assert!(reaching.direct(2) && reaching.holds(id, 2));
    reaching.greeted(id, 2, Err(NoAnswer::Late));
    assert!(!reaching.holds(id, 2) && reaching.holds(id, 1));
    assert_eq!(reaching.parted(), [ConnectionId::new_unchecked(2)]);
    assert!(reaching.direct(3));
    reaching.greeted(id, 3, Ok(welcome()));
    assert!(reaching.holds(id, 3) && reaching.parted().is_empty());
}

#[tokio::test]
async fn what_another_access_goes_over_stays() {
    let mut reaching = Reaching::new();
    let (first, second) = (reaching.reached(1), reaching.reached(2));
    assert!(reaching.direct(3));
    reaching.greeted(first, 3, Ok(welcome()));
    reaching.greeted(second, 3, Err(NoAnswer::Late));
    assert!(reaching.holds(first, 3) && !reaching.holds(second, 3));
    assert!(reaching.parted().is_empty());
}

#[tokio::test]
async fn an_access_that_begins_later_goes_over_the_direct_connection_that_stands() {
    let mut reaching = Reaching::new();
    let first = reaching.reached(1);
    assert!(reaching.direct(2));
    reaching.greeted(first, 2, Ok(welcome()));
    let later = reaching.reached(3);
    assert!(reaching.holds(later, 2), "it is greeted there");
    reaching.accesses.on_closed(ConnectionId::new_unchecked(2), reaching.now, 0);
    let last = reaching.reached(4);
    assert!(!reaching.holds(last, 2), "it is gone");
}

#[test]
fn a_relay_that_lets_us_in_no_more_is_one_of_two() {
    let now = Instant::now();
    let mut accesses = Accesses::new(PeerId::random(), 2);
    accesses.on_online(0, "/ip4/127.0.0.1/tcp/1".parse().unwrap(), now, 0);
    accesses.on_refused(1, now);
    accesses.on_offline(1, 2, "late", now);
    assert!(accesses.is_online() && !accesses.is_refused());
    accesses.on_refused(0, now);
    assert!(!accesses.is_online() && accesses.is_refused());
}

#[test]
fn a_relay_that_is_away_counts_from_the_first_time_that_it_was() {
    let now = Instant::now();
    let mut accesses = Accesses::new(PeerId::random(), 1);
    let gone = |accesses: &Accesses| accesses.lines[0].is_gone_at();
    accesses.on_offline(0, 1, "lost", now);
    assert_eq!(gone(&accesses), None, "a first try");
    for attempt in 2..5 {
        accesses.on_offline(0, attempt, "lost", now + RESTART * attempt);
        assert_eq!(gone(&accesses), Some(now + RESTART * 3));
    }
    accesses.on_online(0, "/ip4/127.0.0.1/tcp/1".parse().unwrap(), now, 0);
    assert_eq!(gone(&accesses), None);
}

#[test]
fn a_circuit_that_was_dialled_for_an_access_that_is_gone_is_no_guests() {
    let reaching = Reaching::new();
    for (is_relayed, is_ours, shares, is_known, wanted) in [
        (true, true, true, true, false),
        (true, false, true, false, true),
        (true, false, false, true, false),
        (false, true, true, false, false),
        (false, true, false, true, true),
    ] {
        let connected = Connected { is_ours, ..reaching.connection(1, is_relayed) };
        assert_eq!(connected.may_be_guests(shares, is_known), wanted, "{connected:?}");
    }
}
