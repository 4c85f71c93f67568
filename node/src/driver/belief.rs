//! A relay shows its certificate anew when it was renewed, and is left when it has not done so in time.

use std::time::Instant as StdInstant;

use libp2p::swarm::ConnectionId;
use mytunnel_keys::wire::ToNode;

use super::{
    Driver,
    welcome::{self, Unwelcome},
};
use crate::{clock::unix_now, state::belief::Belief};

impl Driver {
    /// When the current relay is believed no longer, unless it shows a new certificate.
    pub(super) fn belief_ends(&self) -> Option<StdInstant> {
        Some(self.current()?.belief?.ends())
    }

    pub(super) fn believe(&mut self, connection: ConnectionId, not_after: u64, now: StdInstant) {
        if let Some(entry) = self.connections.get_mut(&connection) {
            entry.belief = Some(Belief::new(not_after, now, unix_now()));
        }
    }

    /// A relay whose certificate has ended is one no longer: it may have been revoked.
    pub(super) fn leave_unbelieved(&mut self, now: StdInstant) {
        let belief = self.current().and_then(|current| current.belief);
        if let Some(connection) = self.link.current()
            && belief.is_some_and(|belief| belief.is_over(now, unix_now()))
        {
            self.link.on_false_relay(connection, "the relay's certificate has ended", now);
        }
    }

    /// The current relay shows its certificate anew.
    pub(super) fn on_shown_again(&mut self, connection: ConnectionId, shown: ToNode, now: StdInstant) {
        let Some(peer) = self.connections.get(&connection).map(|entry| entry.peer) else { return };
        let Some(key) = mytunnel_carrier::public_key(&peer) else { return };
        match welcome::judge(shown, &key, self.expected.clone(), unix_now()) {
            Ok(again) => {
                self.trust(again.trust);
                self.believe(connection, again.not_after, now);
            }
            Err(Unwelcome::FalseRelay(why)) => self.link.on_false_relay(connection, &why.to_string(), now),
            // Only a welcome comes here.
            Err(Unwelcome::Refused(refusal)) => self.link.on_refused(connection, refusal, now),
        }
    }
}
