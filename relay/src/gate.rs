//! The gates before a tunnel: whether a request may go on to its node.
//!
//! What gates say of a request is decided by [`decide`], from its head alone. A password is then checked by the
//! [`Gatekeeper`]: what was proven before costs a look-up, anything else is counted before it is hashed, and hashing
//! has few places, of which no tunnel can have all. Nothing of a request reaches the node, and nothing of the
//! tunnel the visitor, before a [`Passed`] says so; it holds for the gates that were passed and no others.

mod basic;
mod guesses;
mod hashing;
mod proven;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use http::{
    HeaderMap, HeaderValue, Response,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use mytunnel_keys::{
    feed::{BasicGate, Gates},
    id::{TunnelId, TunnelName},
};

use self::{
    basic::Credentials,
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
    guesses: Mutex<Guesses>,
    hashing: Hashing,
}

/// What gates say of a request.
#[derive(Debug)]
enum Decision<'a> {
    /// It may not pass, whatever it shows.
    Deny(Failure),
    /// It has to show something that it did not.
    Ask,
    /// It may pass if these are right.
    Check(&'a BasicGate, Credentials),
}

/// The gates that a request has passed.
#[derive(Debug)]
pub(crate) struct Passed(Option<Arc<Gates>>);

/// Why a request does not pass.
#[derive(Debug)]
pub(crate) struct Denied {
    failure: Failure,
    tunnel: TunnelName,
    /// Seconds after which it may try again.
    wait: Option<u64>,
}

impl Gatekeeper {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            start: now(),
            proven: Mutex::new(Proven::new()?),
            guesses: Mutex::default(),
            hashing: Hashing::default(),
        })
    }

    /// Lets a request with this head pass, or says why not.
    pub(crate) async fn pass(
        &self,
        tunnel: &Tunnel,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<Passed, Denied> {
        let Some(gates) = tunnel.gates() else { return Ok(Passed(None)) };
        let denied = |failure| Denied { failure, tunnel: tunnel.name().clone(), wait: None };
        let (gate, credentials) = match decide(&gates, headers) {
            Decision::Deny(failure) => return Err(denied(failure)),
            Decision::Ask => return Err(denied(Failure::PasswordRequired)),
            Decision::Check(gate, credentials) => (gate, credentials),
        };
        match self.check(tunnel.id(), gate, credentials, address).await {
            Ok(true) => Ok(Passed(Some(gates))),
            Ok(false) => Err(denied(Failure::PasswordRequired)),
            Err(Unchecked::TooMany(TooMany(wait))) => {
                Err(Denied { wait: Some(wait), ..denied(Failure::TooManyGuesses) })
            }
            Err(Unchecked::Busy) => Err(denied(Failure::GateBusy)),
        }
    }

    async fn check(
        &self,
        tunnel: &TunnelId,
        gate: &BasicGate,
        credentials: Credentials,
        address: IpAddr,
    ) -> Result<bool, Unchecked> {
        let proof = {
            let proven = locked(&self.proven);
            // However the header is written, the same credentials are one guess.
            let proof = proven.proof(tunnel, gate, credentials.as_bytes());
            if proven.holds(&proof) {
                return Ok(true);
            }
            proof
        };
        // A guess that is being checked already is no second one: a page asks for many things at once.
        let guess = self.hashing.enter(*tunnel, proof, || {
            locked(&self.guesses).count(tunnel, address, self.seconds()).map_err(Unchecked::TooMany)
        })?;
        let (user, hash) = (gate.user.clone(), gate.hash.clone());
        let outcome = guess.settle(move || credentials.fit(&user, &hash)).await?;
        if outcome.is_right {
            locked(&self.proven).keep(proof);
            if outcome.is_first {
                locked(&self.guesses).forgive(tunnel, address, self.seconds());
            }
        }
        Ok(outcome.is_right)
    }

    fn seconds(&self) -> u64 {
        now().saturating_duration_since(self.start).as_secs()
    }
}

/// Why nothing is known of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unchecked {
    TooMany(TooMany),
    Busy,
}

/// Every gate has to be passed. A sign-in cannot be: this relay offers none.
fn decide<'a>(gates: &'a Gates, headers: &HeaderMap) -> Decision<'a> {
    if gates.sign_in.is_some() {
        return Decision::Deny(Failure::SignInUnavailable);
    }
    let Some(gate) = &gates.basic else { return Decision::Deny(Failure::SignInUnavailable) };
    match basic::shown(headers) {
        Some(credentials) => Decision::Check(gate, credentials),
        None => Decision::Ask,
    }
}

impl Passed {
    /// Takes out of a head what was meant for the gates.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if self.0.as_ref().is_some_and(|gates| gates.basic.is_some()) {
            headers.remove(AUTHORIZATION);
        }
    }

    /// Whether the tunnel still has the gates that were passed. To be asked when the request has its seat at the
    /// tunnel: from then on a change cuts it.
    pub(crate) fn check(&self, tunnel: &Tunnel) -> Result<(), Denied> {
        let failure = match tunnel.gates() {
            None => return Ok(()),
            gates if gates == self.0 => return Ok(()),
            Some(gates) if gates.sign_in.is_none() => Failure::PasswordRequired,
            Some(_) => Failure::SignInUnavailable,
        };
        Err(Denied { failure, tunnel: tunnel.name().clone(), wait: None })
    }
}

impl Denied {
    /// The answer, in the form that `accept` (the request's headers) asks for.
    pub(crate) fn response(&self, accept: &HeaderMap) -> Response<bytes::Bytes> {
        let mut response = self.failure.response(accept);
        let headers = response.headers_mut();
        if self.failure == Failure::PasswordRequired
            && let Ok(challenge) = HeaderValue::try_from(format!("Basic realm=\"{}\"", self.tunnel))
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

/// Whether a visitor from this address may come to a port of a tunnel with these gates. Nobody can show there what the
/// gates of a web site ask for.
pub(crate) fn admits_line(gates: Option<&Gates>, _visitor: IpAddr) -> bool {
    gates.is_none_or(Gates::is_open)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
