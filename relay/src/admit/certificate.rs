//! The relay's own standing: the certificate that it shows, and whether it may take tunnels with it.

use mytunnel_keys::{
    error::Code,
    wire::{ToNode, VERSION},
};

use super::{Admission, Command, Now, answer::Refusal};
use crate::renewal::OwnCertificate;

impl Admission {
    /// The relay has a new certificate. Nodes that are connected are shown it: they believe the relay for as long as the
    /// one they know lasts.
    pub(crate) fn handle_certificate(&mut self, own: OwnCertificate, now: Now) {
        self.policy.certificate = own;
        self.expelled = false;
        let connections: Vec<_> = self.registry.sessions().map(|(connection, _)| connection).collect();
        for connection in connections {
            let message = self.welcome(now);
            self.command(Command::Send { connection, message });
        }
    }

    /// The coordinator has said that this relay is none of its own. A subscription or a certificate proves otherwise.
    pub(crate) fn handle_expelled(&mut self) {
        self.expelled = true;
    }

    /// May this relay take anything new at all?
    pub(super) fn may_serve_at_all(&self, now: Now) -> Result<(), Refusal> {
        if self.expelled {
            let reason = "this relay's coordinator has revoked it, or does not know it";
            return Err(Refusal::new(Code::RelayStale, reason));
        }
        if now.seconds() >= self.policy.certificate.life.until {
            let reason = "this relay's certificate has ended; it is renewed when the coordinator answers";
            return Err(Refusal::new(Code::RelayStale, reason));
        }
        Ok(())
    }

    /// What an admitted node is told.
    pub(super) fn welcome(&self, now: Now) -> ToNode {
        ToNode::Welcome {
            version: VERSION,
            certificate: self.policy.certificate.bytes.clone(),
            trust: self.trust.bytes().to_vec(),
            domain: self.trust.cluster().clone(),
            lane_port: self.policy.lane_port,
            time: now.seconds(),
        }
    }
}
