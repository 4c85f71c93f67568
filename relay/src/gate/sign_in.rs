//! Signing visitors in by the word of a provider (OpenID Connect, code flow with PKCE).
//!
//! The way of a browser, each step of which leads to the next:
//!
//! 1. at the tunnel's host it gets a cookie that this sign-in belongs to, and goes to the sign-in's host, which is the
//!    console's: only that is registered with the provider;
//! 2. there it gets a cookie again, and goes to the provider with a `state` that says where it came from;
//! 3. the provider sends it back there; the cookie has to be that of step 2, and the provider is asked who it is;
//! 4. it goes back to the tunnel's host with a ticket that is good once, for a minute and with the cookie of step 1, and
//!    gets its session.
//!
//! What is carried from step to step is sealed with the key of the tunnel's gate, which every relay has by the feed: no
//! relay remembers a sign-in, another may go on with it, and nothing that strangers begin takes any memory. `nonce` and
//! PKCE verifier are made from the `state` with that key, so that nobody but a relay knows them. Whom the gate lets in is
//! not decided here but with every request.

mod pages;
mod permit;
mod signed_out;
mod spent;
mod states;

use std::sync::Mutex;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE},
};
use mytunnel_keys::{
    feed::{SessionKey, SignInGate},
    id::TunnelKind,
};
use mytunnel_sign_in::{Callback, Client, Flow, Identity, SignInError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::form_urlencoded;
use zeroize::Zeroizing;

pub(super) use self::{pages::denied, permit::permits, signed_out::SignedOut, spent::Spent, states::States};
use super::{
    asked::{Asked, OWN, at_home},
    cookies::{self, Name},
    sealed::{self, Carried},
    session::Session,
};
use crate::{
    ingress::{
        failure::Failure,
        host::{self, Destination},
        locked,
    },
    route::{Lookup, Routes},
};

/// Pages below [`OWN`].
pub(super) const SIGN_IN: &str = "sign-in";
pub(super) const SIGN_OUT: &str = "sign-out";
pub(super) const TICKET: &str = "ticket";
const CALLBACK: &str = "callback";

/// Who has signed in is not asked again for so many seconds: half a day.
const SESSION: u64 = 12 * 3600;
/// How long somebody may take at the provider.
const PATIENCE: u64 = 10 * 60;
/// How long the way from the sign-in's host to the tunnel's may take.
const TICKET_LIFE: u64 = 60;
/// Longest path that is carried along.
const MAX_BACK: usize = 1024;

/// Somebody, as the provider vouches for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    /// The person, for ever.
    pub(super) subject: String,
    /// Their address, where the provider knows that it is theirs.
    pub(super) email: Option<String>,
    /// What to call them.
    pub(super) shown: String,
}

impl Who {
    fn of(identity: Identity) -> Self {
        let Identity { subject, shown_email, verified_email, .. } = identity;
        let shown = shown_email.unwrap_or_else(|| subject.clone());
        Self { subject, email: verified_email, shown }
    }

    /// Of a session that was sealed here.
    pub(super) fn read(session: &Session) -> Option<Self> {
        serde_json::from_slice(&session.who).ok()
    }
}

/// From the tunnel's host to the sign-in's.
#[derive(Serialize, Deserialize)]
struct Begin {
    way: Way,
    /// The provider is to ask who it is even if it knows somebody.
    another: bool,
    ends_at: u64,
}

/// Where somebody came from, and the hash of the cookie that they have there.
#[derive(Clone, Serialize, Deserialize)]
struct Way {
    /// The tunnel's host as the browser shows it, with a port where there is one.
    host: String,
    back: String,
    pre: String,
}

/// To the provider and back.
#[derive(Serialize, Deserialize)]
struct State {
    way: Way,
    /// Hash of the cookie at the sign-in's host.
    visit: String,
    ends_at: u64,
    /// Makes it another one each time.
    salt: String,
}

/// Back to the tunnel's host.
#[derive(Serialize, Deserialize)]
struct Ticket {
    way: Way,
    who: Who,
    ends_at: u64,
    salt: String,
}

impl Carried for Begin {
    const LABEL: &'static str = "begin";

    fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

impl Carried for State {
    const LABEL: &'static str = "state";

    fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

impl Carried for Ticket {
    const LABEL: &'static str = "ticket";

    fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places<'a> {
    pub(crate) routes: &'a Routes,
    /// The base domain.
    pub(crate) domain: &'a str,
    /// The host of sign-ins.
    pub(crate) console: &'a str,
}

/// Step 1. `random` becomes the cookie, unless there is one already: of pages that are opened at once each comes to its end.
pub(super) fn begin(
    gate: &SignInGate,
    asked: &Asked<'_>,
    console: &str,
    random: [u8; 32],
) -> Result<Response<Bytes>, Failure> {
    let (host, query) = (asked.shown_host().ok_or(Failure::BadRequest)?, asked.uri.query());
    let pre = token(asked, Name::PRE, &random);
    let back = match asked.own_page() {
        None => asked.way_back().to_owned(),
        Some(_) => {
            parameter(query, "to").filter(|to| at_home(to).is_some()).unwrap_or_else(|| "/".to_owned())
        }
    };
    let back = Some(back).filter(|back| back.len() <= MAX_BACK).unwrap_or_else(|| "/".to_owned());
    let way = Way { host: host.to_owned(), back, pre: hash(&pre) };
    let another = parameter(query, "another").is_some() && asked.own_page().is_some();
    let begin = Begin { way, another, ends_at: asked.now + PATIENCE };
    let sealed = sealed::seal(&gate.session_key, &begin).ok_or(Failure::BadRequest)?;
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port.map(|(_, port)| format!(":{port}")).unwrap_or_default();
    let to = format!("{}://{console}{port}{OWN}{SIGN_IN}?begin={sealed}", asked.scheme());
    let mut response = lead(&to)?;
    put(&mut response, asked, Name::PRE, &pre, PATIENCE);
    Ok(response)
}

/// Steps 2 and 3, at the sign-in's host.
pub(super) async fn at_console(
    (client, states): (&Client, &Mutex<States>),
    asked: &Asked<'_>,
    places: Places<'_>,
    random: [u8; 64],
) -> Result<Response<Bytes>, Failure> {
    match (asked.own_page(), asked.method) {
        (Some(SIGN_IN), &Method::GET) => start(client, asked, places, random).await,
        (Some(CALLBACK), &Method::GET) => finish((client, states), asked, places, random).await,
        (Some(SIGN_IN | CALLBACK), _) => Err(Failure::MethodNotAllowed),
        (Some(_) | None, _) => Err(Failure::UnknownName),
    }
}

async fn start(
    client: &Client,
    asked: &Asked<'_>,
    places: Places<'_>,
    random: [u8; 64],
) -> Result<Response<Bytes>, Failure> {
    let text = parameter(asked.uri.query(), "begin").ok_or(Failure::SignInStale)?;
    let peeked: Begin = sealed::peek(&text).ok_or(Failure::SignInStale)?;
    let gate = gate_of(&peeked.way.host, places)?;
    let Begin { way, another, .. } =
        sealed::open(&gate.session_key, &text, asked.now).ok_or(Failure::SignInStale)?;
    let (visit, salt) = (token(asked, Name::VISIT, &random[..32]), BASE64URL_NOPAD.encode(&random[32..]));
    let state = State { way, visit: hash(&visit), ends_at: asked.now + PATIENCE, salt };
    let state = sealed::seal(&gate.session_key, &state).ok_or(Failure::BadRequest)?;
    let flow = flow(&gate.session_key, state);
    let redirect = redirect_uri(asked)?;
    let address = client.address(&gate.provider, &flow, &redirect, None, asked.now).await;
    let mut address = address.map_err(|error| trouble(&gate.provider, &error))?;
    if another {
        // Google shows a list; others ask for the password, which leads to somebody else as well.
        address.push_str(if gate.provider == "google" { "&prompt=select_account" } else { "&prompt=login" });
    }
    let mut response = lead(&address)?;
    put(&mut response, asked, Name::VISIT, &visit, PATIENCE);
    Ok(response)
}

async fn finish(
    (client, states): (&Client, &Mutex<States>),
    asked: &Asked<'_>,
    places: Places<'_>,
    random: [u8; 64],
) -> Result<Response<Bytes>, Failure> {
    let query = asked.uri.query();
    let text = parameter(query, "state").ok_or(Failure::SignInStale)?;
    let peeked: State = sealed::peek(&text).ok_or(Failure::SignInStale)?;
    let gate = gate_of(&peeked.way.host, places)?;
    let state: State = sealed::open(&gate.session_key, &text, asked.now).ok_or(Failure::SignInStale)?;
    // The browser is the one that was sent to the provider.
    if !asked.cookie(Name::VISIT).is_some_and(|visit| is_same(&state.visit, visit)) {
        return Err(Failure::SignInStale);
    }
    let callback = Callback {
        code: parameter(query, "code").map(Zeroizing::new),
        iss: parameter(query, "iss"),
        error: parameter(query, "error"),
    };
    // Made up codes are not asked about by one sign-in again and again. Who has brought none may yet think otherwise.
    if callback.code.is_some() && !locked(states).spend(&text, asked.now) {
        return Err(Failure::SignInStale);
    }
    let flow = flow(&gate.session_key, text);
    let redirect = redirect_uri(asked)?;
    let identity = client.identify(&gate.provider, &flow, &callback, &redirect, asked.now).await;
    if matches!(identity, Err(SignInError::Busy)) {
        locked(states).give_back(&flow.state);
    }
    let who = Who::of(identity.map_err(|error| trouble(&gate.provider, &error))?);
    let salt = BASE64URL_NOPAD.encode(&random[32..]);
    let host = state.way.host.clone();
    let ticket = Ticket { way: state.way, who, ends_at: asked.now + TICKET_LIFE, salt };
    let ticket = sealed::seal(&gate.session_key, &ticket).ok_or(Failure::BadRequest)?;
    // The cookie stays for as long as it lives: another page may be on its way.
    lead(&format!("{}://{host}{OWN}{TICKET}?ticket={ticket}", asked.scheme()))
}

/// Step 4.
pub(super) fn redeem(
    gate: &SignInGate,
    asked: &Asked<'_>,
    spend: impl FnOnce(&str, u64) -> Result<(), Failure>,
) -> Result<Response<Bytes>, Failure> {
    let text = parameter(asked.uri.query(), "ticket").ok_or(Failure::SignInStale)?;
    let ticket: Ticket = sealed::open(&gate.session_key, &text, asked.now).ok_or(Failure::SignInStale)?;
    let Ticket { way, who, .. } = ticket;
    // The browser is the one that was sent to sign in, from this host.
    let is_own = asked.cookie(Name::PRE).is_some_and(|pre| is_same(&way.pre, pre));
    if asked.shown_host() != Some(way.host.as_str()) {
        return Err(Failure::SignInStale);
    }
    let spent = if is_own { spend(&text, asked.now) } else { Err(Failure::SignInStale) };
    match (spent, asked.session(Name::GATE, &gate.session_key)) {
        (Ok(()), _) => {}
        // Another page of this browser was first, or this one is looked at again: who is in already only goes on.
        (Err(Failure::SignInStale), Some(_)) => return lead(at_home(&way.back).unwrap_or("/")),
        (Err(failure), _) => return Err(failure),
    }
    let session = Session {
        ends_at: asked.now + SESSION,
        who: serde_json::to_vec(&who).map_err(|_| Failure::BadRequest)?,
    };
    let mut response = lead(at_home(&way.back).unwrap_or("/"))?;
    put(&mut response, asked, Name::GATE, &session.seal(&gate.session_key, asked.host), SESSION);
    put(&mut response, asked, Name::PRE, "", 0);
    Ok(response)
}

/// Shows the button with which somebody signs out, and lets them out by it.
pub(super) fn sign_out(
    asked: &Asked<'_>,
    tunnel: &str,
    who: Option<&Who>,
) -> Result<Response<Bytes>, Failure> {
    if asked.method != Method::POST {
        return Ok(pages::sign_out(tunnel, who));
    }
    if !asked.is_from_own_page() {
        return Err(Failure::CrossSite);
    }
    let mut response = pages::signed_out(tunnel);
    put(&mut response, asked, Name::GATE, "", 0);
    Ok(response)
}

/// The sign-in of the tunnel that is at this host, as the browser shows it.
fn gate_of(shown: &str, places: Places<'_>) -> Result<SignInGate, Failure> {
    let authority = host::parse(shown.as_bytes()).map_err(|_| Failure::SignInStale)?;
    let Places { routes, domain, console } = places;
    let Destination::Tunnel(label) = routes.destination(&authority.host, domain, console) else {
        return Err(Failure::SignInStale);
    };
    let gates = match routes.find(&label) {
        Lookup::Live(tunnel) if tunnel.kind() == TunnelKind::Http => tunnel.gates(),
        // Its node may be at another relay.
        Lookup::Away => Some(routes.known_gates(&label).ok_or(Failure::Away)?),
        Lookup::Ended => return Err(Failure::Ended),
        Lookup::Live(_) | Lookup::Unknown => return Err(Failure::UnknownName),
    };
    gates.and_then(|gates| gates.sign_in.clone()).ok_or(Failure::SignInStale)
}

fn flow(key: &SessionKey, state: String) -> Flow {
    let made = |label| Zeroizing::new(BASE64URL_NOPAD.encode(&sealed::derive(key, label, &state)));
    let (nonce, verifier) = (made("nonce"), made("verifier"));
    Flow { state: Zeroizing::new(state), nonce, verifier }
}

/// What the operator has registered with the provider.
fn redirect_uri(asked: &Asked<'_>) -> Result<String, Failure> {
    let host = asked.shown_host().ok_or(Failure::BadRequest)?;
    Ok(format!("{}://{host}{OWN}{CALLBACK}", asked.scheme()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it is, it is the provider's")]
fn trouble(provider: &str, error: &SignInError) -> Failure {
    match error {
        SignInError::Declined => Failure::SignInDeclined,
        SignInError::Domain => Failure::AccessDenied,
        SignInError::Busy => Failure::GateBusy,
        SignInError::UnknownProvider => Failure::SignInUnavailable,
        SignInError::NoCode | SignInError::OtherIssuer => Failure::SignInStale,
        error => {
            // Nothing of the visitor is in it.
            tracing::warn!(provider, %error, "a visitor could not sign in");
            Failure::SignInDown
        }
    }
}

fn lead(to: &str) -> Result<Response<Bytes>, Failure> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::try_from(to).map_err(|_| Failure::BadRequest)?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // An address on the way holds what is good once.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn put(response: &mut Response<Bytes>, asked: &Asked<'_>, name: Name, value: &str, seconds: u64) {
    if let Some(cookie) = cookies::set(name, asked.visitor.is_secure(), value, seconds) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// The first of that name; one that is there twice is ours to choose.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn hash(token: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(token.as_bytes()))
}

fn is_same(known: &str, token: &[u8]) -> bool {
    let shown = BASE64URL_NOPAD.encode(&Sha256::digest(token));
    bool::from(known.as_bytes().ct_eq(shown.as_bytes()))
}

/// The cookie of that name if it is one, else a new one of `random`.
fn token(asked: &Asked<'_>, name: Name, random: &[u8]) -> String {
    match asked.cookie(name).filter(|value| is_token(value)) {
        Some(known) => String::from_utf8_lossy(known).into_owned(),
        None => BASE64URL_NOPAD.encode(random),
    }
}

/// Whether a cookie's value can be one that was made here.
fn is_token(value: &[u8]) -> bool {
    value.len() == 43 && BASE64URL_NOPAD.decode(value).is_ok()
}

#[cfg(test)]
mod tests;
