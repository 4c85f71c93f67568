//! The gates before a tunnel: whether a request may go on to its node.
//!
//! They are passed in one order: the tunnel has not ended; the visitor comes from where visitors may come from; and then
//! either a program shows the token, or people pass everything that people are asked for, which is the password first and
//! then the number. A token stands beside what people are asked for: a right one is let through in its place, and a wrong
//! one is refused whatever else comes with it.
//!
//! What gates say of a request is decided by [`decide`], from its head alone. A secret is then checked by the
//! [`Gatekeeper`]: what was proven before costs a look-up, anything else is counted before it is hashed, and hashing
//! has few places, of which no tunnel can have all. Nothing of a request reaches the node, and nothing of the
//! tunnel the visitor, before a [`Passed`] says so; it holds for the gates that were passed and no others.

mod asked;
mod basic;
mod bearer;
mod cookies;
mod decide;
mod denied;
mod guesses;
mod hashing;
mod pin;
mod proven;
mod session;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header::AUTHORIZATION};
use http_body::Body;
use mytunnel_keys::{feed::Gates, id::TunnelId};

pub(crate) use self::{asked::Asked, denied::Denied};
use self::{
    basic::Credentials,
    decide::{Decision, Door, Kind, Secret, decide, first_question, people},
    guesses::{Guesses, TooMany},
    hashing::Hashing,
    proven::Proven,
};
use crate::{
    ingress::{failure::Failure, locked},
    route::Tunnel,
};

/// Checks what visitors show at the gates of all tunnels.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    start: Instant,
    proven: Mutex<Proven>,
    long: Mutex<Guesses>,
    short: Mutex<Guesses>,
    hashing: Hashing,
}

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It goes on to the node.
    Passed(Passed),
    /// It is for a page of the gates' own.
    Own(Own),
}

/// A request for a page of the gates' own.
#[derive(Debug)]
pub(crate) struct Own {
    gates: Arc<Gates>,
    door: Door,
}

/// The gates that a request has passed.
#[derive(Debug)]
pub(crate) struct Passed {
    gates: Option<Arc<Gates>>,
    /// The header with which was meant for them.
    by_header: bool,
}

impl Gatekeeper {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            start: now(),
            proven: Mutex::new(Proven::new()?),
            long: Mutex::new(Guesses::long()),
            short: Mutex::new(Guesses::short()),
            hashing: Hashing::default(),
        })
    }

    /// Lets a request with this head pass the gates of a tunnel, or says why not.
    pub(crate) async fn pass(
        &self,
        tunnel: &Tunnel,
        gates: Arc<Gates>,
        asked: &Asked<'_>,
    ) -> Result<Entry, Denied> {
        let denied = |failure| Denied::new(failure, tunnel.name(), &gates, asked);
        let mut by_header = false;
        let door = match decide(&gates, asked) {
            Decision::Deny(failure) => return Err(denied(failure)),
            Decision::Program(secret, token) => {
                self.prove(tunnel, &secret, token, asked.address(), &denied).await?;
                return Ok(Entry::Passed(Passed { gates: Some(gates), by_header: true }));
            }
            Decision::Person(secret, credentials) => {
                self.prove(tunnel, &secret, credentials, asked.address(), &denied).await?;
                by_header = true;
                people(&gates, asked)
            }
            Decision::People(door) => door,
        };
        match door {
            Door::Open => Ok(Entry::Passed(Passed { gates: Some(gates), by_header })),
            Door::Ask(failure) => Err(denied(failure)),
            door @ (Door::Pin | Door::LeadOn) => Ok(Entry::Own(Own { gates, door })),
        }
    }

    /// Answers a request for a page of the gates' own.
    pub(crate) async fn answer<B>(
        &self,
        own: &Own,
        tunnel: &Tunnel,
        asked: &Asked<'_>,
        body: B,
    ) -> Result<Response<Bytes>, Denied>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let denied = |failure| Denied::new(failure, tunnel.name(), &own.gates, asked);
        let gate = match (&own.door, &own.gates.pin) {
            (Door::Pin, Some(gate)) => gate,
            (Door::LeadOn | Door::Pin | Door::Open | Door::Ask(_), _) => return Ok(pin::led_on(asked)),
        };
        pin::check(asked).map_err(&denied)?;
        let typed = pin::read(body).await.map_err(&denied)?;
        self.prove(tunnel, &Secret::from(gate), typed.pin, asked.address(), &denied).await?;
        Ok(pin::welcome(gate, asked))
    }

    /// Lets who shows the secret go on, and says why it does not.
    async fn prove(
        &self,
        tunnel: &Tunnel,
        secret: &Secret<'_>,
        shown: Credentials,
        address: IpAddr,
        denied: &impl Fn(Failure) -> Denied,
    ) -> Result<(), Denied> {
        match self.check(tunnel.id(), secret, shown, address).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(denied(secret.kind.wrong())),
            Err(Unchecked::TooMany(TooMany(wait))) => Err(denied(Failure::TooManyGuesses).after(wait)),
            Err(Unchecked::Busy) => Err(denied(Failure::GateBusy)),
        }
    }

    async fn check(
        &self,
        tunnel: &TunnelId,
        secret: &Secret<'_>,
        credentials: Credentials,
        address: IpAddr,
    ) -> Result<bool, Unchecked> {
        let proof = {
            let proven = locked(&self.proven);
            // However the header is written, the same credentials are one guess.
            let proof = proven.proof(tunnel, secret, credentials.as_bytes());
            if proven.holds(&proof) {
                return Ok(true);
            }
            proof
        };
        let guesses = match secret.kind {
            Kind::Pin => &self.short,
            Kind::Basic | Kind::Bearer => &self.long,
        };
        // A guess that is being checked already is no second one: a page asks for many things at once.
        let guess = self.hashing.enter(*tunnel, proof, || {
            locked(guesses).count(tunnel, address, self.seconds()).map_err(Unchecked::TooMany)
        })?;
        let (user, hash) = (secret.user.to_owned(), secret.hash.to_owned());
        let outcome = guess.settle(move || credentials.fit(&user, &hash)).await?;
        if outcome.is_right {
            locked(&self.proven).keep(proof);
            if outcome.is_first {
                locked(guesses).forgive(tunnel, address, self.seconds());
            }
        }
        Ok(outcome.is_right)
    }

    fn seconds(&self) -> u64 {
        now().saturating_duration_since(self.start).as_secs()
    }
}

/// Why nothing is known of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unchecked {
    TooMany(TooMany),
    Busy,
}

impl Passed {
    /// Of a tunnel that has none.
    pub(crate) const fn open() -> Self {
        Self { gates: None, by_header: false }
    }

    /// Takes out of a head what was meant for the gates.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if self.by_header {
            headers.remove(AUTHORIZATION);
        }
        cookies::strip(headers);
    }

    /// Whether the tunnel still has the gates that were passed. To be asked when the request has its seat at the
    /// tunnel: from then on a change cuts it.
    pub(crate) fn check(&self, tunnel: &Tunnel) -> Result<(), Denied> {
        match tunnel.gates() {
            None => Ok(()),
            gates if gates == self.gates => Ok(()),
            Some(gates) => Err(Denied::changed(first_question(&gates), tunnel.name(), &gates)),
        }
    }
}

/// Seconds of the Unix epoch.
pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a visitor from this address may come to a port of a tunnel with these gates.
pub(crate) fn admits_line(gates: Option<&Gates>, visitor: IpAddr) -> bool {
    gates.is_none_or(|gates| decide::admits_line(gates, visitor, unix()))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
