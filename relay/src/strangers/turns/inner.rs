//! Who has a turn and who waits for one: pure bookkeeping.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::{SILENT, TURN};

/// How much is remembered of what became of turns.
const MEMORY: u32 = 64;

type Network = Option<IpAddr>;

/// `W` is what a turn is handed to.
#[derive(Debug)]
pub(super) struct Inner<W> {
    free: usize,
    next: u64,
    networks: HashMap<Network, Crowd<W>>,
    /// When the turns of those end at the latest whose handshake is done, and who have yet to show a certificate.
    arrived: VecDeque<(Instant, Network)>,
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
    pub(super) fn new(at_once: usize) -> Self {
        Self { free: at_once, next: 0, networks: HashMap::new(), arrived: VecDeque::new(), proved: MEMORY }
    }

    /// How long a turn may be. Whoever comes to drag out turns finds them short; who loses his goes on without.
    pub(super) fn longest(&self) -> Duration {
        (TURN * self.proved / MEMORY).max(SILENT)
    }

    /// A turn that others waited for came to nothing.
    pub(super) fn waste(&mut self) {
        if self.networks.values().any(|crowd| !crowd.waiting.is_empty()) {
            self.proved = self.proved.saturating_sub(1);
        }
    }

    /// A certificate was shown.
    pub(super) fn prove(&mut self) {
        self.proved = (self.proved + 2).min(MEMORY);
    }

    /// Takes a turn, if there is one.
    pub(super) fn begin(&mut self, network: Network) -> bool {
        let Some(free) = self.free.checked_sub(1) else { return false };
        self.free = free;
        self.crowd(network).turns += 1;
        true
    }

    /// Waits for one. The number is for [`Self::forget`].
    pub(super) fn wait(&mut self, network: Network, who: W) -> u64 {
        let number = self.next;
        self.next += 1;
        self.crowd(network).waiting.insert(number, who);
        number
    }

    /// Waits no longer.
    pub(super) fn forget(&mut self, network: Network, number: u64) {
        if let Some(crowd) = self.networks.get_mut(&network) {
            crowd.waiting.remove(&number);
        }
        self.tidy(network);
    }

    /// A handshake is done; what is left has until then.
    pub(super) fn arrive(&mut self, network: Network, until: Instant) {
        self.arrived.push_back((until, network));
    }

    /// Ends the turn of the one who has arrived first; if `late`, only when its time is over. Gives who is next, if anybody waits; nothing
    /// where no turn was ended.
    pub(super) fn end_arrived(&mut self, late: Option<Instant>) -> Option<Option<(Network, W)>> {
        let is_meant = |first: &mut (Instant, Network)| late.is_none_or(|now| first.0 <= now);
        if !self.arrived.front_mut().is_some_and(is_meant) {
            return None;
        }
        let (_, network) = self.arrived.pop_front()?;
        if late.is_some() {
            self.waste();
        }
        Some(self.end(network))
    }

    /// When the next turn ends that nobody has ended.
    pub(super) fn look_again(&self) -> Option<Instant> {
        self.arrived.front().map(|(until, _)| *until)
    }

    /// A turn of this network is over: who has it now, if anybody waits.
    pub(super) fn end(&mut self, network: Network) -> Option<(Network, W)> {
        let crowd = self.crowd(network);
        crowd.turns = crowd.turns.saturating_sub(1);
        let next = self.next();
        if next.is_none() {
            self.free += 1;
        }
        self.tidy(network);
        next
    }

    /// The newest of those whose network has fewest turns.
    fn next(&mut self) -> Option<(Network, W)> {
        let newest = |crowd: &Crowd<W>| crowd.waiting.last_key_value().map(|(number, _)| *number);
        let waiting = self.networks.iter().filter_map(|(network, crowd)| {
            let newest = newest(crowd)?;
            Some(((crowd.turns, std::cmp::Reverse(newest)), *network))
        });
        let (_, network) = waiting.min()?;
        let crowd = self.networks.get_mut(&network)?;
        let (_, who) = crowd.waiting.pop_last()?;
        crowd.turns += 1;
        Some((network, who))
    }

    fn crowd(&mut self, network: Network) -> &mut Crowd<W> {
        self.networks.entry(network).or_insert_with(|| Crowd { turns: 0, waiting: BTreeMap::new() })
    }

    fn tidy(&mut self, network: Network) {
        if self.networks.get(&network).is_some_and(|crowd| crowd.turns == 0 && crowd.waiting.is_empty()) {
            self.networks.remove(&network);
        }
    }

    /// Free turns, and who waits.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.free, self.networks.values().map(|crowd| crowd.waiting.len()).sum())
    }

    /// Networks that are known.
    #[cfg(test)]
    pub(super) fn networks(&self) -> usize {
        self.networks.len()
    }
}
