//! From a stranger to a session: the check of a certificate.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    certificate::{self, Claims, Kind},
    error::Code,
    feed::Report,
    wire::VERSION,
};

use super::{Admission, Command, Now, Stranger, answer::Refusal};
use crate::{circuits::Pass, registry::Session};

impl Admission {
    /// Checks the certificate of a connection and admits it.
    pub(super) fn hello(
        &mut self,
        connection: ConnectionId,
        version: u16,
        certificate: &[u8],
        clock: u64,
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(Stranger { peer, key, .. }) = self.strangers.get(&connection) else {
            return Err(Refusal::new(Code::BadRequest, "a connection says hello once"));
        };
        if version != VERSION {
            return Err(Refusal::new(Code::BadRequest, format!("this relay speaks version {VERSION}")));
        }
        let claims = certificate::verify(certificate, &self.trust, key, now.seconds())
            .map_err(|error| Refusal::of_certificate(&error, clock, now.seconds()))?;
        self.may_enter(&claims, now).map_err(|refusal| refusal.of(claims.serial))?;
        let session = Session::new(*peer, claims, certificate, now.instant);
        self.admit(connection, session, now);
        Ok(())
    }

    /// What is asked of a certificate beside its own validity, before anything is granted.
    fn may_enter(&self, claims: &Claims, now: Now) -> Result<(), Refusal> {
        match claims.kind {
            Kind::Child | Kind::UserDevice | Kind::PairGuest => {}
            Kind::Relay => return Err(Refusal::new(Code::InvalidKey, "a relay's key opens nothing here")),
        }
        if now.seconds() >= claims.not_after {
            return Err(Refusal::new(Code::KeyExpired, "the certificate has ended"));
        }
        self.may_act(claims, now)?;
        self.is_spent(claims, now)
    }

    /// What is asked again each time something new is granted.
    pub(super) fn may_act(&self, claims: &Claims, now: Now) -> Result<(), Refusal> {
        if let Some(code) = self.revoked.is_revoked(claims) {
            return Err(Refusal::new(code, "the key, its parent or its project was revoked"));
        }
        if Duration::from_secs(claims.not_after) <= now.unix {
            return Err(Refusal::new(Code::KeyExpired, "the key has expired"));
        }
        self.is_frozen(claims)?;
        self.may_serve_at_all(now)?;
        self.freshness
            .vouches(Duration::from_secs(claims.max_staleness.into()), now)
            .map_err(|blind| Refusal::new(Code::RelayStale, blind.to_string()))
    }

    fn admit(&mut self, connection: ConnectionId, session: Session, now: Now) {
        self.forget_stranger(connection);
        let left = Duration::from_secs(session.claims.not_after).saturating_sub(now.unix);
        self.timers.set(connection, left, now);
        let pass = Pass::of(&session.claims);
        let circuits = pass.circuits.then_some(session.claims.serial);
        if circuits.is_some() && session.claims.budget.is_some() {
            self.budgets.meter.claim(session.claims.serial);
        }
        self.command(Command::Admit { connection, peer: session.peer, pass });
        let message = self.welcome(now);
        self.command(Command::Send { connection, message });
        self.registry.open(connection, session);
        if let Some(serial) = circuits {
            self.report(Report::Circuits { serial, at: now.seconds() });
        }
        self.schedule_hard_check();
    }
}
