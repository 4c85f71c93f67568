//! From a stranger to a session: the check of a certificate.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use mytunnel_keys::{
    certificate::{self, Claims, Kind},
    error::Code,
    feed::Report,
    presence::{PresenceError, UnverifiedPresence},
    wire::VERSION,
};

use super::{Admission, Command, Now, Stranger, answer::Refusal};
use crate::{circuits::Pass, registry::Session};

/// What a stranger shows.
pub(super) struct Shown {
    pub(super) version: u16,
    pub(super) certificate: Vec<u8>,
    pub(super) presence: Vec<u8>,
    pub(super) clock: u64,
}

impl Admission {
    /// Checks what a connection shows and admits it.
    pub(super) fn hello(&mut self, connection: ConnectionId, shown: Shown, now: Now) -> Result<(), Refusal> {
        let Some(Stranger { peer, key, .. }) = self.strangers.get(&connection) else {
            return Err(Refusal::new(Code::BadRequest, "a connection says hello once"));
        };
        let Shown { version, certificate, presence, clock } = shown;
        if version != VERSION {
            return Err(Refusal::new(Code::BadRequest, format!("this relay speaks version {VERSION}")));
        }
        let claims = certificate::verify(&certificate, &self.trust, key, now.seconds())
            .map_err(|error| Refusal::of_certificate(&error, clock, now.seconds()))?;
        self.may_enter(&claims, now).map_err(|refusal| refusal.of(claims.serial))?;
        // Without it the coordinator would count none of the key's use.
        self.is_present(&presence, &claims, now)
            .map_err(|error| Refusal::new(error.code(), error.to_string()).of(claims.serial))?;
        let session = Session::new(*peer, claims, &certificate, &presence, now.instant);
        self.admit(connection, session, now);
        Ok(())
    }

    /// Is this the word of that very key, for this relay?
    fn is_present(&self, presence: &[u8], claims: &Claims, now: Now) -> Result<(), PresenceError> {
        let presence = UnverifiedPresence::parse(presence)?;
        if presence.serial() != claims.serial {
            return Err(PresenceError::Other);
        }
        let (cluster, relay) = (self.trust.cluster(), &self.policy.id);
        presence.verify(&claims.subject, cluster, relay, now.seconds()).map(drop)
    }

    /// What is asked of a certificate beside its own validity, before anything is granted.
    fn may_enter(&self, claims: &Claims, now: Now) -> Result<(), Refusal> {
        match claims.kind {
            Kind::Child | Kind::UserDevice | Kind::PairGuest => {}
            Kind::Relay => return Err(Refusal::new(Code::InvalidKey, "a relay's key opens nothing here")),
        }
        if now.seconds() >= claims.not_after {
            return Err(Refusal::new(Code::KeyExpired, "the key has expired"));
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
        if pass.circuits && session.claims.budget.is_some() {
            self.budgets.meter.claim(session.claims.serial);
        }
        self.command(Command::Admit { connection, peer: session.peer, pass });
        let message = self.welcome(now);
        self.command(Command::Send { connection, message });
        self.report(Report::Present { presence: session.presence.to_vec(), at: now.seconds() });
        self.registry.open(connection, session);
        self.schedule_hard_check();
    }
}
