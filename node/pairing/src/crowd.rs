//! Where strangers come from, and how much of what there is one place may have: nobody keeps the rest out by being many.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use libp2p::PeerId;

use crate::{limits, rate::Rate};

/// Who counts as one: an IPv4 address, an IPv6 /64, a way past the network, by the port of its door, or this machine, whose
/// users share no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Here,
    Way(u16),
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Origin {
    /// `own` are the addresses of this machine.
    pub(crate) fn of(ip: IpAddr, own: &[IpAddr]) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() || own.contains(&ip) => Self::Here,
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [one, two, three, four, ..] = ip.segments();
                Self::V6([one, two, three, four])
            }
        }
    }
}

/// No place is left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many strangers are connected")]
pub(crate) struct Full;

/// Connections of strangers, by their keys.
#[derive(Debug)]
pub(crate) struct Doors<K> {
    places: HashMap<K, (Origin, Stage)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its handshake is under way.
    Pending,
    Established,
    /// It is a member's, for whom there is always room.
    Known,
}

impl<K: Eq + Hash> Doors<K> {
    pub(crate) fn new() -> Self {
        Self { places: HashMap::new() }
    }

    /// Somebody connects.
    pub(crate) fn knock(&mut self, key: K, origin: Origin) -> Result<(), Full> {
        self.take(key, origin, Stage::Pending, limits::PENDING, limits::PENDING_OF_ONE)
    }

    /// It has shown its key.
    pub(crate) fn enter(&mut self, key: K, origin: Origin, is_known: bool) -> Result<(), Full> {
        self.places.remove(&key);
        if is_known {
            self.places.insert(key, (origin, Stage::Known));
            return Ok(());
        }
        self.take(key, origin, Stage::Established, limits::CONNECTIONS, limits::CONNECTIONS_OF_ONE)
    }

    /// It is gone.
    pub(crate) fn leave(&mut self, key: &K) {
        self.places.remove(key);
    }

    /// From where it came.
    pub(crate) fn origin(&self, key: &K) -> Option<Origin> {
        self.places.get(key).map(|(origin, _)| *origin)
    }

    fn take(&mut self, key: K, origin: Origin, stage: Stage, all: usize, of_one: usize) -> Result<(), Full> {
        let there = |origin: Option<Origin>| {
            let places = self.places.values().filter(|(_, other)| *other == stage);
            places.filter(|(other, _)| origin.is_none_or(|origin| origin == *other)).count()
        };
        if there(None) >= all || origin != Origin::Here && there(Some(origin)) >= of_one {
            return Err(Full);
        }
        self.places.insert(key, (origin, stage));
        Ok(())
    }
}

/// Streams on which nothing is proved yet, the oldest first.
#[derive(Debug)]
pub(crate) struct Strangers<T> {
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    who: Who,
    peer: PeerId,
    stranger: T,
}

impl<T> Strangers<T> {
    pub(crate) const fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// One more. Where there are too many, a member or a place that has the most makes room: of all there the peer with the
    /// most, of its own the oldest. Who tries once is thus not cut off by a few who try often, nor a member by its neighbours.
    pub(crate) fn enter(&mut self, peer: PeerId, origin: Origin, is_known: bool, stranger: T) -> Option<T> {
        let who = if is_known { Who::Peer(peer) } else { Who::Place(origin) };
        self.waiting.push_back(Waiting { who, peer, stranger });
        if self.waiting.len() <= limits::STRANGERS {
            return None;
        }
        let most = most_frequent(self.waiting.iter().map(|one| one.who))?;
        let theirs = self.waiting.iter().filter(|one| one.who == most);
        let peer = most_frequent(theirs.map(|one| one.peer))?;
        let oldest = self.waiting.iter().position(|one| one.who == most && one.peer == peer)?;
        self.waiting.remove(oldest).map(|one| one.stranger)
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        self.waiting.retain(|one| stays(&one.stranger));
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|one| one.stranger)
    }
}

/// Of several that are equal, the first.
fn most_frequent<K: Eq + Hash + Copy>(keys: impl Iterator<Item = K>) -> Option<K> {
    let mut counts = HashMap::new();
    for (at, key) in keys.enumerate() {
        counts.entry(key).or_insert((0_usize, Reverse(at))).0 += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(key, _)| key)
}

/// Who has tried how often. A key costs nothing, so that the place counts as well.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    rates: HashMap<Who, Rate>,
}

/// Whose are counted together: one peer's, or all strangers' of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    Peer(PeerId),
    Place(Origin),
}

impl Tries {
    /// Whether somebody may try once more. A member that comes back is counted by itself.
    pub(crate) fn allows(&mut self, peer: PeerId, origin: Origin, is_known: bool, now: Duration) -> bool {
        if is_known {
            return self.count(Who::Peer(peer), limits::RETURNS, now);
        }
        let place = origin == Origin::Here || self.count(Who::Place(origin), limits::TRIES_OF_ONE, now);
        place && self.count(Who::Peer(peer), limits::TRIES, now)
    }

    /// Forgets what counts no longer.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.rates.retain(|_, rate| !rate.is_over(limits::TRIES_SPAN, now));
    }

    fn count(&mut self, who: Who, limit: u32, now: Duration) -> bool {
        if self.rates.len() >= limits::TRIED && !self.rates.contains_key(&who) {
            // Who has tried least: whoever makes room by being many frees none of those who have tried too often.
            let least = self.rates.iter().min_by_key(|(_, rate)| rate.count()).map(|(who, _)| *who);
            least.and_then(|least| self.rates.remove(&least));
        }
        self.rates.entry(who).or_default().allows(limit, limits::TRIES_SPAN, now)
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::secret::Seed;

    use super::*;

    const OWN: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))];

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap(), &OWN)
    }

    fn peer(number: u32) -> PeerId {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        mytunnel_carrier::peer_id(&Seed::from_bytes(seed).public())
    }

    #[test]
    fn a_machine_is_one_by_whatever_address() {
        for own in ["127.0.0.1", "::1", "10.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(origin(own), Origin::Here, "{own}");
        }
        assert_eq!(origin("::ffff:10.0.0.2"), origin("10.0.0.2"));
        assert_ne!(origin("10.0.0.3"), origin("10.0.0.2"));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
    }

    #[test]
    fn one_address_takes_no_more_than_its_part_and_keeps_nobody_else_out() {
        let mut doors = Doors::new();
        let (many, other) = (origin("10.0.0.2"), origin("10.0.0.3"));
        let knocked = (0..).take_while(|key| doors.knock(*key, many).is_ok()).count();
        assert_eq!(knocked, limits::PENDING_OF_ONE);
        assert_eq!(doors.knock(9000, other), Ok(()));
        let entered = (0..1000).take_while(|key| doors.enter(*key, many, false).is_ok()).count();
        assert_eq!(entered, limits::CONNECTIONS_OF_ONE);
        assert_eq!(doors.enter(9000, other, false), Ok(()));
        assert_eq!((doors.enter(9001, many, false), doors.enter(9001, many, true)), (Err(Full), Ok(())));
        doors.leave(&0);
        assert_eq!(doors.enter(9002, many, false), Ok(()));
        assert_eq!((doors.origin(&9000), doors.origin(&0)), (Some(other), None));
    }

    #[test]
    fn who_comes_by_a_way_is_bound_for_each_way_and_keeps_out_nobody_of_this_machine() {
        let mut doors = Doors::new();
        let (one, other) = (Origin::Way(4001), Origin::Way(4002));
        let entered = (0..).take_while(|key| doors.enter(*key, one, false).is_ok()).count();
        assert_eq!(entered, limits::CONNECTIONS_OF_ONE);
        assert_eq!(doors.enter(9000, other, false), Ok(()));
        assert_eq!(doors.enter(9001, Origin::Here, false), Ok(()));
        assert_eq!(doors.enter(9002, one, true), Ok(()), "a member");
        let (mut tries, now) = (Tries::default(), Duration::from_secs(1));
        let tried = (0..).take_while(|number| tries.allows(peer(*number), one, false, now)).count();
        assert_eq!(tried, usize::try_from(limits::TRIES_OF_ONE).unwrap());
        assert!(tries.allows(peer(9000), other, false, now));
    }

    #[test]
    fn all_of_them_together_are_bounded_and_members_come_in_all_the_same() {
        let mut doors = Doors::new();
        let from = |key: usize| Origin::V4(Ipv4Addr::from_bits(u32::try_from(key / 32).unwrap()));
        let entered = (0..).take_while(|key| doors.enter(*key, from(*key), false).is_ok()).count();
        assert_eq!(entered, limits::CONNECTIONS);
        let knocked = (10_000..).take_while(|key| doors.knock(*key, from(*key)).is_ok()).count();
        assert_eq!(knocked, limits::PENDING);
        assert_eq!(doors.enter(99_999, from(99_999), true), Ok(()));
    }

    #[test]
    fn a_stranger_among_many_from_elsewhere_is_heard_out() {
        let mut strangers = Strangers::new();
        let (many, one) = (origin("10.0.0.2"), origin("10.0.0.3"));
        assert_eq!(strangers.enter(peer(0), one, false, 0), None);
        for number in 1..1000_usize {
            let gone = strangers.enter(peer(u32::try_from(number).unwrap()), many, false, number);
            assert_eq!(gone, number.checked_sub(limits::STRANGERS - 1).filter(|gone| *gone > 0));
        }
        strangers.retain(|number| *number == 0);
        assert_eq!(strangers.drain().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_stranger_among_few_with_many_streams_is_heard_out() {
        let mut strangers = Strangers::new();
        assert_eq!(strangers.enter(peer(0), Origin::Here, false, 0), None);
        for number in 1..1000_u32 {
            let gone = strangers.enter(peer(1 + number % 16), Origin::Here, false, number);
            assert_eq!(gone.is_some(), number >= u32::try_from(limits::STRANGERS).unwrap(), "{number}");
            assert_ne!(gone, Some(0));
        }
    }

    #[test]
    fn a_member_makes_room_for_no_stranger_of_its_place_and_has_no_more_of_it_than_they() {
        let (mut strangers, places) = (Strangers::new(), limits::STRANGERS);
        for number in 0..8 {
            assert_eq!(strangers.enter(peer(0), Origin::Here, true, number), None);
        }
        let gone = (8..1000).filter_map(|number| {
            strangers.enter(peer(u32::try_from(number).unwrap()), Origin::Here, false, number)
        });
        assert!(gone.collect::<Vec<_>>().iter().all(|gone| *gone >= 8));
        for number in 1000..2000 {
            assert!(strangers.enter(peer(0), Origin::Here, true, number).is_some());
        }
        let left = strangers.drain();
        assert_eq!(left.filter(|number| (8..1000).contains(number)).count(), places / 2);
    }

    #[test]
    fn among_equals_the_oldest_stranger_makes_room() {
        let mut strangers = Strangers::new();
        let gone = (0..=u32::try_from(limits::STRANGERS).unwrap()).filter_map(|number| {
            strangers.enter(peer(number), Origin::V4(Ipv4Addr::from_bits(number)), false, number)
        });
        assert_eq!(gone.collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn new_keys_give_no_new_tries_and_members_come_back_whatever_their_neighbours_do() {
        let now = Duration::from_secs(1);
        let mut tries = Tries::default();
        let (many, other) = (origin("10.0.0.2"), origin("10.0.0.3"));
        let tried = (0..).take_while(|number| tries.allows(peer(*number), many, false, now)).count();
        assert_eq!(tried, usize::try_from(limits::TRIES_OF_ONE).unwrap());
        assert!(tries.allows(peer(9000), other, false, now) && tries.allows(peer(9001), many, true, now));
        let own = (0..).take_while(|_| tries.allows(peer(9002), Origin::Here, false, now)).count();
        assert_eq!(own, usize::try_from(limits::TRIES).unwrap());
        // Many others free nobody who has tried too often.
        for number in 0..2 * limits::TRIED {
            let place = Origin::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()));
            tries.count(Who::Place(place), limits::TRIES_OF_ONE, now);
        }
        assert_eq!(tries.rates.len(), limits::TRIED);
        assert!(!tries.allows(peer(9003), many, false, now));
        tries.tick(now + limits::TRIES_SPAN);
        assert!(tries.rates.is_empty() && tries.allows(peer(9003), many, false, now + limits::TRIES_SPAN));
    }
}
