//! News from the coordinator: who has lost rights, whose a name is, whom to trust, and that there is nothing new.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    certificate,
    error::Code,
    feed::{Accepted, Change, Gates, Position, Report},
    id::{TunnelId, TunnelKind, TunnelName},
    revocation::RevocationSet,
    trust::Trust,
    usage::Standing,
};

use super::{
    Admission, Command, Now,
    answer::{closed, goodbye},
    budgets::FROZEN,
    watch::Concerned,
};
use crate::registry::{Place, Registration};

/// What a node is told whose tunnel has come to its end.
const OVER: &str = "the time that this tunnel was given is over";

pub(super) const REVOKED: &str = "the key, its parent or its project was revoked";

impl Admission {
    /// A frame of the feed was accepted.
    pub(crate) fn handle_news(&mut self, news: Accepted, now: Now) {
        match news {
            Accepted::Snapshot { position, changes, offset } => {
                self.freshness.renew(now);
                self.freshness.set_offset(offset);
                self.expelled = false;
                self.replace_state(position, &changes, now);
                self.settling.begin(now);
                self.check_settled(now);
            }
            Accepted::Delta { position, changes } => {
                self.freshness.renew(now);
                self.reached = (position.era, position.epoch);
                let closed = self.apply(&changes, now);
                self.report(Report::Applied { epoch: position.epoch, closed });
                self.revoked.prune(now.seconds());
            }
            Accepted::Heartbeat { offset, .. } => {
                self.freshness.renew(now);
                self.freshness.set_offset(offset);
            }
            // What it has brought comes by `handle_trust`.
            Accepted::Trust { .. } => return,
            _ => tracing::warn!("news of an unknown kind"),
        }
        self.schedule_hard_check();
    }

    /// The feed was refused because the clocks are this far apart.
    pub(crate) fn handle_clock_offset(&mut self, offset: i64) {
        self.freshness.set_offset(offset);
    }

    /// Other keys are trusted from here on. Sessions whose issuer is not among them end.
    pub(crate) fn handle_trust(&mut self, trust: Trust, now: Now) {
        self.trust = trust;
        let mut by_code: HashMap<Code, Vec<ConnectionId>> = HashMap::new();
        for (connection, session) in self.registry.sessions() {
            let holder = &session.claims.subject;
            if let Err(error) = certificate::verify(&session.certificate, &self.trust, holder, now.seconds())
            {
                by_code.entry(error.code()).or_default().push(connection);
            }
        }
        for (code, connections) in by_code {
            self.end_rights(&connections, code, "the certificate is trusted no longer", now);
        }
    }

    /// Ends what has been without news for longer than anybody allows.
    pub(super) fn check_hard_staleness(&mut self, now: Now) {
        if self.next_hard_check.is_none_or(|at| at > now.instant) {
            return;
        }
        self.next_hard_check = None;
        let Some(last) = self.freshness.last() else { return };
        let hard = self.policy.hard_staleness;
        let mut ended = Vec::new();
        for (connection, session) in self.registry.sessions() {
            let end = last + hard.max(Duration::from_secs(session.claims.max_staleness.into()));
            if end <= now.instant {
                ended.push(connection);
            } else {
                self.next_hard_check = Some(self.next_hard_check.map_or(end, |next| next.min(end)));
            }
        }
        self.end_rights(&ended, Code::RelayStale, "this relay has lost its coordinator for too long", now);
    }

    /// Says so once, when every name that exists is known.
    pub(super) fn check_settled(&mut self, now: Now) {
        if self.settling.is_due(now) {
            self.command(Command::Whole);
        }
    }

    /// Sets the next look at the silence, which is not later than the first moment at which something may end by it.
    pub(super) fn schedule_hard_check(&mut self) {
        self.next_hard_check = self.freshness.last().map(|last| last + self.policy.hard_staleness);
    }

    /// Takes a whole state in place of what was known.
    fn replace_state(&mut self, position: Position, changes: &[Change], now: Now) {
        self.revoked = RevocationSet::default();
        self.reached = (position.era, position.epoch);
        let names: Vec<_> = std::mem::take(&mut self.names).into_all().collect();
        let gated: HashSet<_> = std::mem::take(&mut self.gates).into_keys().collect();
        let domains = std::mem::take(&mut self.domains);
        self.budgets.replace(changes);
        let mut closed = self.apply(changes, now);
        let freed = names.into_iter().filter(|name| !self.names.contains(name));
        let opened = gated.into_iter().filter(|tunnel| !self.gates.contains_key(tunnel));
        let dropped = domains.into_iter().filter(|domain| !self.domains.contains(domain));
        let gone: Vec<_> = freed
            .map(|name| Change::NameFreed { name })
            .chain(opened.map(|tunnel| Change::Gates { tunnel, gates: Gates::default() }))
            .chain(dropped.map(|domain| Change::DomainGone { domain }))
            .collect();
        closed += self.apply(&gone, now);
        self.report_present(now);
        let live: Vec<_> = self.registry.tunnels().cloned().collect();
        for tunnel in live {
            self.report_up(&tunnel, now);
        }
        self.report(Report::Applied { epoch: position.epoch, closed });
    }

    /// Applies changes in their order; answers with the number of tunnels that ended.
    fn apply(&mut self, changes: &[Change], now: Now) -> u32 {
        let mut sessions = Vec::new();
        let mut frozen = Vec::new();
        let mut ended = Vec::new();
        let mut gated = HashSet::new();
        let mut closes = HashMap::new();
        let mut concerned = Concerned::default();
        for change in changes {
            self.revoked.apply(change);
            match change {
                Change::RevokeTree { serial, .. } => {
                    sessions.extend(self.registry.of_serial(serial));
                    sessions.extend(self.registry.of_parent(serial));
                    concerned.key(*serial);
                }
                Change::Revoke { serial, .. } => {
                    sessions.extend(self.registry.of_serial(serial));
                    concerned.key(*serial);
                }
                Change::RevokeBefore { .. } => {
                    concerned.all();
                    let revoked = self.registry.sessions();
                    let revoked =
                        revoked.filter(|(_, session)| self.revoked.is_revoked(&session.claims).is_some());
                    sessions.extend(revoked.map(|(connection, _)| connection));
                }
                Change::RevokeProject { project, .. } => {
                    concerned.project(project.clone());
                    sessions.extend(self.registry.of_project(project));
                    ended.extend(
                        self.registry
                            .of_project_by_others(project)
                            .map(|live| (live.place(), Code::KeyRevoked, REVOKED)),
                    );
                }
                Change::Name { name, project, kind } => {
                    let tunnel = self.names.set(self.trust.cluster(), name, project);
                    let (owner, kind) = (project.clone(), *kind);
                    if kind != Some(TunnelKind::Private) && !self.is_private(name) {
                        self.command(Command::Known { name: name.clone(), project: owner, kind });
                    }
                    self.tell_gates(&tunnel);
                    let others = self.registry.members(name).iter().filter(|live| live.project != *project);
                    let reason = "the name belongs to another project";
                    ended.extend(others.map(|live| (live.place(), Code::NameTaken, reason)));
                }
                Change::NameFreed { name } => {
                    self.names.free(name);
                    ended.extend(self.forget(name));
                }
                Change::NameKept { name, tenant } => {
                    self.names.keep(name, tenant);
                    ended.extend(self.forget(name));
                }
                Change::Trust { .. } => {}
                Change::Gates { tunnel, gates } => {
                    self.set_gates(*tunnel, gates, now);
                    gated.insert(*tunnel);
                }
                Change::Domain { domain, name } => {
                    self.domains.insert(domain.clone());
                    self.command(Command::Lead { domain: domain.clone(), name: name.clone() });
                }
                Change::DomainGone { domain } => {
                    self.domains.remove(domain);
                    self.command(Command::LeadNowhere { domain: domain.clone() });
                }
                Change::Close { tunnel, epoch } => drop(closes.insert(*tunnel, *epoch)),
                Change::Budget { serial, standing } => {
                    self.budgets.meter.set_standing(*serial, *standing);
                    if *standing == Standing::Frozen {
                        frozen.extend(self.registry.of_serial(serial));
                        frozen.extend(self.registry.of_parent(serial));
                        concerned.key(*serial);
                    }
                }
            }
        }
        self.gate_live(&gated);
        self.check_ends(now);
        for place in self.registered_before(&closes) {
            ended.push((place, Code::NotFound, "the tunnel was closed by its owner"));
        }
        let count = self.end_rights(&sessions, Code::KeyRevoked, REVOKED, now)
            + self.end_rights(&frozen, Code::BudgetExceeded, FROZEN, now)
            + self.close_tunnels(&ended, now);
        self.tell_watchers(&concerned);
        count
    }

    /// A name is nobody's any more; answers who serves it still.
    fn forget(&mut self, name: &TunnelName) -> Vec<(Place, Code, &'static str)> {
        self.command(Command::Forget { name: name.clone() });
        let live = self.registry.members(name).iter();
        live.map(|live| (live.place(), Code::NotFound, "the tunnel was deleted")).collect()
    }

    fn set_gates(&mut self, tunnel: TunnelId, gates: &Gates, now: Now) {
        match gates.ends_at {
            // Of one that is over there is nothing to wait for; a moment later it is found to be.
            Some(at) => self.ends.set(tunnel, Duration::from_secs(at).saturating_sub(now.unix), now),
            None => self.ends.cancel(tunnel),
        }
        if gates.is_open() {
            self.gates.remove(&tunnel);
        } else {
            self.gates.insert(tunnel, Arc::new(gates.clone()));
        }
        self.tell_gates(&tunnel);
    }

    /// Says which gates stand before a tunnel whose name is known.
    fn tell_gates(&mut self, tunnel: &TunnelId) {
        if let Some(name) = self.names.of(tunnel).cloned() {
            self.command(Command::KnownGates { name, gates: self.gates.get(tunnel).cloned() });
        }
    }

    /// Ends the tunnels that have come to their end.
    pub(super) fn check_ends(&mut self, now: Now) {
        let mut over = HashSet::new();
        while let Some(tunnel) = self.ends.pop_due(now) {
            over.insert(tunnel);
        }
        if over.is_empty() {
            return;
        }
        let live: Vec<_> = self.registry.tunnels().filter(|live| over.contains(&live.id)).cloned().collect();
        for live in &live {
            over.remove(&live.id);
        }
        let ended: Vec<_> = live.iter().map(|live| (live.place(), Code::NotFound, OVER)).collect();
        self.close_tunnels(&ended, now);
        self.retire_away(&over);
    }

    /// Nobody need wait for the nodes of these, which are away and will not be let back.
    fn retire_away(&mut self, over: &HashSet<TunnelId>) {
        let names: Vec<_> = over.iter().filter_map(|tunnel| self.names.of(tunnel)).cloned().collect();
        for name in names {
            self.retire(&name, Code::NotFound);
        }
    }

    /// Whether a tunnel had an end and has come to it.
    pub(super) fn is_over(&self, tunnel: &TunnelId) -> bool {
        let has_end = self.gates.get(tunnel).is_some_and(|gates| gates.ends_at.is_some());
        // Not by the clock on the wall, which may be set back.
        has_end && !self.ends.is_set(tunnel)
    }

    /// Puts the gates of these tunnels before those that are live.
    fn gate_live(&mut self, tunnels: &HashSet<TunnelId>) {
        if tunnels.is_empty() {
            return;
        }
        let live = self.registry.tunnels().filter(|live| tunnels.contains(&live.id));
        let gates = |live: &Registration| self.gates.get(&live.id).cloned();
        let commands: Vec<_> =
            live.map(|live| Command::Gate { place: live.place(), gates: gates(live) }).collect();
        self.commands.extend(commands);
    }

    /// Live tunnels that were registered without knowledge of the epoch in which they were closed.
    fn registered_before(&self, closed: &HashMap<TunnelId, u64>) -> Vec<Place> {
        if closed.is_empty() {
            return Vec::new();
        }
        let (era, _) = self.reached;
        let before =
            |live: &&Registration| closed.get(&live.id).is_some_and(|epoch| live.since < (era, *epoch));
        self.registry.tunnels().filter(before).map(Registration::place).collect()
    }

    /// Ends sessions: all their routes first, then the nodes are told. Answers with the number of tunnels that ended.
    pub(super) fn end_rights(
        &mut self,
        connections: &[ConnectionId],
        code: Code,
        reason: &str,
        now: Now,
    ) -> u32 {
        let mut count = 0;
        let ended = self.take_down(connections, now);
        for tunnel in ended.iter().flat_map(|session| &session.tunnels) {
            self.retire(&tunnel.name, code);
        }
        for session in ended {
            let mut messages: Vec<_> =
                session.tunnels.iter().map(|tunnel| closed(tunnel.id, code, reason)).collect();
            count += count_of(&messages);
            messages.push(goodbye(code, reason));
            self.command(Command::Farewell { connection: session.connection, messages });
        }
        count
    }

    /// Ends single tunnels of sessions that go on, in the same order. Those that are over already are passed over.
    fn close_tunnels(&mut self, places: &[(Place, Code, &str)], now: Now) -> u32 {
        let (mut messages, mut ended) = (Vec::new(), Vec::new());
        for ((name, connection), code, reason) in places {
            if let Some(gone) = self.registry.remove(name, *connection) {
                self.command(Command::Unroute { place: gone.place() });
                self.retire(name, *code);
                self.report_down(&gone, now);
                messages.push((gone.connection, closed(gone.id, *code, reason)));
                ended.push(gone);
            }
        }
        self.tell_the_rest(&ended);
        let count = count_of(&messages);
        for (connection, message) in messages {
            self.command(Command::Send { connection, message });
        }
        count
    }

    /// A tunnel that ended for its own sake will not be back; one that ended for the relay's sake may. Nor is a name over
    /// that others serve.
    fn retire(&mut self, name: &TunnelName, code: Code) {
        if !self.registry.members(name).is_empty() {
            return;
        }
        if matches!(code, Code::KeyRevoked | Code::KeyExpired | Code::NotFound | Code::BudgetExceeded) {
            self.command(Command::Retire { name: name.clone() });
        }
    }
}

fn count_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
