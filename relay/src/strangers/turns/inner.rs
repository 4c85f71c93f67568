//! Who has a turn and who waits for one: pure bookkeeping.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::{SILENT, TURN};

/// Turns that there are at once, at least, and at most: a peer that is far away is waited for during most of its turn.
pub(super) const LEAST: usize = 32;
pub(super) const MOST: usize = 256;

/// What is worked on was looked at so soon after something had come: the relay has time for one more.
pub(super) const PROMPT: Duration = Duration::from_millis(10);

/// And so late: it has begun too much.
pub(super) const LATE: Duration = Duration::from_millis(40);

/// How much is remembered of what became of turns.
const MEMORY: u32 = 64;

type Network = Option<IpAddr>;

/// `W` is what a turn is handed to.
#[derive(Debug)]
pub(super) struct Inner<W> {
    /// How many turns there may be now, and ever; and when they last became fewer.
    limit: usize,
    most: usize,
    cut: Option<Instant>,
    /// How many there are.
    given: usize,
    next: u64,
    networks: HashMap<Network, Crowd<W>>,
    /// The networks of which somebody waits, in the order in which they are next.
    order: BTreeSet<(usize, Reverse<u64>, Network)>,
    /// When the turns of those end at the latest whose handshake is done, and who have yet to show a certificate.
    arrived: BTreeSet<(Instant, u64, Network)>,
    /// How many of the last turns led to a certificate, more or less.
    proved: u32,
}

/// Those of one network.
#[derive(Debug)]
struct Crowd<W> {
    /// Turns that they have.
    turns: usize,
    /// Those who wait, by the order in which they came.
    waiting: BTreeMap<u64, W>,
}

impl<W> Inner<W> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            limit: LEAST,
            most,
            cut: None,
            given: 0,
            next: 0,
            networks: HashMap::new(),
            order: BTreeSet::new(),
            arrived: BTreeSet::new(),
            proved: MEMORY,
        }
    }

    /// One that is worked on was looked at so long after something had come for it. There are more turns while that is soon, by one for each turn,
    /// and fewer once it is late. Gives who may begin now.
    pub(super) fn look(&mut self, delay: Duration, is_first: bool, now: Instant) -> Option<(Network, W)> {
        if self.order.is_empty() {
            return None;
        }
        if delay <= PROMPT && is_first {
            self.limit = (self.limit + 1).min(self.most);
        } else if delay >= LATE && self.cut.is_none_or(|cut| now.saturating_duration_since(cut) >= delay) {
            (self.limit, self.cut) = ((self.limit - self.limit / 4).max(LEAST), Some(now));
        }
        self.next()
    }

    /// How long a turn may be. Whoever comes to drag out turns finds them short; who loses his goes on without.
    pub(super) fn longest(&self) -> Duration {
        (TURN * self.proved / MEMORY).max(SILENT)
    }

    /// A turn that others waited for came to nothing.
    pub(super) fn waste(&mut self) {
        if !self.order.is_empty() {
            self.proved = self.proved.saturating_sub(1);
        }
    }

    /// A certificate was shown.
    pub(super) fn prove(&mut self) {
        self.proved = (self.proved + 2).min(MEMORY);
    }

    /// Takes a turn, if there is one.
    pub(super) fn begin(&mut self, network: Network) -> bool {
        let is_free = self.given < self.limit;
        if is_free {
            self.given += 1;
            self.change(network, |crowd| crowd.turns += 1);
        }
        is_free
    }

    /// Waits for one. The number is for [`Self::forget`].
    pub(super) fn wait(&mut self, network: Network, who: W) -> u64 {
        let number = self.next;
        self.next += 1;
        self.change(network, |crowd| crowd.waiting.insert(number, who));
        number
    }

    /// Waits no longer.
    pub(super) fn forget(&mut self, network: Network, number: u64) {
        if self.networks.contains_key(&network) {
            self.change(network, |crowd| crowd.waiting.remove(&number));
        }
    }

    /// A handshake is done; what is left has until then.
    pub(super) fn arrive(&mut self, network: Network, until: Instant) {
        self.arrived.insert((until, self.next, network));
        self.next += 1;
    }

    /// Ends the turn of one of this network who has arrived. Gives who is next, if anybody waits.
    pub(super) fn end_arrived(&mut self, network: Network) -> Option<(Network, W)> {
        let first = self.arrived.iter().find(|(.., of)| *of == network).copied()?;
        self.arrived.remove(&first);
        self.end(network)
    }

    /// Ends a turn whose time is over, if there is one. Gives who is next, if anybody waits.
    pub(super) fn end_late(&mut self, now: Instant) -> Option<Option<(Network, W)>> {
        let first = self.arrived.first().filter(|(until, ..)| *until <= now).copied()?;
        self.arrived.remove(&first);
        self.waste();
        Some(self.end(first.2))
    }

    /// When the next turn ends that nobody has ended.
    pub(super) fn look_again(&self) -> Option<Instant> {
        self.arrived.first().map(|(until, ..)| *until)
    }

    /// A turn of this network is over: who has it now, if anybody waits.
    pub(super) fn end(&mut self, network: Network) -> Option<(Network, W)> {
        self.given = self.given.saturating_sub(1);
        self.change(network, |crowd| crowd.turns = crowd.turns.saturating_sub(1));
        if self.given == 0 && self.order.is_empty() {
            (self.limit, self.cut, self.proved) = (LEAST, None, MEMORY);
        }
        self.next()
    }

    /// The newest of those whose network has fewest turns, if there is a turn to be had.
    pub(super) fn next(&mut self) -> Option<(Network, W)> {
        if self.given >= self.limit {
            return None;
        }
        let network = self.order.first()?.2;
        let (_, who) = self.change(network, |crowd| {
            crowd.turns += 1;
            crowd.waiting.pop_last()
        })?;
        self.given += 1;
        Some((network, who))
    }

    /// Changes what is known of a network, and its place in the order.
    fn change<R>(&mut self, network: Network, change: impl FnOnce(&mut Crowd<W>) -> R) -> R {
        let place = |crowd: &Crowd<W>| {
            let (newest, _) = crowd.waiting.last_key_value()?;
            Some((crowd.turns, Reverse(*newest), network))
        };
        let crowd =
            self.networks.entry(network).or_insert_with(|| Crowd { turns: 0, waiting: BTreeMap::new() });
        let before = place(crowd);
        let result = change(crowd);
        let after = place(crowd);
        if crowd.turns == 0 && crowd.waiting.is_empty() {
            self.networks.remove(&network);
        }
        if before != after {
            if let Some(before) = before {
                self.order.remove(&before);
            }
            self.order.extend(after);
        }
        result
    }

    /// Turns that are given, and who waits.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.given, self.networks.values().map(|crowd| crowd.waiting.len()).sum())
    }

    /// How many turns there may be.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Networks that are known, and those of which somebody waits.
    #[cfg(test)]
    pub(super) fn networks(&self) -> (usize, usize) {
        (self.networks.len(), self.order.len())
    }
}
