//! What the state has decided, carried out.

use std::sync::Arc;

use libp2p::swarm::ConnectionId;
use mytunnel_keys::wire::ToRelay;
use tokio::{sync::mpsc, time::Instant};
use tracing::{Instrument as _, debug_span};

use super::{Driver, OUTGOING, session::Session};
use crate::{
    lanes,
    meeting::line::Report,
    state::{
        link,
        tunnels::{self, ShareId},
    },
    tasks::Mailbox,
};

impl Driver {
    /// Carries out what the state has decided.
    pub(super) fn obey(&mut self) {
        while let Some(command) = self.link.next_command() {
            match command {
                link::Command::Dial { relay, carrier } => self.dialing.begin(relay, carrier),
                link::Command::Greet(connection) => self.greet(connection),
                link::Command::Close(connection) => drop(self.swarm.close_connection(connection)),
                link::Command::Online(connection) => {
                    tracing::info!(%connection, "relay session stands");
                    self.tunnels.on_online(Instant::now().into_std());
                    if self.look_at_nat {
                        self.finder.look(Instant::now().into_std());
                    }
                    if let Some((_, relay)) = self.relay_address() {
                        self.line.tell(Report::Online(relay));
                    }
                }
                link::Command::Offline { attempt, reason } => self.offline(attempt, &reason),
                link::Command::GiveUp(refusal) => {
                    self.tunnels.end_all(&refusal);
                    self.line.tell(Report::Refused(refusal.clone()));
                    self.refused = Some(refusal);
                }
            }
        }
        while let Some(command) = self.tunnels.next_command() {
            match command {
                tunnels::Command::Send(message) => self.send(message),
                tunnels::Command::Ready(id, grant) => {
                    // Granted on the current connection, or not at all.
                    let current = self.link.current().and_then(|current| self.connections.get(&current));
                    if let Some(current) = current {
                        self.shares.ready(id, grant, &current.way);
                        if let Some(way) = current.lanes.clone() {
                            self.keep_lanes(id, way);
                        }
                    }
                }
                tunnels::Command::Waiting { share, attempt, reason } => {
                    self.shares.offline(share, attempt.max(2), &reason);
                }
                tunnels::Command::Backends { share, count } => self.shares.backends(share, count),
                tunnels::Command::Expiring { share, expires_at } => self.shares.expiring(share, expires_at),
                tunnels::Command::Ended { share, refusal } => self.end_share(share, refusal.into()),
            }
        }
    }

    fn greet(&mut self, connection: ConnectionId) {
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        let Some(relay) = mytunnel_carrier::public_key(&entry.peer) else { return };
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        entry.outgoing = Some(sender);
        let session = Session {
            opener: entry.opener.clone(),
            carrier: entry.way.carrier,
            introduction: Arc::clone(&self.introduction),
            expected: self.expected.clone(),
            relay,
            mailbox: Mailbox { connection, owner: self.mailbox.clone() },
        };
        self.sessions.spawn(session.run(outgoing).instrument(debug_span!("session", %connection)));
    }

    fn keep_lanes(&mut self, share: ShareId, way: lanes::Way) {
        if let Some((id, service, closed)) = self.shares.lanes(share) {
            let tunnel = lanes::Tunnel { id, service, pulses: self.pulses.clone() };
            self.lanes.spawn(lanes::keep(way, tunnel, closed));
        }
    }

    fn offline(&mut self, attempt: u32, reason: &str) {
        tracing::debug!(attempt, reason, "no relay session");
        if attempt > 1 {
            self.trouble = Some(reason.to_owned());
        }
        self.tunnels.on_offline();
        self.line.tell(Report::Offline { attempt, reason: reason.to_owned() });
        for id in self.shares.ids() {
            self.shares.offline(id, attempt, reason);
        }
    }

    pub(super) fn send(&mut self, message: ToRelay) {
        let Some(connection) = self.link.current() else { return };
        let outgoing = self.connections.get(&connection).and_then(|entry| entry.outgoing.as_ref());
        if outgoing.is_none_or(|outgoing| outgoing.try_send(message).is_err()) {
            // The session has ended, or the relay does not read: its end will be told, and all is sent again.
            self.swarm.close_connection(connection);
        }
    }
}
