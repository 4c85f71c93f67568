//! The relay's side: counts, tells, and knows what may be spent.

mod budget;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use self::budget::Budget;
pub use self::budget::Standing;
use super::{Count, MAX_COUNTS, Month, PriceList, Tell, Told, Usage, Want};
use crate::id::Serial;

/// Totals that are kept though everything in them was told, so that a key which comes back goes on with its own.
const KEPT: usize = 16_384;

/// How often a total is told that is not taken: once a second, until what the relay reports of its tunnels has arrived.
const TRIES: u32 = 60;

/// Totals in all: several for each tunnel that a relay can have.
const MAX_TOTALS: usize = 262_144;

/// See the [module documentation](super). Order of calls: [`open`](Self::open) and [`close`](Self::close) with each
/// tunnel, [`count`](Self::count) with what was used, then [`next`](Self::next) for as long as it gives a message; each
/// message is answered by [`told`](Self::told) or ends in [`failed`](Self::failed) before there is another.
#[derive(Debug)]
pub struct Meter {
    incarnation: [u8; 16],
    seq: u64,
    /// Whether the coordinator has taken anything of this process: until then it reserves what an earlier one held.
    is_known: bool,
    runs: u64,
    list: PriceList,
    totals: HashMap<(Serial, Month), Total>,
    /// Those that have grown beyond what was told.
    grown: HashSet<(Serial, Month)>,
    /// From so many totals on those that are of no use are forgotten.
    keep: usize,
    /// Live tunnels of each key and of its children.
    users: HashMap<Serial, u32>,
    budgets: HashMap<Serial, Budget>,
    /// What is still to be sent of all that was to be told at one moment.
    parts: VecDeque<Part>,
    out: Option<(u64, Part, Instant)>,
}

#[derive(Debug)]
struct Total {
    run: u64,
    now: Usage,
    told: Usage,
    /// How often it was not taken.
    refused: u32,
}

/// One message's worth.
#[derive(Debug, Default)]
struct Part {
    counts: Vec<Count>,
    wants: Vec<(Want, u64)>,
}

impl Meter {
    /// Begins at nothing. The bytes are random.
    pub fn new(incarnation: [u8; 16]) -> Self {
        Self {
            incarnation,
            seq: 0,
            is_known: false,
            runs: 0,
            list: PriceList::default(),
            totals: HashMap::new(),
            grown: HashSet::new(),
            keep: KEPT,
            users: HashMap::new(),
            budgets: HashMap::new(),
            parts: VecDeque::new(),
            out: None,
        }
    }

    /// The random bytes that its messages carry.
    pub const fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// A tunnel of this key is up.
    pub fn open(&mut self, serial: Serial, parent: Option<Serial>) {
        for key in charged(serial, parent) {
            *self.users.entry(key).or_default() += 1;
        }
    }

    /// A tunnel of this key is up no longer.
    pub fn close(&mut self, serial: Serial, parent: Option<Serial>) {
        for key in charged(serial, parent) {
            if let Some(users) = self.users.get_mut(&key) {
                *users = users.saturating_sub(1);
                if *users == 0 {
                    self.users.remove(&key);
                }
            }
        }
    }

    /// Tunnels of this key have used something since the last call.
    pub fn count(&mut self, serial: Serial, parent: Option<Serial>, month: Month, used: Usage) {
        if used.is_nothing() {
            return;
        }
        let runs = &mut self.runs;
        let total = self.totals.entry((serial, month)).or_insert_with(|| {
            *runs += 1;
            Total { run: *runs, now: Usage::default(), told: Usage::default(), refused: 0 }
        });
        let before = self.list.prices.cost(&total.now);
        total.now = total.now.plus(used);
        let cost = self.list.prices.cost(&total.now) - before;
        self.grown.insert((serial, month));
        for key in charged(serial, parent) {
            if let Some(budget) = self.budgets.get_mut(&key) {
                budget.spend(cost);
            }
        }
    }

    /// Whether no further key can be counted.
    pub fn is_full(&self) -> bool {
        self.totals.len() >= MAX_TOTALS
    }

    /// The prices by which this relay counts.
    pub const fn prices(&self) -> PriceList {
        self.list
    }

    /// The coordinator has said how a key stands. What was leased for it is void.
    pub fn set_standing(&mut self, key: Serial, standing: Standing) {
        self.budgets.entry(key).or_default().set(standing);
    }

    /// The coordinator has said how every key stands that has or had a budget.
    pub fn replace_standings(&mut self, standings: impl IntoIterator<Item = (Serial, Standing)>) {
        let mut told = HashSet::new();
        for (key, standing) in standings {
            self.set_standing(key, standing);
            told.insert(key);
        }
        self.budgets.retain(|key, budget| told.contains(key) || budget.is_claimed());
    }

    /// A certificate says that its key has a budget of its own.
    pub fn claim(&mut self, key: Serial) {
        self.budgets.entry(key).or_insert_with(Budget::claimed);
    }

    /// How a key stands.
    pub fn standing(&self, key: &Serial) -> Standing {
        self.budgets.get(key).map_or(Standing::Free, Budget::standing)
    }

    /// Micro-cents that may be spent on a key; none where there is no limit.
    pub fn left(&self, key: &Serial, now: Instant) -> Option<u64> {
        self.budgets.get(key).and_then(|budget| budget.left(now))
    }

    /// Asks for a lease, though no tunnel of the key is up. [`is_asking`](Self::is_asking) until there is an answer.
    pub fn ask(&mut self, key: Serial) {
        if let Some(budget) = self.budgets.get_mut(&key) {
            budget.ask();
        }
    }

    /// Whether an answer is still to come.
    pub fn is_asking(&self, key: &Serial) -> bool {
        self.budgets.get(key).is_some_and(Budget::is_asking)
    }

    /// Whether nothing may be spent on a key, and the last word of the coordinator was that there is nothing to come.
    pub fn is_spent(&self, key: &Serial, now: Instant) -> bool {
        let refused = |budget: &Budget| budget.standing() == Standing::Frozen || budget.is_refused();
        self.budgets.get(key).is_some_and(|budget| budget.left(now) == Some(0) && refused(budget))
    }

    /// Whether nothing may be spent on a key, and the coordinator has just said that there is nothing to come. Later it
    /// is to be asked again: the month may be another.
    pub fn was_refused(&self, key: &Serial, now: Instant) -> bool {
        self.budgets.get(key).is_some_and(|budget| budget.left(now) == Some(0) && budget.was_refused(now))
    }

    /// Keys that have a limit.
    pub fn limited(&self) -> impl Iterator<Item = Serial> {
        let limited = self.budgets.iter().filter(|(_, budget)| budget.standing() != Standing::Free);
        limited.map(|(key, _)| *key)
    }

    /// Whether the next message goes on with what the last one began.
    pub fn is_halfway(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether a lease should be asked for without delay.
    pub fn is_urgent(&self, now: Instant) -> bool {
        self.budgets.iter().any(|(key, budget)| budget.is_urgent(self.users.contains_key(key), now))
    }

    /// The next message; none while one is out, and when there is nothing to tell. The first may be empty.
    pub fn next(&mut self, now: Instant) -> Option<Tell> {
        if self.out.is_some() {
            return None;
        }
        if self.parts.is_empty() {
            self.parts = self.round(now);
            if self.parts.is_empty() && !self.is_known {
                self.parts.push_back(Part::default());
            }
        }
        let part = self.parts.pop_front()?;
        self.seq += 1;
        let tell = Tell {
            incarnation: self.incarnation,
            seq: self.seq,
            prices: self.list.version,
            counts: part.counts.clone(),
            wants: part.wants.iter().map(|(want, _)| want.clone()).collect(),
        };
        self.out = Some((self.seq, part, now));
        Some(tell)
    }

    /// The coordinator has taken the message that is out.
    pub fn told(&mut self, told: &Told) {
        let Some((_, part, sent)) = self.out.take_if(|(seq, ..)| *seq == told.seq) else { return };
        self.is_known = true;
        for Count { serial, month, total, .. } in part.counts {
            if let Some(known) = self.totals.get_mut(&(serial, month)) {
                known.refused = if told.refused.contains(&serial) { known.refused + 1 } else { 0 };
                if (1..TRIES).contains(&known.refused) {
                    continue;
                }
                known.refused = 0;
                known.told = total;
                if known.now == known.told {
                    self.grown.remove(&(serial, month));
                }
            }
        }
        for (want, generation) in part.wants {
            let lease = told.leases.iter().find(|lease| lease.key == want.key);
            if let Some(budget) = self.budgets.get_mut(&want.key) {
                budget.answered(lease, generation, sent);
                if budget.is_of_no_use() && !self.users.contains_key(&want.key) {
                    self.budgets.remove(&want.key);
                }
            }
        }
        self.list = told.prices;
        self.forget();
    }

    /// The message that is out is lost, or its answer.
    pub fn failed(&mut self) {
        self.out = None;
        self.parts.clear();
        for budget in self.budgets.values_mut() {
            budget.failed();
        }
    }

    /// Gives every lease back with the next messages: the relay stops.
    pub fn give_back(&mut self) {
        self.users.clear();
    }

    /// All that is to be told at this moment: totals first, so that leases are judged by all of them.
    fn round(&mut self, now: Instant) -> VecDeque<Part> {
        let mut parts = VecDeque::new();
        let mut part = Part::default();
        for at in &self.grown {
            let Some(total) = self.totals.get(at) else { continue };
            if part.counts.len() == MAX_COUNTS {
                parts.push_back(std::mem::take(&mut part));
            }
            let (serial, month) = *at;
            part.counts.push(Count { serial, month, run: total.run, total: total.now });
        }
        for (key, budget) in &mut self.budgets {
            let Some((held, ask)) = budget.want(self.users.contains_key(key), now) else { continue };
            if part.wants.len() == MAX_COUNTS {
                parts.push_back(std::mem::take(&mut part));
            }
            part.wants.push((Want { key: *key, held, ask }, budget.generation()));
        }
        if !(part.counts.is_empty() && part.wants.is_empty()) {
            parts.push_back(part);
        }
        parts
    }

    /// Forgets totals that were told and that nobody adds to, when there are many.
    fn forget(&mut self) {
        if self.totals.len() <= self.keep || !self.parts.is_empty() {
            return;
        }
        let (users, grown) = (&self.users, &self.grown);
        self.totals.retain(|at, _| users.contains_key(&at.0) || grown.contains(at));
        self.keep = KEPT.max(self.totals.len() * 2);
    }
}

/// The keys that pay for what a key uses.
fn charged(serial: Serial, parent: Option<Serial>) -> impl Iterator<Item = Serial> {
    [Some(serial), parent].into_iter().flatten()
}
