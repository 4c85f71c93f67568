//! A request on its way to its handler: body read, caller proven, parameters parsed.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use mytunnel_keys::error::Code;
use mytunnel_keys::proof::{self, UnverifiedRequest};
use mytunnel_keys::wire;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::{App, MINT, RENEW};
use crate::accounts;
use crate::authority::{self, Caller, Refusal};
use crate::replays::Repeat;
use crate::store::Visit;

/// Time that a client has to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A text with it cannot be kept in PostgreSQL, and is refused whatever the store.
const NUL: &str = "a text has the character U+0000, which is not taken; leave it out";

/// Characters of a browser's name that are kept with its session.
const MAX_AGENT: usize = 200;

/// The address that a request came from, for limits and the audit log. Whoever accepts connections puts it into
/// the request's extensions; without it all callers share one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// A request of a proven caller.
#[derive(Debug)]
pub(super) struct Call<B> {
    pub(super) caller: Caller,
    pub(super) visit: Visit,
    pub(super) body: B,
}

/// A request that anybody may make.
#[derive(Debug)]
pub(super) struct Open<B> {
    pub(super) visit: Visit,
    pub(super) body: B,
}

/// What a handler makes of the bytes of a body.
pub(super) trait ReadBody: Sized {
    fn read(bytes: Bytes) -> Result<Self, ApiError>;
}

/// Whatever was sent does not matter.
impl ReadBody for () {
    fn read(_: Bytes) -> Result<Self, ApiError> {
        Ok(())
    }
}

/// Nothing, or something that is read.
impl<B: ReadBody> ReadBody for Option<B> {
    fn read(bytes: Bytes) -> Result<Self, ApiError> {
        if bytes.is_empty() { Ok(None) } else { B::read(bytes).map(Some) }
    }
}

impl<T: DeserializeOwned> ReadBody for Json<T> {
    fn read(bytes: Bytes) -> Result<Self, ApiError> {
        if has_nul(&bytes) {
            return Err(ApiError::bad_request(NUL));
        }
        // serde's message names the field and the fault, in terms of what the caller sent.
        serde_json::from_slice(&bytes).map(Json).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}

/// Does a text in this JSON have the character U+0000? It can only be there as an escape.
fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

/// A body in the encoding of the wire.
#[derive(Debug)]
pub(super) struct Cbor<T>(pub(super) T);

impl<T: DeserializeOwned> ReadBody for Cbor<T> {
    fn read(bytes: Bytes) -> Result<Self, ApiError> {
        wire::decode(&bytes).map(Self).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}

impl<B: ReadBody> FromRequest<App> for Open<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        Ok(Self { visit: visit(&parts), body: B::read(whole(body, app.limits.body).await?)? })
    }
}

impl<B: ReadBody> FromRequest<App> for Call<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = whole(body, app.limits.body).await?;
        let caller = authenticate(app, &parts, &bytes).await?;
        Ok(Self { caller, visit: visit(&parts), body: B::read(bytes)? })
    }
}

impl FromRequestParts<App> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(visit(parts))
    }
}

fn visit(parts: &Parts) -> Visit {
    let agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let agent = String::from_utf8_lossy(agent);
    Visit {
        address: parts.extensions.get::<ClientAddress>().map(|address| address.0),
        agent: agent.chars().filter(|letter| !letter.is_control()).take(MAX_AGENT).collect(),
    }
}

async fn whole(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await;
    let read =
        read.map_err(|_| ApiError::Http(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))?;
    read.map_err(|error| {
        let too_long = std::error::Error::source(&error)
            .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        if too_long {
            ApiError::refused(Code::PayloadTooLarge, format!("the body is longer than {limit} bytes"))
        } else {
            ApiError::bad_request("the body broke off")
        }
    })
}

async fn authenticate(app: &App, parts: &Parts, body: &[u8]) -> Result<Caller, ApiError> {
    let header = authorization(&parts.headers)?;
    if let Some(token) = bearer(header) {
        return by_session(app, token).await;
    }
    let scheme = header.split_once(' ').map_or(header, |(scheme, _)| scheme);
    if scheme.eq_ignore_ascii_case(proof::SCHEME) {
        return by_proof(app, header, parts, body).await;
    }
    Err(ApiError::refused(Code::InvalidKey, "the Authorization header is neither Bearer nor Mytunnel"))
}

fn authorization(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing =
        || ApiError::refused(Code::InvalidKey, "this needs a sign-in, or a request signed by a key");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(ApiError::bad_request("more than one Authorization header"));
    }
    first.to_str().map_err(|_| missing())
}

async fn by_session(app: &App, token: &str) -> Result<Caller, ApiError> {
    let account = app.store.session(accounts::access_hash(token), app.clock.now()).await?;
    let ended =
        || ApiError::refused(Code::InvalidKey, "this access token is not valid, or has ended; sign in again");
    account.map(Caller::Account).ok_or_else(ended)
}

async fn by_proof(app: &App, header: &str, parts: &Parts, body: &[u8]) -> Result<Caller, ApiError> {
    let refused = |error: proof::ProofError| ApiError::refused(error.code(), error.to_string());
    let unverified = UnverifiedRequest::parse(header).map_err(refused)?;
    let key = app.store.key(unverified.serial()).await?.ok_or_else(Refusal::unknown_key)?;
    let now = app.clock.now();
    let request = proof::Request {
        cluster: app.issuer.cluster(),
        method: parts.method.as_str(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        body,
    };
    let proof = unverified.verify(&key.subject, &request, now).map_err(refused)?;
    let standing = if parts.uri.path() == RENEW { authority::may_ask_renewal } else { authority::stands };
    if let Err(refusal) = standing(&key, now) {
        app.note_refused_request(&key, &refusal).await;
        return Err(refusal.into());
    }
    // A repeated mint gives the same child again, which lets a client try again after a lost answer.
    if parts.uri.path() != MINT {
        let seen = || ApiError::refused(Code::InvalidKey, "this request was made before; sign a new one");
        app.replays().admit(&proof, key.kind, now).map_err(|repeat| match repeat {
            Repeat::Seen => seen(),
            Repeat::Full => ApiError::TooMany(proof::WINDOW),
        })?;
        if !app.store.use_proof(&proof, now).await? {
            return Err(seen());
        }
    }
    Ok(Caller::Key(Box::new(key)))
}

/// The access token of a request, not checked; none if there is no Authorization header at all.
#[derive(Debug)]
pub(super) struct MaybeBearer(pub(super) Option<String>);

impl FromRequestParts<App> for MaybeBearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(Self(None));
        }
        let token = bearer(authorization(&parts.headers)?).map(str::to_owned);
        let missing = || ApiError::refused(Code::InvalidKey, "this needs an access token");
        token.ok_or_else(missing).map(|token| Self(Some(token)))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}

/// Parameters behind the `?`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request(NUL));
        }
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|error| ApiError::bad_request(error.body_text()))
    }
}

/// The one variable segment of a path. What does not parse names nothing.
#[derive(Debug)]
pub(super) struct Segment<T>(pub(super) T);

impl<T: FromStr> FromRequestParts<App> for Segment<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let nothing = || ApiError::Http(StatusCode::NOT_FOUND, "there is nothing here");
        let Path(text) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| nothing())?;
        if text.contains('\0') {
            return Err(nothing());
        }
        text.parse().map(Self).map_err(|_| nothing())
    }
}
