//! Which certificates are ordered when: decisions only, with the time passed in.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use super::{
    AT_ONCE,
    refusal::Concern,
    scope::Subject,
    week::{Spent, Week, part},
};
use crate::route::Customer;

/// The first pause after a failure; each doubles it. Let's Encrypt allows five failures for a name in an hour.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(12 * 3600);

/// How often renewals are looked at, at least.
const LOOK: Duration = Duration::from_secs(600);

/// Orders in a row that are not paused for, and how soon there is another: 300 in three hours is what Let's Encrypt
/// allows an account.
const ORDERS: u32 = 50;
const REFILL: Duration = Duration::from_secs(60);

/// What one tenant may have of the places for orders that are under way: the others are for others, however long its own hang.
const PLACES: usize = AT_ONCE / 2;

/// What an order counts against the share of its tenant, which is as large as that of all: half of the orders are for others.
const WEIGHT: u32 = 2;

/// Orders beside those, for what would end otherwise.
const RENEWALS: u32 = 20;

/// Domains that the authority wants nothing of for now. Beyond that the one goes that is over soonest.
const REFUSED: usize = 1000;

/// The shortest time between two certificates for one name.
const AGAIN: Duration = Duration::from_secs(3600);

/// How soon a full plan is looked through again for what is not needed any more.
const KEPT: Duration = Duration::from_secs(60);

/// Names that are remembered. Beyond that nothing new is ordered.
const NAMES: usize = 10_000;

/// When a certificate begins and ends, and when its authority suggests to renew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) begins: SystemTime,
    pub(super) ends: SystemTime,
    pub(super) suggested: Option<SystemTime>,
}

impl Life {
    /// Whether less than a sixth of it is left: a renewal has waited for as long as it may.
    fn is_urgent(&self, now: SystemTime) -> bool {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        now + life / 6 >= self.ends
    }

    /// At two thirds of its life, or earlier where the authority says so (RFC 9773).
    fn renew_at(&self) -> SystemTime {
        let life = self.ends.duration_since(self.begins).unwrap_or_default();
        let usual = self.begins + life * 2 / 3;
        self.suggested.map_or(usual, |suggested| suggested.min(self.begins + life * 9 / 10))
    }
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Plan {
    subjects: HashMap<Subject, Entry>,
    /// Orders that count against what may be ordered at once, as of [`Self::refilled`].
    spent: u32,
    /// The same of each tenant, by [`WEIGHT`].
    spent_by: HashMap<Customer, u32>,
    refilled: Option<SystemTime>,
    /// When [`Self::keep`] has looked through all.
    kept: Option<SystemTime>,
    /// Where the authority counts by the week.
    week: Option<Week>,
    /// Until when the authority wants to hear of nothing.
    refused: Option<SystemTime>,
    /// The same of new names at and under a domain.
    refused_under: HashMap<Box<str>, SystemTime>,
}

/// Why a name waits for its certificate, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// The authority has said so: of everything, or of new names at and under a domain.
    Refused { until: SystemTime, under: Option<Box<str>> },
    /// There are too many new ones this week.
    Week(Spent),
}

impl Held {
    pub(super) const fn until(&self) -> SystemTime {
        match self {
            Self::Refused { until, .. } | Self::Week(Spent::ByAll(until) | Spent::ByTenant(until)) => *until,
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    state: State,
    failures: u32,
    /// Somebody has asked for it since it failed.
    asked: bool,
    /// Of the one that is there.
    life: Option<Life>,
    /// Whose order it was.
    owner: Option<Customer>,
}

impl Entry {
    const fn new(state: State, life: Option<Life>) -> Self {
        Self { state, failures: 0, asked: true, life, owner: None }
    }

    /// It is there, or has failed: what is known of it is not to be forgotten.
    const fn is_known(&self) -> bool {
        self.life.is_some() || self.failures > 0
    }

    /// It has failed, and was never there.
    const fn is_retry(&self) -> bool {
        self.life.is_none() && self.failures > 0
    }

    fn is_due(&self, now: SystemTime) -> bool {
        // What has failed before it was ever there, and is asked for by nobody, waits for somebody.
        let wanted = self.life.is_some() || self.asked;
        wanted && matches!(self.state, State::At(at) if at <= now)
    }

    /// What would end before long goes first, then what there is none of yet: nobody keeps others from being renewed by
    /// asking for ever new names.
    fn rank(&self, now: SystemTime) -> u8 {
        match &self.life {
            Some(life) if life.is_urgent(now) => URGENT,
            None => 1,
            Some(_) => 2,
        }
    }
}

const URGENT: u8 = 0;

/// What may be spent at once, of all and of one tenant.
const fn orders(is_urgent: bool) -> u32 {
    if is_urgent { ORDERS + RENEWALS } else { ORDERS }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be ordered from then on.
    At(SystemTime),
    UnderWay,
}

impl Plan {
    /// One that keeps to what an authority allows in a week.
    pub(super) fn new(week: Option<Week>) -> Self {
        Self { week, ..Self::default() }
    }

    pub(super) const fn week(&self) -> Option<&Week> {
        self.week.as_ref()
    }

    /// Why none is ordered for this name of `owner`, however due it is.
    pub(super) fn held(&self, subject: &Subject, owner: Option<&Customer>, now: SystemTime) -> Option<Held> {
        self.held_beside(&self.new_under_way(), subject, owner, now)
    }

    /// Whose names those orders are for that may bring a certificate which counts to the week.
    fn new_under_way(&self) -> Vec<Option<&Customer>> {
        let Some(week) = &self.week else { return Vec::new() };
        let new = self.subjects.iter().filter(|(subject, entry)| {
            entry.state == State::UnderWay && entry.life.is_none() && week.counts(subject.name())
        });
        new.map(|(_, entry)| entry.owner.as_ref()).collect()
    }

    fn held_beside(
        &self,
        new: &[Option<&Customer>],
        subject: &Subject,
        owner: Option<&Customer>,
        now: SystemTime,
    ) -> Option<Held> {
        let later = |until: &SystemTime| *until > now;
        if let Some(until) = self.refused.filter(later) {
            return Some(Held::Refused { until, under: None });
        }
        // What renews one counts nowhere, and what is under way is not kept from it.
        let entry = self.subjects.get(subject);
        if entry.is_some_and(|entry| entry.life.is_some() || entry.state == State::UnderWay) {
            return None;
        }
        let above = std::iter::successors(Some(subject.host()), |name| Some(name.split_once('.')?.1));
        let refused = above.filter_map(|domain| self.refused_under.get_key_value(domain));
        if let Some((under, until)) =
            refused.filter(|(_, until)| later(until)).max_by_key(|(_, until)| **until)
        {
            return Some(Held::Refused { until: *until, under: Some(under.clone()) });
        }
        let week = self.week.as_ref().filter(|week| week.counts(subject.name()))?;
        let theirs = new.iter().filter(|of| owner.is_some() && part(**of) == part(owner)).count();
        week.spent(owner, (new.len(), theirs), now).map(Held::Week)
    }

    /// The authority has had enough of what an order was about, until then. What was ordered waits at least so long.
    pub(super) fn refused(&mut self, subject: &Subject, concern: Concern, until: SystemTime) {
        if let Some(entry) = self.subjects.get_mut(subject)
            && let State::At(at) = entry.state
        {
            entry.state = State::At(at.max(until));
        }
        match concern {
            Concern::ThisOne => {}
            Concern::All => self.refused = Some(until),
            Concern::Under(domain) => {
                if self.refused_under.len() >= REFUSED {
                    let soonest = self.refused_under.iter().min_by_key(|(_, until)| **until);
                    let soonest = soonest.map(|(domain, _)| domain.clone());
                    soonest.and_then(|domain| self.refused_under.remove(&domain));
                }
                self.refused_under.insert(domain, until);
            }
        }
    }

    /// One is there already.
    pub(super) fn has(&mut self, subject: Subject, life: Life) {
        self.subjects.insert(subject, Entry::new(State::At(life.renew_at()), Some(life)));
    }

    /// Its authority suggests to renew the one that is there at this time.
    pub(super) fn suggest(&mut self, subject: &Subject, at: SystemTime) {
        if let Some(entry) = self.subjects.get_mut(subject)
            && let Some(life) = &mut entry.life
        {
            life.suggested = Some(at);
            if entry.state != State::UnderWay && entry.failures == 0 {
                entry.state = State::At(life.renew_at());
            }
        }
    }

    /// One is needed. `false` when there will be none for now.
    pub(super) fn want(&mut self, subject: Subject, now: SystemTime) -> bool {
        if let Some(entry) = self.subjects.get_mut(&subject) {
            entry.asked = true;
            return entry.life.is_some() || entry.state == State::UnderWay || entry.state == State::At(now);
        }
        let room = !self.is_full();
        if room {
            self.subjects.insert(subject, Entry::new(State::At(now), None));
        }
        room
    }

    /// Whether there is a word of it.
    pub(super) fn knows(&self, subject: &Subject) -> bool {
        self.subjects.contains_key(subject)
    }

    /// Whether there is no room for a new name.
    pub(super) fn is_full(&self) -> bool {
        self.subjects.len() >= NAMES
    }

    /// Lets go of all but these and of what is under way, and if that is no help, of what was never ordered: who wants one of
    /// those asks again. Not if that was done a short time before: it looks at each.
    pub(super) fn keep(&mut self, now: SystemTime, is_needed: impl Fn(&Subject) -> bool) {
        let is_soon = |kept: SystemTime| now.duration_since(kept).is_ok_and(|since| since < KEPT);
        if self.kept.is_some_and(is_soon) {
            return;
        }
        self.kept = Some(now);
        self.subjects.retain(|subject, entry| entry.state == State::UnderWay || is_needed(subject));
        if self.is_full() {
            self.subjects.retain(|_, entry| entry.state == State::UnderWay || entry.is_known());
        }
    }

    /// The next to be ordered, which is under way from then on. No tenant has more than its share of the places and of the
    /// orders; what has failed before comes after what has not, one at a time. What is held is looked at again when that may
    /// be over, so that a stranger's handshake does not have all of it looked through.
    pub(super) fn next(
        &mut self,
        now: SystemTime,
        owner: impl Fn(&Subject) -> Option<Customer>,
    ) -> Option<Subject> {
        self.refill(now);
        let mut places: HashMap<&Customer, usize> = HashMap::new();
        let under_way = self.subjects.values().filter(|entry| entry.state == State::UnderWay);
        under_way.clone().filter_map(|entry| entry.owner.as_ref()).for_each(|owner| {
            *places.entry(owner).or_default() += 1;
        });
        let new = self.new_under_way();
        let is_retried = under_way.clone().any(Entry::is_retry);
        let mut held_until = Vec::new();
        let mut may = |subject: &Subject, entry: &Entry| {
            let most = orders(entry.rank(now) == URGENT);
            if self.spent >= most || entry.is_retry() && is_retried {
                return false;
            }
            let owner = owner(subject);
            if let Some(held) = self.held_beside(&new, subject, owner.as_ref(), now) {
                held_until.push((subject.clone(), held.until()));
                return false;
            }
            let Some(owner) = owner else { return true };
            let spent = self.spent_by.get(&owner).copied().unwrap_or_default();
            places.get(&owner).is_none_or(|taken| *taken < PLACES) && spent + WEIGHT <= most
        };
        let due = self.subjects.iter().filter(|(_, entry)| entry.is_due(now));
        let next = due
            .filter(|(subject, entry)| may(subject, entry))
            .min_by_key(|(_, entry)| (entry.rank(now), entry.failures))
            .map(|(subject, _)| subject.clone());
        for (subject, until) in held_until {
            if let Some(entry) = self.subjects.get_mut(&subject) {
                entry.state = State::At(until.min(now + LOOK));
            }
        }
        let subject = next?;
        let owner = owner(&subject);
        self.spent += 1;
        if let Some(owner) = &owner {
            *self.spent_by.entry(owner.clone()).or_default() += WEIGHT;
        }
        let entry = self.subjects.get_mut(&subject)?;
        (entry.state, entry.owner) = (State::UnderWay, owner);
        Some(subject)
    }

    /// Time gives orders back. A clock that was set back begins anew.
    fn refill(&mut self, now: SystemTime) {
        let since = self.refilled.map(|refilled| now.duration_since(refilled));
        let Some(Ok(since)) = since else {
            self.refilled = Some(now);
            return;
        };
        let back = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        self.spent = self.spent.saturating_sub(back);
        self.spent_by.retain(|_, spent| {
            *spent = spent.saturating_sub(back);
            *spent > 0
        });
        self.refilled = self.refilled.map(|refilled| refilled + REFILL.saturating_mul(back));
    }

    /// It is not needed any more.
    pub(super) fn forget(&mut self, subject: &Subject) {
        self.subjects.remove(subject);
    }

    /// The authority has given one. It counts, also where it is of no use here.
    pub(super) fn came(&mut self, subject: &Subject, now: SystemTime) {
        let entry = self.subjects.get(subject).filter(|entry| entry.life.is_none());
        if let (Some(entry), Some(week)) = (entry, &mut self.week)
            && week.counts(subject.name())
        {
            week.issued(entry.owner.as_ref(), now);
        }
    }

    /// One is in use from now on. It is not ordered again at once, whatever its life says to this machine's clock.
    pub(super) fn issued(&mut self, subject: Subject, life: Life, now: SystemTime) {
        let at = life.renew_at().max(now + AGAIN);
        self.subjects.insert(subject, Entry::new(State::At(at), Some(life)));
    }

    /// An order has failed; says for how long it is left alone.
    pub(super) fn failed(&mut self, subject: &Subject, now: SystemTime) -> Duration {
        let Some(entry) = self.subjects.get_mut(subject) else { return Duration::ZERO };
        let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16)).min(LONGEST_PAUSE);
        entry.failures += 1;
        entry.asked = false;
        entry.state = State::At(now + pause);
        pause
    }

    /// How long there is nothing to do, if nothing happens.
    pub(super) fn pause(&self, now: SystemTime) -> Duration {
        let next = self.subjects.values().filter_map(|entry| match entry.state {
            State::At(at) => Some(at.duration_since(now).unwrap_or_default()),
            State::UnderWay => None,
        });
        let soonest = next.min().unwrap_or(LOOK).min(LOOK);
        // What is due and was not begun waits for its turn.
        soonest.max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests;
