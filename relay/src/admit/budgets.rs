//! What keys may spend at this relay: who waits for a lease, and whose tunnels end because there is none.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    certificate::Claims,
    error::Code,
    feed::{Change, Report},
    id::Serial,
    usage::{Meter, Month, PriceList, Standing, Tell, Told, Usage},
};

use super::{Admission, Command, Now, answer::Refusal, tunnels::Request};
use crate::{
    circuits::Pass,
    registry::{Place, Session},
    traffic::Fill,
};

/// Time that a registration waits for a lease.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time that a tunnel stays up though nothing may go through: there may be a lease to come. With the time between two
/// looks it is less than the five seconds in which it has to end.
const GRACE: Duration = Duration::from_secs(3);

/// Registrations that may wait.
const MAX_WAITING: usize = 4096;

pub(super) const FROZEN: &str = "the key, or the one that minted it, is frozen: its budget is 0";
const SPENT: &str = "the month's budget of the key, or of the one that minted it, is spent";
const UNHEARD: &str = "the key has a budget, and the coordinator cannot be asked how much of it is left";

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) meter: Meter,
    waiting: VecDeque<Waiting>,
    /// Since when nothing may be spent on a key.
    dry: HashMap<Serial, Instant>,
    /// Whom a live tunnel is charged to.
    charged: HashMap<Place, (Serial, Option<Serial>)>,
    /// Admitted connections of peers that may have circuits.
    circuits: usize,
}

/// A registration that waits for a lease.
#[derive(Debug)]
struct Waiting {
    connection: ConnectionId,
    request: Request,
    until: Instant,
}

/// Whether a tunnel may be registered by its key's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    There,
    /// It was asked for.
    Awaited,
}

/// What a tunnel has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) serial: Serial,
    pub(crate) parent: Option<Serial>,
    pub(crate) usage: Usage,
}

impl Budgets {
    pub(super) fn new(incarnation: [u8; 16]) -> Self {
        Self {
            meter: Meter::new(incarnation),
            waiting: VecDeque::new(),
            dry: HashMap::new(),
            charged: HashMap::new(),
            circuits: 0,
        }
    }

    /// A tunnel is up, or up no longer, by what is commanded; a peer may have circuits, or no longer. For these a lease is
    /// there beforehand, as nobody can wait for it.
    pub(super) fn follow(&mut self, command: &Command) {
        let (place, charged) = match command {
            Command::Route(new, _) => (new.place(), Some((new.serial, new.parent))),
            Command::Unroute { place } => (place.clone(), None),
            Command::Admit { pass, .. } => {
                if pass.circuits {
                    self.circuits += 1;
                    self.meter.open(pass.serial, pass.parent);
                }
                return;
            }
            Command::Dismiss { pass, .. } => {
                if pass.circuits {
                    self.circuits = self.circuits.saturating_sub(1);
                    self.meter.close(pass.serial, pass.parent);
                }
                return;
            }
            Command::Gate { .. }
            | Command::KnownGates { .. }
            | Command::OpenPort { .. }
            | Command::ClosePort { .. }
            | Command::Spare { .. }
            | Command::Retire { .. }
            | Command::Send { .. }
            | Command::Farewell { .. }
            | Command::Known { .. }
            | Command::Forget { .. }
            | Command::Lead { .. }
            | Command::LeadNowhere { .. }
            | Command::Whole
            | Command::Report(_) => return,
        };
        if let Some((serial, parent)) = charged {
            self.meter.open(serial, parent);
        }
        let before = match charged {
            Some(charged) => self.charged.insert(place, charged),
            None => self.charged.remove(&place),
        };
        if let Some((serial, parent)) = before {
            self.meter.close(serial, parent);
        }
    }

    /// The snapshot's word on every budget.
    pub(super) fn replace(&mut self, changes: &[Change]) {
        let standing = |change: &Change| match change {
            Change::Budget { serial, standing } => Some((*serial, *standing)),
            Change::RevokeTree { .. }
            | Change::Revoke { .. }
            | Change::RevokeProject { .. }
            | Change::RevokeBefore { .. }
            | Change::Name { .. }
            | Change::NameFreed { .. }
            | Change::NameKept { .. }
            | Change::Trust { .. }
            | Change::Gates { .. }
            | Change::Domain { .. }
            | Change::DomainGone { .. }
            | Change::Close { .. } => None,
        };
        self.meter.replace_standings(changes.iter().filter_map(standing));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    fn is_awaited(&self, now: Now, keys: &[Serial]) -> bool {
        let left = |key: &Serial| self.meter.left(key, now.instant);
        keys.iter().any(|key| left(key) == Some(0) && self.meter.is_asking(key))
    }
}

/// The keys that pay for what a key uses.
fn payers(claims: &Claims) -> Vec<Serial> {
    [Some(claims.serial), claims.parent].into_iter().flatten().collect()
}

impl Admission {
    /// A frozen key may do nothing at all.
    pub(super) fn is_frozen(&self, claims: &Claims) -> Result<(), Refusal> {
        if self.are_frozen(payers(claims)) { Err(Refusal::new(Code::BudgetExceeded, FROZEN)) } else { Ok(()) }
    }

    /// Whether any of these keys is frozen.
    pub(super) fn are_frozen(&self, keys: impl IntoIterator<Item = Serial>) -> bool {
        keys.into_iter().any(|key| self.budgets.meter.standing(&key) == Standing::Frozen)
    }

    /// Nobody comes in with a key of which the coordinator has said just now that its budget is spent. Of one that was
    /// not asked about for a while the lease decides, which is asked for.
    pub(super) fn is_spent(&self, claims: &Claims, now: Now) -> Result<(), Refusal> {
        let spent = payers(claims).iter().any(|key| self.budgets.meter.was_refused(key, now.instant));
        if spent { Err(Refusal::new(Code::BudgetExceeded, SPENT)) } else { Ok(()) }
    }

    /// Tells of everybody who is here: the coordinator begins anew.
    pub(super) fn report_present(&mut self, now: Now) {
        let present: Vec<_> =
            self.registry.sessions().map(|(_, session)| session.presence.to_vec()).collect();
        for presence in present {
            self.report(Report::Present { presence, at: now.seconds() });
        }
    }

    /// Whether a key may spend at all. A lease that is not there is asked for.
    pub(super) fn means(&mut self, connection: ConnectionId, now: Now) -> Result<Means, Refusal> {
        let Some(session) = self.registry.session(connection) else {
            return Err(Refusal::new(Code::BadRequest, "say hello first"));
        };
        let (serial, budgeted, keys) =
            (session.claims.serial, session.claims.budget.is_some(), payers(&session.claims));
        let meter = &mut self.budgets.meter;
        if meter.is_full() {
            return Err(Refusal::new(
                Code::RateLimited,
                "this relay has too much usage to tell its coordinator",
            ));
        }
        if budgeted {
            meter.claim(serial);
        }
        let mut means = Means::There;
        for key in keys {
            if meter.left(&key, now.instant) == Some(0) {
                meter.ask(key);
                means = Means::Awaited;
            }
        }
        Ok(means)
    }

    /// Lets a registration wait for the lease that was asked for.
    pub(super) fn await_means(
        &mut self,
        connection: ConnectionId,
        request: Request,
        now: Now,
    ) -> Result<(), Refusal> {
        if self.budgets.waiting.len() >= MAX_WAITING {
            return Err(Refusal::new(
                Code::RateLimited,
                "too many registrations wait for a lease of their budgets",
            ));
        }
        let until = now.instant + PATIENCE;
        self.budgets.waiting.push_back(Waiting { connection, request, until });
        Ok(())
    }

    /// Tunnels have used something since the last call.
    pub(crate) fn handle_usage(&mut self, used: &[Used], now: Now) {
        let month = Month::of(now.seconds());
        for Used { serial, parent, usage } in used {
            self.budgets.meter.count(*serial, *parent, month, *usage);
        }
        self.check_budgets(now);
    }

    /// What is to be told to the coordinator; the answer comes by [`handle_told`](Self::handle_told).
    pub(crate) fn poll_tell(&mut self, now: Now) -> Option<Tell> {
        self.budgets.meter.next(now.instant)
    }

    /// Whether there is something to ask that does not wait for the next look.
    pub(crate) fn is_urgent(&self, now: Now) -> bool {
        self.budgets.meter.is_halfway() || self.budgets.meter.is_urgent(now.instant)
    }

    /// The coordinator has answered; none if it did not, and will be told again.
    pub(crate) fn handle_told(&mut self, told: Option<&Told>, now: Now) {
        match told {
            Some(told) => self.budgets.meter.told(told),
            None => self.budgets.meter.failed(),
        }
        self.admit_waiting(now);
        self.check_budgets(now);
    }

    /// The relay stops: leases are given back with what is told last.
    pub(crate) fn give_leases_back(&mut self) {
        self.budgets.meter.give_back();
    }

    /// How much may be spent on a key.
    pub(crate) fn fill(&self, key: &Serial, now: Now) -> Fill {
        match self.budgets.meter.left(key, now.instant) {
            None => Fill::Free,
            Some(0) if self.budgets.meter.is_spent(key, now.instant) => Fill::Shut,
            Some(left) => Fill::Left(left),
        }
    }

    /// What things cost.
    pub(crate) fn prices(&self) -> PriceList {
        self.budgets.meter.prices()
    }

    /// Registers who has waited for a lease that is there, and refuses whom none was granted.
    fn admit_waiting(&mut self, now: Now) {
        for waiting in std::mem::take(&mut self.budgets.waiting) {
            let Some(session) = self.registry.session(waiting.connection) else { continue };
            let keys = payers(&session.claims);
            let left = |key: &Serial| self.budgets.meter.left(key, now.instant);
            let (connection, number) = (waiting.connection, waiting.request.request);
            if keys.iter().all(|key| left(key) != Some(0)) {
                self.handle_request(connection, waiting.request, now);
            } else if !self.budgets.is_awaited(now, &keys) {
                self.refuse_registration(connection, number, Refusal::new(Code::BudgetExceeded, SPENT), now);
            } else if waiting.until <= now.instant {
                self.refuse_registration(
                    connection,
                    number,
                    Refusal::new(Code::BudgetExceeded, UNHEARD),
                    now,
                );
            } else {
                self.budgets.waiting.push_back(waiting);
            }
        }
    }

    /// Ends what has been without means for longer than the grace.
    pub(super) fn check_budgets(&mut self, now: Now) {
        if self.budgets.next().is_some_and(|until| until <= now.instant) {
            self.admit_waiting(now);
        }
        let mut over = Vec::new();
        let Budgets { meter, dry, charged, circuits, .. } = &mut self.budgets;
        if charged.is_empty() && *circuits == 0 {
            dry.clear();
            return;
        }
        let empty: Vec<_> = meter.limited().filter(|key| meter.left(key, now.instant) == Some(0)).collect();
        dry.retain(|key, _| empty.contains(key));
        for key in empty {
            let since = *dry.entry(key).or_insert(now.instant);
            if now.instant.saturating_duration_since(since) >= GRACE {
                over.push(key);
            }
        }
        for key in over {
            self.budgets.dry.remove(&key);
            let sessions = [self.registry.of_serial(&key), self.registry.of_parent(&key)].concat();
            let serving: Vec<_> =
                sessions.into_iter().filter(|connection| self.may_use(*connection)).collect();
            self.end_rights(&serving, Code::BudgetExceeded, SPENT, now);
        }
    }
    /// Whether something of this connection may be charged: it serves, or may have circuits.
    fn may_use(&self, connection: ConnectionId) -> bool {
        let circuits = |session: &Session| Pass::of(&session.claims).circuits;
        !self.registry.is_idle(connection) || self.registry.session(connection).is_some_and(circuits)
    }
}
