//! Asking the coordinator: JSON over HTTP, each request proved by a session or by a key.
//!
//! Blocking, with a time-out for everything; a command asks a few questions one after the other. Every way an answer
//! can fail to come is a [`Failure`] that names the server and the remedy, and a wrong clock is recognised as what it
//! is, because it makes good keys look bad.

mod pinned;
mod proof;
mod trouble;

use std::cell::Cell;
use std::time::{Duration, Instant};

use mytunnel_keys::api::ErrorBody;
use mytunnel_keys::error::Code;
use mytunnel_keys::token::ServerUrl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body};

pub(crate) use self::proof::Signer;
use self::trouble::{not_a_coordinator, unreachable};
use crate::clock::Skew;
use crate::context::now;
use crate::failure::Failure;

/// Before every path below.
const PREFIX: &str = "/api/v1";
/// A revocation waits for its relays, 2 s at most; anything longer is a fault.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer is the audit log's page.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

thread_local! {
    /// When whoever asks on this thread has no more time.
    static END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does something with an end: what is asked of coordinators meanwhile, on this thread, is answered by then or fails.
pub(crate) fn within<T>(time: Duration, work: impl FnOnce() -> T) -> T {
    let before = END.replace(Some(Instant::now() + time));
    let done = work();
    END.set(before);
    done
}

/// What is left of the time.
fn patience() -> Duration {
    let left = END.get().map(|end| end.saturating_duration_since(Instant::now()));
    // None at all would be no end to ureq.
    left.map_or(PATIENCE, |left| left.clamp(Duration::from_millis(1), PATIENCE))
}

/// As whom a request is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum As<'a> {
    /// Nobody in particular.
    Anyone,
    /// A person, with the token of a session.
    Session(&'a str),
    /// The holder of a key.
    Key(&'a Signer),
}

/// One coordinator.
#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    server: ServerUrl,
    skew: Cell<Skew>,
}

impl Api {
    pub(crate) fn new(server: &ServerUrl) -> Self {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::WebPki)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .timeout_connect(Some(CONNECT_PATIENCE))
            .http_status_as_error(false)
            // A redirect would carry the proof to somewhere it was not made for.
            .max_redirects(0)
            .user_agent(concat!("mytunnel/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        // A pin that no TLS can be set up for fails as an unknown issuer would: nobody vouches for the server then.
        let agent = match server.pin().and_then(|pin| pinned::connector(*pin).ok()) {
            Some(connector) => Agent::with_parts(config, connector, DefaultResolver::default()),
            None => Agent::new_with_config(config),
        };
        Self { agent, server: server.clone(), skew: Cell::new(Skew::UNKNOWN) }
    }

    /// This machine's clock against the server's, as of the last answer.
    pub(crate) fn skew(&self) -> Skew {
        self.skew.get()
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, who: As<'_>, path: &str) -> Result<T, Failure> {
        self.ask(&Method::GET, who, path, Vec::new())
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, who: As<'_>, path: &str) -> Result<T, Failure> {
        self.ask(&Method::DELETE, who, path, Vec::new())
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        who: As<'_>,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(&Method::POST, who, path, written(body)?)
    }

    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        who: As<'_>,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(&Method::PUT, who, path, written(body)?)
    }

    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        who: As<'_>,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(&Method::PATCH, who, path, written(body)?)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        who: As<'_>,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let path = format!("{PREFIX}{path}");
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server.base()));
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request = match who {
            As::Anyone => request,
            As::Session(token) => request.header("authorization", format!("Bearer {token}")),
            As::Key(signer) => {
                request.header("authorization", signer.authorization(method.as_str(), &path, &body, now())?)
            }
        };
        let request = request
            .body(body)
            .map_err(|error| Failure::new(Code::Internal, format!("cannot write the request: {error}")))?;
        let request = self.agent.configure_request(request).timeout_global(Some(patience())).build();
        let mut response = self.agent.run(request).map_err(|error| unreachable(&self.server, &error))?;
        let content = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| unreachable(&self.server, &error))?;
        self.read(&response, &content)
    }

    fn read<T: DeserializeOwned>(&self, response: &Response<Body>, content: &[u8]) -> Result<T, Failure> {
        let skew = Skew::of_date_header(response.headers().get("date"), now());
        self.skew.set(skew);
        if response.status().is_success() {
            // Some answers have nothing to say but that it is done.
            let content = if content.is_empty() { b"null" } else { content };
            return serde_json::from_slice(content)
                .map_err(|_| not_a_coordinator(&self.server, response.status()));
        }
        match serde_json::from_slice::<ErrorBody>(content) {
            Ok(body) => Err(skew.explain(Failure::from_api(body.error))),
            Err(_) => Err(not_a_coordinator(&self.server, response.status())),
        }
    }
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body)
        .map_err(|error| Failure::new(Code::Internal, format!("cannot write the request: {error}")))
}
