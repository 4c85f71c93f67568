//! The gates before a tunnel: whether a request may go on to its node.
//!
//! They are passed in one order: the tunnel has not ended; the visitor comes from where visitors may come from; and then
//! either a program shows the token, or people pass everything that people are asked for, which is the password first and
//! then the number. A token stands beside what people are asked for: a right one is let through in its place, and a wrong
//! one is refused whatever else comes with it. Between password and number stands the sign-in, if one is asked for.
//!
//! What gates say of a request is decided by [`decide()`], from its head alone. A secret is then checked by the
//! [`Gatekeeper`]: what was proven before costs a look-up, anything else is counted before it is hashed, and hashing
//! has few places, of which no tunnel can have all. Nothing of a request reaches the node, and nothing of the
//! tunnel the visitor, before a [`Passed`] says so; it holds for the gates that were passed and no others.

mod asked;
mod basic;
mod bearer;
mod cookies;
mod decide;
mod denied;
pub(crate) mod fuzz;
mod guesses;
mod hashing;
mod pin;
mod proven;
mod sealed;
mod session;
mod sign_in;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::AUTHORIZATION};
use http_body::Body;
use mytunnel_keys::{
    feed::{Gates, SignInGate},
    id::TunnelName,
    sketch::{Limit, Sketch},
};
use mytunnel_sign_in::Client;

pub(crate) use self::{asked::Asked, asked::OWN, denied::Denied, sign_in::Places};
use self::{
    basic::Credentials,
    cookies::Name,
    decide::{Decision, Door, Guest, Kind, Page, Secret, decide, first_question, people},
    guesses::{Guesses, TooMany},
    hashing::Hashing,
    proven::Proven,
    sign_in::{SignedOut, Spent, States},
};
use crate::{
    ingress::{failure::Failure, locked},
    ports::PortRange,
    route::{Customer, Routes, Tunnel},
};

/// Who it is, for the server behind the gates. From visitors nothing of that name is let through.
const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const X_FORWARDED_EMAIL: HeaderName = HeaderName::from_static("x-forwarded-email");

/// Checks what visitors show at the gates of all tunnels.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    start: Instant,
    proven: Mutex<Proven>,
    long: Mutex<Guesses>,
    short: Mutex<Guesses>,
    hashing: Hashing,
    /// Whose tunnels they are.
    routes: Routes,
    /// Who vouches for visitors.
    client: Arc<Client>,
    /// The host of sign-ins.
    console: Box<str>,
    /// Where servers of others are at the hosts of all tunnels.
    ports: Option<PortRange>,
    spent: Mutex<Spent>,
    states: Mutex<States>,
    signed_out: SignedOut,
    sign_ins: Mutex<Sketch>,
}

/// Passwords that may wait for being hashed.
pub(crate) const GUESSES: usize = hashing::WAITING;

/// Steps of sign-ins from one address, each of which may ask the provider.
const SIGN_INS: Limit = Limit { tries: 60, window: 60 };

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
    page: Page,
}

/// The gates that a request has passed.
#[derive(Debug)]
pub(crate) struct Passed {
    gates: Option<Arc<Gates>>,
    /// The header with which was meant for them.
    by_header: bool,
    guest: Guest,
}

impl Gatekeeper {
    /// One that lets people sign in with these, at the console's host.
    pub(crate) fn new(client: Arc<Client>, console: &str) -> Result<Self, getrandom::Error> {
        Ok(Self {
            start: now(),
            proven: Mutex::new(Proven::new()?),
            long: Mutex::new(Guesses::long()),
            short: Mutex::new(Guesses::short()),
            hashing: Hashing::default(),
            routes: Routes::new(),
            client,
            console: console.into(),
            ports: None,
            spent: Mutex::default(),
            states: Mutex::default(),
            signed_out: SignedOut::default(),
            sign_ins: Mutex::new(Sketch::new(SIGN_INS)),
        })
    }

    /// The same, which leads nobody back to one of these ports.
    pub(crate) fn beside_ports(self, ports: Option<PortRange>) -> Self {
        Self { ports, ..self }
    }

    /// The same, which knows from these whose tunnels there are.
    pub(crate) fn of_routes(self, routes: Routes) -> Self {
        Self { routes, ..self }
    }

    /// Passwords that are hashed, or wait for it.
    pub(crate) fn guesses_waiting(&self) -> usize {
        self.hashing.waiting()
    }

    /// Lets a request with this head pass the gates of a tunnel, or says why not.
    pub(crate) async fn pass(
        &self,
        tunnel: &Tunnel,
        gates: Arc<Gates>,
        asked: &Asked<'_>,
    ) -> Result<Entry, Denied> {
        let asked = &self.recall(asked);
        let denied = |failure| Denied::new(failure, tunnel.name(), &gates, asked);
        let mut by_header = false;
        let provider = gates.sign_in.as_ref().map(|gate| gate.provider.as_str());
        let is_offered = provider.is_some_and(|id| self.client.provider(id).is_some());
        let door = match decide(&gates, asked, is_offered) {
            Decision::Deny(failure) => return Err(denied(failure)),
            Decision::Program(secret, token) => {
                self.prove(tunnel, &secret, token, asked.address(), &denied).await?;
                return Ok(Entry::Passed(Passed {
                    gates: Some(gates),
                    by_header: true,
                    guest: Guest::default(),
                }));
            }
            Decision::Person(secret, credentials) => {
                self.prove(tunnel, &secret, credentials, asked.address(), &denied).await?;
                by_header = true;
                people(&gates, asked, is_offered)
            }
            Decision::People(door) => door,
        };
        match door {
            Door::Open(guest) => Ok(Entry::Passed(Passed { gates: Some(gates), by_header, guest })),
            Door::Ask(failure) => Err(denied(failure)),
            Door::Reject(who) => Err(denied(Failure::AccessDenied).named(who)),
            Door::Page(page) => Ok(Entry::Own(Own { gates, page })),
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
        let asked = &self.recall(asked);
        let denied = |failure| Denied::new(failure, tunnel.name(), &own.gates, asked);
        match (&own.page, &own.gates.pin, &own.gates.sign_in) {
            (Page::Pin, Some(gate), _) => {
                pin::check(asked).map_err(&denied)?;
                let typed = pin::read(body).await.map_err(&denied)?;
                self.prove(tunnel, &Secret::from(gate), typed.pin, asked.address(), &denied).await?;
                Ok(pin::welcome(gate, asked))
            }
            (Page::SignIn, _, Some(gate)) => self.begin(gate, asked).map_err(&denied),
            (Page::Ticket, _, Some(gate)) => self.redeem(gate, asked).map_err(&denied),
            (Page::SignOut(who), _, gate) => {
                let answer = sign_in::sign_out(asked, tunnel.name().as_str(), who.as_ref());
                let answer = answer.map_err(&denied)?;
                if let Some(gate) = gate.as_ref().filter(|_| asked.method == http::Method::POST) {
                    self.forget(gate, asked);
                }
                Ok(answer)
            }
            (Page::LeadOn | Page::Pin | Page::SignIn | Page::Ticket, ..) => Ok(pin::led_on(asked)),
        }
    }

    /// Answers a request for a tunnel whose node is not here, if it is one of a sign-in, of which every relay can do each
    /// step.
    pub(crate) fn step(
        &self,
        name: &TunnelName,
        gates: &Gates,
        asked: &Asked<'_>,
    ) -> Option<Result<Response<Bytes>, Denied>> {
        let (gate, asked) = (gates.sign_in.as_ref()?, &self.recall(asked));
        let is_offered = self.client.provider(&gate.provider).is_some();
        let step = match decide(gates, asked, is_offered) {
            Decision::People(Door::Page(Page::SignIn)) => self.begin(gate, asked),
            Decision::People(Door::Page(Page::Ticket)) => self.redeem(gate, asked),
            Decision::People(_) | Decision::Deny(_) | Decision::Program(..) | Decision::Person(..) => {
                return None;
            }
        };
        Some(step.map_err(|failure| Denied::new(failure, name, gates, asked)))
    }

    /// With whether who asks has signed out.
    fn recall<'a>(&self, asked: &Asked<'a>) -> Asked<'a> {
        let signed_out = asked.cookie(Name::GATE).is_some_and(|cookie| self.signed_out.has(cookie));
        Asked { signed_out, ..*asked }
    }

    /// The session by which somebody signs out counts no more.
    fn forget(&self, gate: &SignInGate, asked: &Asked<'_>) {
        let session = asked.session(Name::GATE, &gate.session_key);
        if let (Some(session), Some(cookie)) = (session, asked.cookie(Name::GATE)) {
            self.signed_out.note(cookie, session.ends_at, asked.now);
        }
    }

    fn begin(&self, gate: &SignInGate, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
        // Who asks can say any port; whoever signs in would bring their ticket there.
        if asked.shown_port().is_some_and(|port| self.is_of_a_tunnel(port)) {
            return Err(Failure::BadRequest);
        }
        sign_in::begin(gate, asked, &self.console, random()?)
    }

    fn is_of_a_tunnel(&self, port: u16) -> bool {
        self.ports.is_some_and(|ports| ports.has(port))
    }

    fn redeem(&self, gate: &SignInGate, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
        sign_in::redeem(gate, asked, |ticket, now| locked(&self.spent).spend(ticket, now))
    }

    /// Whether there is anybody to sign in with.
    pub(crate) fn offers_sign_ins(&self) -> bool {
        !self.client.is_empty()
    }

    /// Answers a request for the host of sign-ins.
    pub(crate) async fn sign_in(
        &self,
        asked: &Asked<'_>,
        places: Places<'_>,
    ) -> Result<Response<Bytes>, Failure> {
        {
            let (address, mut sign_ins) = (crate::ingress::owner(asked.address()), locked(&self.sign_ins));
            sign_ins.check(&address, self.seconds()).map_err(|_| Failure::GateBusy)?;
            sign_ins.add(&address, self.seconds(), 1);
        }
        sign_in::at_console((&self.client, &self.states), asked, places, random()?).await
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
        match self.check(tunnel, secret, shown, address).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(denied(secret.kind.wrong())),
            Err(Unchecked::TooMany(TooMany(wait))) => Err(denied(Failure::TooManyGuesses).after(wait)),
            Err(Unchecked::Busy) => Err(denied(Failure::GateBusy)),
        }
    }

    async fn check(
        &self,
        tunnel: &Tunnel,
        secret: &Secret<'_>,
        credentials: Credentials,
        address: IpAddr,
    ) -> Result<bool, Unchecked> {
        let id = tunnel.id();
        let guesses = match secret.kind {
            Kind::Pin => &self.short,
            Kind::Basic | Kind::Bearer => &self.long,
        };
        let at = (*id, secret.generation);
        let (proof, is_known) = {
            let proven = locked(&self.proven);
            // However the header is written, the same credentials are one guess.
            let proof = proven.proof(id, secret, credentials.as_bytes(), address);
            (proof, proven.holds(&proof))
        };
        // Who has shown the number has a session. A number shown again is a guess: there are too few of them.
        if is_known && secret.kind != Kind::Pin {
            let recalled = locked(guesses).recall(at, address, self.seconds());
            if recalled.map_err(Unchecked::TooMany)? {
                return Ok(true);
            }
        }
        // A guess that is being checked already is no second one: a page asks for many things at once.
        let customer = self.routes.customer(tunnel.name().as_str());
        let customer = customer.unwrap_or_else(|| Customer::Of(tunnel.project().clone()));
        let guess = self.hashing.enter((*id, customer), proof, || {
            locked(guesses).count(at, address, self.seconds()).map_err(Unchecked::TooMany)
        })?;
        let (user, hash) = (secret.user.to_owned(), secret.hash.to_owned());
        let outcome = guess.settle(move || credentials.fit(&user, &hash)).await?;
        if outcome.is_right {
            if secret.kind != Kind::Pin {
                locked(guesses).note_right(at, address);
                locked(&self.proven).keep(proof);
            }
            if outcome.is_first {
                locked(guesses).forgive(at, address, self.seconds());
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
        Self { gates: None, by_header: false, guest: Guest { who: None, ends_at: None } }
    }

    /// Tells the server behind the gates who it is, where people are asked.
    pub(crate) fn introduce(&self, headers: &mut HeaderMap) {
        let Some(who) = &self.guest.who else { return };
        // What is no text for a header is left out; nobody else can have said anything in its place.
        if let Ok(user) = HeaderValue::try_from(&who.subject) {
            headers.insert(X_FORWARDED_USER, user);
        }
        if let Some(email) = who.email.as_ref().and_then(|email| HeaderValue::try_from(email).ok()) {
            headers.insert(X_FORWARDED_EMAIL, email);
        }
    }

    /// Seconds for which it holds, where it holds for a time.
    pub(crate) fn lasts(&self) -> Option<u64> {
        self.guest.ends_at.map(|at| at.saturating_sub(unix()))
    }

    /// Takes out of a head what was meant for the gates.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if self.by_header {
            headers.remove(AUTHORIZATION);
        }
        cookies::strip(headers);
    }

    /// Whether the tunnel's gates still ask what was passed. To be asked when the request has its seat at the tunnel:
    /// from then on a change cuts it.
    pub(crate) fn check(&self, tunnel: &Tunnel) -> Result<(), Denied> {
        let Some(gates) = tunnel.gates() else { return Ok(()) };
        let passed = match &self.gates {
            Some(passed) => gates.ask_as(passed),
            None => gates.ask_as(&Gates::default()),
        };
        if passed { Ok(()) } else { Err(Denied::changed(first_question(&gates), tunnel.name(), &gates)) }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Failure::GateBusy)?;
    Ok(bytes)
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
