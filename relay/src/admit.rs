//! Who may do what at this relay, decided offline: pure state, driven by its caller.
//!
//! Order of calls: feed it with `handle_*`, each with the time; after each call take every [`Command`] with
//! [`Admission::poll_command`] and carry it out in order; call [`Admission::handle_timeout`] when the moment of
//! [`Admission::poll_timeout`] has come. There is one owner, so that nothing happens between the check of a right and
//! the entry of what it allows.
//!
//! Promises:
//! - a connection without a valid certificate is ended after [`Policy::patience`];
//! - a right ends when its certificate does (by a timer set at admission), when it or what it descends from is
//!   revoked, when its issuer is trusted no longer, and when the relay has had no news for too long;
//! - a key with a budget spends only what was leased to this relay, and its tunnels end when there is no more;
//! - when rights end, all their routes go first, then the nodes are told, those too that have met the holder and
//!   [watch] for it, and only then the act counts as applied;
//! - a relay whose own certificate has ended, or that its coordinator has cast out, admits nothing new;
//! - without fresh news nothing new is admitted: how fresh is a claim of the certificate, measured on a clock that
//!   nobody can set back.

mod answer;
mod bucket;
mod budgets;
mod certificate;
mod find;
mod freshness;
mod hello;
mod names;
mod news;
mod settling;
mod timers;
mod tunnels;
mod watch;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{PeerId, swarm::ConnectionId};
use mytunnel_carrier::public_key;
use mytunnel_keys::{
    error::Code,
    feed::{Gates, Report},
    id::{DomainName, ProjectId, PublicKey, TunnelId, TunnelKind, TunnelName},
    revocation::RevocationSet,
    trust::Trust,
    wire::{ToNode, ToRelay},
};

use crate::{
    circuits::Pass,
    ports::Wanted,
    registry::{Ended, Place, Registration, Registry},
    renewal::OwnCertificate,
};
pub(crate) use answer::Urls;
use answer::{Refusal, goodbye};
pub(crate) use bucket::Bucket;
use budgets::Budgets;
pub(crate) use budgets::Used;
use freshness::Freshness;
use hello::Shown;
use names::Names;
use settling::Settling;
use timers::Timers;
use tunnels::Request;
use watch::Watches;

/// A moment on both clocks: one that only grows, and the wall's, as time since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) unix: Duration,
}

impl Now {
    fn seconds(&self) -> u64 {
        self.unix.as_secs()
    }
}

/// What the operator has set.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The relay's own key.
    pub(crate) id: PublicKey,
    /// Time that a connection has to show a certificate.
    pub(crate) patience: Duration,
    /// Time without news after which everything live is ended.
    pub(crate) hard_staleness: Duration,
    /// Time from the first snapshot on in which a name that it lacks may still come back.
    pub(crate) settling: Duration,
    /// The relay's own certificate at its start.
    pub(crate) certificate: OwnCertificate,
    /// Where visitors reach a name.
    pub(crate) urls: Urls,
    /// Whether names may be served whose TLS ends behind the relay.
    pub(crate) passthrough: bool,
    /// Port of the fast lane.
    pub(crate) lane_port: Option<u16>,
    /// Random bytes of this process, by which it tells usage.
    pub(crate) incarnation: [u8; 16],
}

/// How a relay is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// When the relay's own certificate ends, in Unix seconds. After that no tunnel is taken.
    pub certificate_ends: u64,
    /// Whether the coordinator has said that the relay is none of its own: no tunnel is taken.
    pub expelled: bool,
    /// Admitted connections.
    pub nodes: usize,
    /// Live tunnels.
    pub tunnels: usize,
    /// Connections that have not shown a certificate.
    pub strangers: usize,
    /// Seconds by which the coordinator's clock was ahead of this machine's at the last news; none before the first.
    pub clock_offset: Option<i64>,
}

/// What the owner of the sockets has to do, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// The peer may reserve and start circuits from here on.
    Admit { connection: ConnectionId, peer: PeerId, pass: Pass },
    /// One admission of the peer is over.
    Dismiss { peer: PeerId, pass: Pass },
    /// Visitors of the name go to this connection, once they have passed these gates.
    Route(Registration, Option<Arc<Gates>>),
    /// Open the port of a tunnel that was just routed, and say so with [`Admission::handle_port`].
    OpenPort { connection: ConnectionId, request: u32, wanted: Wanted },
    /// The nodes of the name have given it up: its port is not kept.
    ClosePort { name: TunnelName },
    /// Visitors whom this connection serves have to pass these gates from here on.
    Gate { place: Place, gates: Option<Arc<Gates>> },
    /// These stand before the name by the feed, whether a node serves it here or not.
    KnownGates { name: TunnelName, gates: Option<Arc<Gates>> },
    /// Visitors of the name go to others than this connection, while there are others.
    Spare { place: Place },
    /// Visitors of the name do not go to this connection any more; cut what is in flight.
    Unroute { place: Place },
    /// Whoever served the name has lost the right to: its visitors need not wait.
    Retire { name: TunnelName },
    /// Send these to the node.
    Send { connection: ConnectionId, message: ToNode },
    /// Send these to the node, then close the connection.
    Farewell { connection: ConnectionId, messages: Vec<ToNode> },
    /// The name exists and is this project's; its visitors may wait. It carries this, if that is known.
    Known { name: TunnelName, project: ProjectId, kind: Option<TunnelKind> },
    /// The name exists no longer.
    Forget { name: TunnelName },
    /// Visitors of the domain go where those of the name go.
    Lead { domain: DomainName, name: TunnelName },
    /// Visitors of the domain go nowhere; cut what may be theirs.
    LeadNowhere { domain: DomainName },
    /// Every name that exists is known from here on.
    Whole,
    /// Tell the coordinator.
    Report(Report),
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Admission {
    policy: Policy,
    trust: Trust,
    revoked: RevocationSet,
    names: Names,
    /// Domains that lead somewhere, by the feed.
    domains: HashSet<DomainName>,
    /// The gates of tunnels that have any, live or not.
    gates: HashMap<TunnelId, Arc<Gates>>,
    /// Era and epoch of the last news.
    reached: (u64, u64),
    settling: Settling,
    freshness: Freshness,
    strangers: HashMap<ConnectionId, Stranger>,
    registry: Registry,
    timers: Timers<ConnectionId>,
    /// The ends that tunnels have and have not reached.
    ends: Timers<TunnelId>,
    /// When to look whether the silence has become too long for anything live.
    next_hard_check: Option<Instant>,
    /// The coordinator has said that this relay is none of its own.
    expelled: bool,
    /// Bounds what strangers can have written into the audit log.
    refusals: Option<Bucket>,
    budgets: Budgets,
    watches: Watches,
    commands: VecDeque<Command>,
}

/// A connection that has not shown a certificate.
#[derive(Debug)]
struct Stranger {
    peer: PeerId,
    key: PublicKey,
}

impl Admission {
    pub(crate) fn new(policy: Policy, trust: Trust) -> Self {
        Self {
            settling: Settling::new(policy.settling),
            budgets: Budgets::new(policy.incarnation),
            policy,
            trust,
            revoked: RevocationSet::default(),
            names: Names::default(),
            domains: HashSet::new(),
            gates: HashMap::new(),
            reached: (0, 0),
            freshness: Freshness::default(),
            strangers: HashMap::new(),
            registry: Registry::default(),
            timers: Timers::default(),
            ends: Timers::default(),
            next_hard_check: None,
            expelled: false,
            refusals: None,
            watches: Watches::default(),
            commands: VecDeque::new(),
        }
    }

    /// A connection stands; its handshake has proved the key of `peer`.
    pub(crate) fn handle_connection(&mut self, connection: ConnectionId, peer: PeerId, now: Now) {
        let Some(key) = public_key(&peer) else {
            // No certificate can name such a key.
            self.command(Command::Farewell { connection, messages: Vec::new() });
            return;
        };
        self.timers.set(connection, self.policy.patience, now);
        self.strangers.insert(connection, Stranger { peer, key });
    }

    /// A connection is gone.
    pub(crate) fn handle_closed(&mut self, connection: ConnectionId, now: Now) {
        self.forget_stranger(connection);
        self.take_down(&[connection], now);
    }

    /// A node has said something.
    pub(crate) fn handle_message(&mut self, connection: ConnectionId, message: ToRelay, now: Now) {
        let admitted = self.registry.session(connection).is_some();
        match message {
            ToRelay::Hello { version, certificate, presence, clock, .. } => {
                let shown = Shown { version, certificate, presence, clock };
                if let Err(refusal) = self.hello(connection, shown, now) {
                    self.dismiss(connection, &refusal, now);
                }
            }
            ToRelay::Register { request, name, kind, instance, port, alone } if admitted => {
                let request = Request { request, name, kind, instance, port, alone };
                self.handle_register(connection, request, now);
            }
            ToRelay::Leave { tunnel } if admitted => self.handle_leave(connection, &tunnel),
            ToRelay::Unregister { tunnel } if admitted => self.handle_unregister(connection, &tunnel, now),
            ToRelay::Find { request, name } if admitted => self.handle_find(connection, request, &name, now),
            ToRelay::Watch { certificates } if admitted => self.handle_watch(connection, &certificates, now),
            ToRelay::Unwatch { serials } if admitted => self.handle_unwatch(connection, &serials),
            ToRelay::Register { .. }
            | ToRelay::Watch { .. }
            | ToRelay::Unwatch { .. }
            | ToRelay::Leave { .. }
            | ToRelay::Unregister { .. }
            | ToRelay::Find { .. } => {
                self.dismiss(connection, &Refusal::new(Code::BadRequest, "say hello first"), now);
            }
        }
    }

    /// The node has sent what is no message, or no message in time: the connection is of no use.
    pub(crate) fn handle_garbage(&mut self, connection: ConnectionId, now: Now) {
        let refusal = Refusal::new(Code::BadRequest, "this is not a message of this protocol");
        self.dismiss(connection, &refusal, now);
    }

    /// The relay stops: everybody is told.
    pub(crate) fn handle_shutdown(&mut self, now: Now) {
        let everybody: Vec<_> = self.registry.sessions().map(|(connection, _)| connection).collect();
        self.take_down(&everybody, now);
        for connection in self.strangers.keys().copied().chain(everybody).collect::<Vec<_>>() {
            let messages = vec![goodbye(Code::RelayUnreachable, "the relay is shutting down")];
            self.command(Command::Farewell { connection, messages });
        }
    }

    /// Carries out what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let mut expired = Vec::new();
        while let Some(connection) = self.timers.pop_due(now) {
            if self.forget_stranger(connection) {
                self.command(Command::Farewell { connection, messages: Vec::new() });
            } else {
                expired.push(connection);
            }
        }
        self.end_rights(&expired, Code::KeyExpired, "the key has expired", now);
        self.check_ends(now);
        self.check_hard_staleness(now);
        self.check_settled(now);
        self.check_budgets(now);
    }

    /// When [`Self::handle_timeout`] is to be called, if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let all = [
            self.timers.next(),
            self.ends.next(),
            self.next_hard_check,
            self.settling.next(),
            self.budgets.next(),
        ];
        all.into_iter().flatten().min()
    }

    /// The next thing to do.
    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When the coordinator was heard last.
    pub(crate) fn last_news(&self) -> Option<Instant> {
        self.freshness.last()
    }

    /// What there is to say about the whole.
    pub(crate) fn status(&self) -> Status {
        let (nodes, tunnels) = self.registry.counts();
        Status {
            certificate_ends: self.policy.certificate.life.until,
            expelled: self.expelled,
            nodes,
            tunnels,
            strangers: self.strangers.len(),
            clock_offset: self.freshness.offset(),
        }
    }

    /// Refuses a whole connection.
    fn dismiss(&mut self, connection: ConnectionId, refusal: &Refusal, now: Now) {
        self.report_refusal(refusal, now);
        if self.forget_stranger(connection) || !self.take_down(&[connection], now).is_empty() {
            self.command(Command::Farewell { connection, messages: vec![refusal.message(None)] });
        }
    }

    /// Ends sessions with all their tunnels: the routes first. The nodes are still to be told.
    fn take_down(&mut self, connections: &[ConnectionId], now: Now) -> Vec<Ended> {
        let ended: Vec<_> =
            connections.iter().filter_map(|connection| self.registry.end(*connection)).collect();
        for tunnel in ended.iter().flat_map(|session| &session.tunnels) {
            self.command(Command::Unroute { place: tunnel.place() });
        }
        for session in &ended {
            self.timers.cancel(session.connection);
            self.watches.end(session.connection);
            self.command(Command::Dismiss { peer: session.peer, pass: session.pass.clone() });
            for tunnel in &session.tunnels {
                self.report_down(tunnel, now);
            }
        }
        self.tell_the_rest(ended.iter().flat_map(|session| &session.tunnels));
        ended
    }

    /// `true` if it was one.
    fn forget_stranger(&mut self, connection: ConnectionId) -> bool {
        let stranger = self.strangers.remove(&connection).is_some();
        if stranger {
            self.timers.cancel(connection);
        }
        stranger
    }

    /// Tells the coordinator about a refusal: each of a known key, and of strangers so many that they cannot fill a log.
    fn report_refusal(&mut self, refusal: &Refusal, now: Now) {
        let refusals =
            self.refusals.get_or_insert_with(|| Bucket::full(100, Duration::from_millis(100), now.instant));
        if refusal.serial.is_some() || refusals.take(now.instant) {
            self.report(Report::Refused { serial: refusal.serial, code: refusal.code, at: now.seconds() });
        }
    }

    fn report(&mut self, report: Report) {
        self.command(Command::Report(report));
    }

    fn command(&mut self, command: Command) {
        self.budgets.follow(&command);
        self.commands.push_back(command);
    }
}

#[cfg(test)]
mod tests;
