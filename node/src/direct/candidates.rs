//! Addresses: which are offered, which of the other end's are believed, how they are dialled, and what they tell of why
//! there is a direct path or none. All of it without a socket.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use mytunnel_keys::wire::direct::{Candidate, MAX_CANDIDATES, Origin, Over};

/// Addresses of this machine that are offered, for each carrier and family.
const MOST_OF_FAMILY: usize = 3;

/// Public machines of each family that the other end makes us dial, and inside ones. A node behind a router has one public
/// address, or two; more would be others' machines.
const MOST_OUTSIDE: usize = 2;
const MOST_INSIDE: usize = 3;

/// Ports of one machine, for each carrier: the one at which it listens, and the one at which it is seen.
const MOST_PORTS: usize = 2;

/// Below it are the ports of servers: no node listens there, and nobody is to make us knock.
const FIRST_PORT: u16 = 1024;

/// Where this node listens and is seen, as the other end is told.
pub(crate) fn offer(
    interfaces: impl IntoIterator<Item = (Over, SocketAddr)>,
    mapped: impl IntoIterator<Item = (Over, SocketAddr)>,
    seen: impl IntoIterator<Item = (Over, SocketAddr)>,
) -> Vec<Candidate> {
    let usable = |(over, address): (Over, SocketAddr), origin| {
        is_reachable(address.ip()).then_some(Candidate { origin, over, address })
    };
    let mut offered: Vec<_> =
        interfaces.into_iter().filter_map(|address| usable(address, Origin::Interface)).collect();
    offered.sort_unstable();
    offered.dedup();
    let mut before = [0; 4];
    offered.retain(|candidate| {
        let family = usize::from(candidate.address.is_ipv6()) * 2 + usize::from(candidate.over == Over::Tcp);
        before[family] += 1;
        before[family] <= MOST_OF_FAMILY
    });
    let mapped = mapped.into_iter().map(|address| (address, Origin::Mapped));
    let mut outside = Vec::new();
    for (address, origin) in mapped.chain(seen.into_iter().map(|address| (address, Origin::Seen))) {
        let is_known = |known: &Candidate| (known.over, known.address) == address;
        if !offered.iter().chain(&outside).any(is_known) {
            outside.extend(usable(address, origin));
        }
    }
    // Where it is reached from outside counts before one more network inside.
    outside.truncate(MAX_CANDIDATES);
    offered.truncate(MAX_CANDIDATES - outside.len());
    offered.extend(outside);
    offered
}

/// What is left of the other end's offer: addresses that a node may have, and that can be reached from here at all. Inside ones
/// have to be of the `networks` that this machine is in itself. Of too many, those are kept at which a relay sees the node.
pub(crate) fn believed(offered: &[Candidate], ours: &[Candidate], networks: &[IpNet]) -> Vec<Candidate> {
    let is_here = |candidate: &Candidate| {
        ours.iter().any(|own| (own.over, own.address) == (candidate.over, candidate.address))
    };
    let may_be = |candidate: &&Candidate| {
        let ip = candidate.address.ip().to_canonical();
        candidate.address.port() >= FIRST_PORT
            && is_reachable(ip)
            && !is_here(candidate)
            && (block(ip) == Block::Public || networks.iter().any(|network| is_machine_of(*network, ip)))
    };
    let mut offered: Vec<_> = offered.iter().take(MAX_CANDIDATES).filter(may_be).copied().collect();
    offered.sort_unstable_by_key(|candidate| (Reverse(candidate.origin == Origin::Seen), *candidate));
    offered.dedup();
    let mut believed = Vec::new();
    for candidate in offered {
        if has_room(&believed, &candidate) {
            believed.push(candidate);
        }
    }
    // Their order is that in which they are dialled: IPv6 goes before where a relay sees the node.
    believed.sort_unstable();
    believed
}

/// Whether one more address is not too many.
fn has_room(believed: &[Candidate], candidate: &Candidate) -> bool {
    let ip = |candidate: &Candidate| candidate.address.ip().to_canonical();
    let kind = |candidate: &Candidate| (ip(candidate).is_ipv6(), block(ip(candidate)) == Block::Public);
    let mut machines: Vec<_> =
        believed.iter().filter(|other| kind(other) == kind(candidate)).map(ip).collect();
    machines.sort_unstable();
    machines.dedup();
    let most = if kind(candidate).1 { MOST_OUTSIDE } else { MOST_INSIDE };
    let ports =
        believed.iter().filter(|other| (other.over, ip(other)) == (candidate.over, ip(candidate))).count();
    ports < MOST_PORTS && (machines.contains(&ip(candidate)) || machines.len() < most)
}

/// Whether a machine may have this address of a network, and not all of them.
fn is_machine_of(network: IpNet, ip: IpAddr) -> bool {
    let is_all =
        ip.is_ipv4() && network.prefix_len() < 31 && (ip == network.network() || ip == network.broadcast());
    network.contains(&ip) && !is_all
}

/// How addresses are dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// QUIC from the port at which we listen, which is also the punch.
    Quic,
    /// TCP from a port of its own, for whom nothing keeps out.
    Tcp,
    /// TCP from the port at which we listen, at the moment in which the other end does so as well; this end opens the
    /// conversation, or the other.
    Punch {
        /// Whether it is this end.
        speaks_first: bool,
    },
}

/// Addresses to be dialled at once, of which the first that answers is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) manner: Manner,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What is dialled in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) at_once: Vec<Dial>,
    /// [`HEAD_START`] later, if there is no direct path by then.
    pub(crate) later: Vec<Dial>,
}

/// How long what needs no translation goes before what does: the shortest that RFC 8305, section 5, recommends. Both ends dial at the
/// same moment, so that what is not hindered has answered before the rest could, however far apart they are.
pub(crate) const HEAD_START: Duration = Duration::from_millis(100);

/// Everything that is dialled in one round: where both ends have IPv6, public IPv4 waits for it.
pub(crate) fn plan(theirs: &[Candidate], ours: &[Candidate], speaks_first: bool) -> Plan {
    let is_public = |candidate: &&Candidate, is_v6: bool| {
        let ip = candidate.address.ip().to_canonical();
        block(ip) == Block::Public && ip.is_ipv6() == is_v6
    };
    let has_v6 = |candidates: &[Candidate]| candidates.iter().any(|candidate| is_public(&candidate, true));
    let waits = has_v6(theirs) && has_v6(ours);
    let (later, at_once): (Vec<Candidate>, _) =
        theirs.iter().partition(|candidate| waits && is_public(candidate, false));
    Plan { at_once: dials(&at_once, speaks_first), later: dials(&later, speaks_first) }
}

/// How these are dialled. An answer of a stranger at one of the other end's inside addresses, which may be somebody else's here, takes
/// none of the others with it.
fn dials(theirs: &[Candidate], speaks_first: bool) -> Vec<Dial> {
    let with = |manner: Manner, over: Over, which: fn(&Candidate) -> bool| Dial {
        manner,
        addresses: theirs
            .iter()
            .filter(|candidate| candidate.over == over && which(candidate))
            .map(|candidate| candidate.address)
            .collect(),
    };
    let inside: fn(&Candidate) -> bool = |candidate| candidate.origin == Origin::Interface;
    let outside: fn(&Candidate) -> bool = |candidate| candidate.origin != Origin::Interface;
    let guarded: fn(&Candidate) -> bool = |candidate| {
        candidate.origin == Origin::Seen
            || block(candidate.address.ip()) == Block::Public && candidate.address.is_ipv6()
    };
    let dials = [
        with(Manner::Quic, Over::Quic, inside),
        with(Manner::Tcp, Over::Tcp, inside),
        with(Manner::Quic, Over::Quic, outside),
        with(Manner::Tcp, Over::Tcp, outside),
        with(Manner::Punch { speaks_first }, Over::Tcp, guarded),
    ];
    dials.into_iter().filter(|dial| !dial.addresses.is_empty()).collect()
}

/// Why a path is direct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Both are in one network.
    Lan,
    Ipv6,
    /// The other end's address is one that everybody reaches.
    Public,
    /// A router leads a port of its own to the node.
    Mapped,
    /// Both have sent at the same moment.
    Punched,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Ipv6 => "ipv6",
            Self::Public => "public address",
            Self::Mapped => "mapped",
            Self::Punched => "punched",
        }
    }

    /// Of a connection whose other end is at `remote`.
    pub(crate) fn of(remote: SocketAddr, theirs: &[Candidate]) -> Self {
        let ip = remote.ip().to_canonical();
        let has = |origin| {
            theirs.iter().any(|theirs| theirs.origin == origin && theirs.address.ip().to_canonical() == ip)
        };
        let is_mapped =
            theirs.iter().any(|theirs| theirs.origin == Origin::Mapped && theirs.address == remote);
        match (ip, block(ip)) {
            (_, Block::Public) if is_mapped => Self::Mapped,
            (IpAddr::V6(_), Block::Public) => Self::Ipv6,
            (IpAddr::V4(_), Block::Public) if has(Origin::Interface) => Self::Public,
            (IpAddr::V4(_), Block::Public) => Self::Punched,
            _ if has(Origin::Seen) && !has(Origin::Interface) => Self::Punched,
            _ => Self::Lan,
        }
    }
}

/// What most likely stood in the way after everything was tried.
pub(crate) fn obstacle(ours: &[Candidate], theirs: &[Candidate]) -> &'static str {
    let (here, there) = (End::of(ours), End::of(theirs));
    match (here, there) {
        (End::Hard, End::Hard) => "symmetric NAT at both ends",
        (End::Hard, _) => "symmetric NAT here",
        (_, End::Hard) => "symmetric NAT at the other end",
        (End::NoUdp, End::NoUdp) => "UDP is blocked at both ends",
        (End::NoUdp, _) => "UDP is blocked here",
        (_, End::NoUdp) => "UDP is blocked at the other end",
        (End::Unseen, _) | (_, End::Unseen) => "the relay does not say where it sees both nodes",
        (End::Easy, End::Easy) => "the networks between the nodes let nothing through",
    }
}

/// What one end's addresses tell of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is seen at ports of its own, or is not translated at all.
    Easy,
    /// It is seen at other ports: where nothing comes through, the next one that is sent to sees yet another.
    Hard,
    /// It is seen by TCP alone.
    NoUdp,
    Unseen,
}

impl End {
    pub(super) fn of(candidates: &[Candidate]) -> Self {
        let of = |origin, over| {
            candidates.iter().filter(move |candidate| (candidate.origin, candidate.over) == (origin, over))
        };
        let moved = |over| {
            of(Origin::Seen, over).any(|seen| {
                of(Origin::Interface, over).all(|inside| inside.address.port() != seen.address.port())
            })
        };
        let is_public = |over| {
            of(Origin::Interface, over)
                .any(|inside| inside.address.is_ipv4() && block(inside.address.ip()) == Block::Public)
        };
        let sees = |over| of(Origin::Seen, over).next().is_some() || is_public(over);
        match (sees(Over::Quic), sees(Over::Tcp)) {
            (false, false) => Self::Unseen,
            (false, true) if moved(Over::Tcp) => Self::Hard,
            (false, true) => Self::NoUdp,
            (true, _) if moved(Over::Quic) => Self::Hard,
            (true, _) => Self::Easy,
        }
    }
}

/// Whether a node may be there, seen from another machine.
pub(super) fn is_reachable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets()[0] == 0
                || ip.octets()[0] >= 240)
        }
        // Link-local ones mean nothing without the name of an interface.
        IpAddr::V6(ip) => block_of_v6(ip) == Block::Unique || (ip.segments()[0] & 0xe000) == 0x2000,
    }
}

/// Whether a machine with this address is behind a router that translates.
pub(crate) fn is_translated(ip: IpAddr) -> bool {
    is_reachable(ip) && block(ip) != Block::Public
}

/// Whether a machine with this address needs no router to be reached.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    is_reachable(ip) && block(ip) == Block::Public
}

/// Whether a router may be believed that it leads from there to this machine.
pub(crate) fn may_be_mapped(outside: SocketAddr) -> bool {
    outside.is_ipv4() && outside.port() >= FIRST_PORT && is_public(outside.ip())
}

/// Networks whose addresses mean something else elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Public,
    Ten,
    OneSeventyTwo,
    OneNinetyTwo,
    Carrier,
    Unique,
}

fn block(ip: IpAddr) -> Block {
    match ip.to_canonical() {
        IpAddr::V4(ip) => block_of_v4(ip),
        IpAddr::V6(ip) => block_of_v6(ip),
    }
}

fn block_of_v4(ip: Ipv4Addr) -> Block {
    match ip.octets() {
        [10, ..] => Block::Ten,
        [172, 16..=31, ..] => Block::OneSeventyTwo,
        [192, 168, ..] => Block::OneNinetyTwo,
        [100, 64..=127, ..] => Block::Carrier,
        _ => Block::Public,
    }
}

fn block_of_v6(ip: Ipv6Addr) -> Block {
    if ip.is_unique_local() { Block::Unique } else { Block::Public }
}

#[cfg(test)]
mod tests;
