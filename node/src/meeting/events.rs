//! What happens to private sessions, passed to who it concerns, and what is to be done then.

use std::sync::Arc;

use libp2p::swarm::ConnectionId;
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::{
    id::{Serial, TunnelName},
    trust::Trust,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Connection, Grounds, Line, Meeting,
    accesses::{Act, Happened},
    hosting::Heard,
    line::{Connected, LineId, Order, Report},
};
use crate::{
    access::Access,
    carrier::Carrier,
    clock::{jitter, unix_now},
    direct::Side,
    driver::Introduction,
    peers::rights::Own,
    ping::{self, Finding},
    serve::table::Service,
    share::ShareError,
    state::{link::Refusal, verdict},
    tasks::Mailbox,
};

/// Accesses at once.
const MOST_ACCESSES: usize = 64;

impl Meeting {
    pub(super) fn access(&mut self, name: TunnelName, reply: oneshot::Sender<Result<Access, ShareError>>) {
        let access = if let Some(refusal) = &self.refused {
            Err(ShareError::Refused(refusal.clone().into()))
        } else if self.accesses.len() >= MOST_ACCESSES {
            Err(ShareError::TooMany(MOST_ACCESSES))
        } else {
            Ok(self.accesses.add(name, Instant::now().into_std()))
        };
        // Whoever asked may have left; dropping the handle then gives the access up.
        drop(reply.send(access));
    }

    pub(super) fn on_report(&mut self, line: LineId, report: Report) {
        let (now, jitter) = (Instant::now().into_std(), jitter());
        match report {
            Report::Online(relay) => {
                self.met.on_online(line);
                self.accesses.on_online(line, relay, now, jitter);
                for connection in self.hosting.relayed_through(line) {
                    self.close(connection);
                }
            }
            Report::Offline { attempt, reason } => {
                self.met.on_offline(line);
                self.accesses.on_offline(line, attempt, &reason, now);
            }
            Report::Refused(refusal) => self.on_refused(line, refusal, now),
            Report::Trust(trust) => self.on_trust(*trust),
            Report::Shared(name, service) => {
                self.lines.get_mut(line).and_then(|line| line.shared.insert(name, service));
            }
            Report::Unshared(name) => {
                self.lines.get_mut(line).and_then(|line| line.shared.remove(&name));
            }
            Report::Found { request, found } => self.accesses.on_found(request, found, now, jitter),
            Report::Revoked(serials, refusal) => {
                for serial in serials {
                    self.on_revoked(line, serial, &refusal, now);
                }
            }
            Report::Unwatched(serials) => self.met.on_unwatched(line, &serials, now),
            Report::Connected(connected) => self.on_connected(line, &connected),
            Report::DialFailed { connection, reason } => {
                self.accesses.on_dial_failed((line, connection), &reason, now, jitter);
            }
            Report::Closed(connection) => {
                self.connections.remove(&connection);
                self.hosting.on_closed(connection);
                self.accesses.on_closed(connection, now, jitter);
            }
            Report::Why { connection, why } => {
                self.hosting.on_why(connection, why);
                self.accesses.on_why(connection, why);
            }
            Report::Stream { connection, subject, stream } => {
                self.hosting.on_stream(connection, subject, stream);
            }
        }
    }

    /// What one relay holds against this node need not be what another does, unless it is about the key.
    fn on_refused(&mut self, line: LineId, refusal: Refusal, now: std::time::Instant) {
        self.accesses.on_refused(line, now);
        if verdict::is_of_key(refusal.code) || self.accesses.is_refused() {
            self.accesses.end_all(&refusal);
            self.refused = Some(refusal);
        }
    }

    fn on_connected(&mut self, line: LineId, connected: &Connected) {
        let now = Instant::now().into_std();
        self.connections.insert(connected.connection, Connection { line, is_pinged: false });
        if self.accesses.on_connected(line, connected, now) {
            return;
        }
        // A direct connection serves both ends' purposes; whoever is not known to either has to come through a relay.
        let is_reached =
            !connected.is_relayed && self.accesses.on_direct(line, connected, &self.introduction.certificate);
        let shares = self.lines.iter().any(|line| !line.shared.is_empty());
        let is_guest = connected.may_be_guests(shares, self.hosting.knows(connected.peer))
            && self.hosting.on_connected(line, connected, now);
        if !is_reached && !is_guest {
            self.close(connected.connection);
        }
    }

    /// The newest bundle counts for all lines.
    fn on_trust(&mut self, trust: Trust) {
        let version = |trust: &Trust| trust.bundle().version;
        if self.trust.as_ref().is_some_and(|held| version(held) >= version(&trust)) {
            return;
        }
        let (now, unix) = (Instant::now().into_std(), unix_now());
        self.accesses.judge_again(&trust, unix, (now, jitter()));
        let parted = self.hosting.judge_again(&trust, unix);
        self.trust = Some(trust);
        self.part(parted);
    }

    /// A relay says that a certificate counts no longer. It is believed about those that it was asked to watch; whom it wrongs may
    /// show the certificate again.
    fn on_revoked(&mut self, line: LineId, serial: Serial, refusal: &Refusal, now: std::time::Instant) {
        let Some(peer) = self.met.on_revoked(line, serial) else { return };
        tracing::info!(%peer, %serial, message = refusal.message, "another node's key counts no longer");
        self.accesses.on_revoked(serial, refusal, (now, jitter()));
        let parted = self.hosting.on_revoked(peer, serial);
        self.part(parted);
    }

    /// Has the relays watch whom we have met.
    pub(super) fn watch(&mut self) {
        let shown = self.hosting.certificates().chain(self.accesses.certificates()).collect();
        self.orders.extend(self.met.turn_to(&shown, Instant::now().into_std()));
    }

    pub(super) fn on_finding(&mut self, connection: ConnectionId, finding: Finding) {
        let now = Instant::now().into_std();
        match finding {
            Finding::Alive(trip) => {
                self.hosting.on_alive(connection, trip);
                self.accesses.on_alive(connection, trip, now);
            }
            // What is left of the connection is of no use.
            Finding::Silent => {
                let is_dead = self.accesses.is_silent(connection, now);
                if self.hosting.is_silent(connection) || is_dead {
                    self.close(connection);
                }
            }
        }
    }

    /// A guest has said something for the first time on a stream.
    pub(super) fn on_heard(&mut self, heard: Heard) {
        let lines = &self.lines;
        let find = |line: LineId, name: &TunnelName| shared(lines, line, name);
        match heard {
            Heard::Hello(connection, hello, stream) => {
                let grounds = grounds(&self.own, &self.introduction, self.trust.as_ref());
                let is_new = self.hosting.on_hello(connection, (hello, stream), &grounds, find);
                if is_new && let Some(opener) = self.hosting.opener(connection) {
                    if let Some(line) = self.hosting.relayed_by(connection) {
                        self.orders.push_back((line, Order::Seek(opener.clone(), Side::Shares)));
                    }
                    self.ping(connection, opener);
                }
            }
            Heard::Leg(connection, opening, stream) => {
                let now = Instant::now().into_std();
                self.hosting.on_opening(connection, (opening, stream), find, now);
            }
            Heard::Nothing(connection) => tracing::debug!(%connection, "a stream without a word"),
        }
    }

    pub(super) fn on_happened(&mut self, happened: Happened) {
        match happened {
            Happened::Greeted(greeted) => {
                let grounds = grounds(&self.own, &self.introduction, self.trust.as_ref());
                self.accesses.on_greeted(greeted, &grounds, Instant::now().into_std(), jitter());
            }
            Happened::Dropped(id) => {
                for connection in self.accesses.remove(id) {
                    // A direct one may be a guest's as well.
                    if !self.hosting.has(connection) {
                        self.close(connection);
                    }
                }
            }
        }
    }

    pub(super) fn tick(&mut self) {
        let (now, unix) = (Instant::now().into_std(), unix_now());
        self.accesses.tick(now, unix, jitter());
        let overdue = self.hosting.overdue(now, unix, self.accesses.is_online());
        self.part(overdue);
    }

    /// Carries out what the accesses want.
    pub(super) fn obey(&mut self) {
        let introduction = Arc::clone(&self.introduction);
        let now = Instant::now().into_std();
        while let Some(act) = self.accesses.next_act(&introduction.certificate, now, jitter()) {
            match act {
                Act::Order(line, order) => self.orders.push_back((line, order)),
                Act::Close(connection) => self.close(connection),
                Act::Part(connection) => {
                    if !self.hosting.has(connection) {
                        self.close(connection);
                    }
                }
                Act::Ping(connection, opener) => self.ping(connection, opener),
            }
        }
    }

    /// Guests that are none any more. What is reached over their connections stays in reach.
    fn part(&mut self, guests: Vec<ConnectionId>) {
        for connection in guests {
            if !self.accesses.holds(connection) {
                self.close(connection);
            }
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        if let Some(held) = self.connections.get(&connection) {
            self.orders.push_back((held.line, Order::Close(connection)));
        }
    }

    /// Asks again and again whether the other end is there, which either of a connection's purposes may want.
    fn ping(&mut self, connection: ConnectionId, opener: Opener) {
        let Some(held) = self.connections.get_mut(&connection) else { return };
        if std::mem::replace(&mut held.is_pinged, true) {
            return;
        }
        let mailbox = Mailbox { connection, owner: self.mailbox.clone() };
        self.pings.spawn(async move {
            // Ends with the connection, or with us.
            let _ = ping::run(&opener, Carrier::Tcp, &mailbox).await;
        });
    }
}

/// What is shared under a name: through this line, or else through another one.
fn shared(lines: &[Line], line: LineId, name: &TunnelName) -> Option<Arc<Service>> {
    let of_line = lines.get(line).and_then(|line| line.shared.get(name));
    of_line.or_else(|| lines.iter().find_map(|line| line.shared.get(name))).map(Arc::clone)
}

fn grounds<'a>(own: &'a Own, introduction: &'a Introduction, trust: Option<&'a Trust>) -> Grounds<'a> {
    Grounds { own, certificate: &introduction.certificate, trust, unix: unix_now() }
}
