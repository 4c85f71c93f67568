//! What happens to one request: whom it is for, whether it may, and the way to the tunnel and back.

mod silence;
mod tries;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ACCEPT, CONTENT_LENGTH, LOCATION, STRICT_TRANSPORT_SECURITY},
    request::Parts,
};
use http_body::Body as _;
use hyper::body::Incoming;
use mytunnel_keys::{feed::Gates, id::TunnelKind};
use tokio::time::Instant;

use super::{
    Shared, VisitorAddress,
    body::{Download, ResponseBody, VisitorBody},
    deadline::Stage,
    exchange::{Exchange, Turn},
    failure::Failure,
    forward::{Forward, Protocol},
    head,
    host::{self, Destination},
    http2, nodes,
    upgrade::{Next, Upgrade},
    visit::Visit,
};
use crate::{
    gate::{self, Asked, Denied, Entry, Own, Passed, Places},
    route::{Lookup, Tunnel},
};

/// How long browsers ask for the console with TLS only (RFC 6797). Tunnels say that for themselves.
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Serves the requests of one visitor connection.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    visit: Arc<Visit>,
}

/// Whom a request is for.
enum Target {
    Console,
    Live(Arc<Tunnel>),
    Away(Box<str>),
    /// Its TLS ends behind the relay: what is said to the relay is none of its.
    PassedThrough,
}

/// Why a request is answered here.
enum Refused {
    Failed(Failure),
    Denied(Denied),
    /// It is to be asked for over TLS.
    Moved(HeaderValue),
}

impl Proxy {
    pub(crate) fn new(shared: Arc<Shared>, visit: Arc<Visit>) -> Self {
        Self { shared, visit }
    }

    /// Answers one request. Whatever goes wrong before the head of a response is a page.
    pub(crate) async fn serve(&self, mut request: Request<VisitorBody>) -> Response<ResponseBody> {
        self.visit.request();
        let accept = request.headers().get(ACCEPT).cloned();
        let by_proxy = || self.shared.proxies.trust(self.visit.visitor().ip());
        let entry = self.shared.access_log.begin(&request, by_proxy);
        let turn = Turn::take(&self.visit, request.headers(), &self.shared, entry.clone());
        let (sender, is_head) = (turn.sender(), request.method() == Method::HEAD);
        let answered = match self.way(&mut request, &turn) {
            Ok((Target::Live(tunnel), protocol)) => self.enter(tunnel, request, protocol, turn).await,
            // Each is rare beside the first: boxed, so that no visitor's connection has to have room for it.
            Ok((target, protocol)) => Box::pin(self.otherwise(target, request, protocol, turn)).await,
            Err(refused) => Err(refused),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(refused) => {
                if let Some(failure) = refused.failure() {
                    self.shared.tally.refused(failure);
                }
                refused.page(accept)
            }
        };
        if self.visit.is_multiplexed() {
            http2::response::clean(response.headers_mut());
            let place = || Turn::of_page(&self.visit, sender, &self.shared);
            // hyper would send the page after a HEAD as well.
            response.body_mut().hold(|| if is_head { None } else { place() });
        }
        if let Some(entry) = entry {
            entry.answered(response.status(), response.headers());
            if let Some(length) = response.body().page_length() {
                entry.count(length);
            }
        }
        response
    }

    /// Whom a request is for, if it may be served at all. A request in HTTP/2 becomes one in HTTP/1.1.
    fn way(&self, request: &mut Request<VisitorBody>, turn: &Turn) -> Result<(Target, Protocol), Refused> {
        if self.visit.is_objected() {
            return Err(Failure::BadRequest.into());
        }
        let protocol = Protocol::of(request, &self.shared.limits)?;
        if !turn.is_entered() {
            return Err(Failure::VisitorBusy.into());
        }
        if !self.shared.rates.admit_from(turn.visitor().ip(), gate::unix()) {
            return Err(Failure::VisitorHasty.into());
        }
        let target = self.target(request)?;
        if self.shared.only_https && self.shared.https_port.is_some() && !turn.visitor().is_secure() {
            return Err(self.elsewhere(request, turn));
        }
        Ok((target, protocol))
    }

    /// Serves what is for no node that is here.
    async fn otherwise(
        &self,
        target: Target,
        request: Request<VisitorBody>,
        protocol: Protocol,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Refused> {
        match target {
            // It opens no WebSockets, and what it answers must not look as if it had.
            Target::Console if protocol == Protocol::WebSocketOverHttp2 => {
                Err(Failure::MethodNotAllowed.into())
            }
            Target::Console if nodes::is_of_node(&request) => Ok(self.take_node(request, &turn)?),
            Target::Console if self.is_sign_in(&request) => Ok(self.sign_in(request, turn).await?),
            Target::Console => Ok(self.console(request, turn).await?),
            Target::Live(tunnel) => self.enter(tunnel, request, protocol, turn).await,
            Target::PassedThrough => Err(self.elsewhere(&request, &turn)),
            Target::Away(label) => {
                if let Some(step) = self.step(&label, &request, &turn) {
                    return step;
                }
                let patience = self.shared.limits.away_patience;
                let tunnel = live(self.shared.routes.wait_live(&label, patience).await)?;
                self.enter(tunnel, request, protocol, turn).await
            }
        }
    }

    fn target(&self, request: &Request<VisitorBody>) -> Result<Target, Failure> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Failure::MethodNotAllowed);
        }
        let authority = host::requested(request.uri(), request.headers()).map_err(|_| Failure::BadRequest)?;
        let Shared { routes, domain, console, .. } = &*self.shared;
        match routes.destination(&authority.host, domain, console) {
            Destination::Console => Ok(Target::Console),
            Destination::Nowhere => Err(Failure::UnknownName),
            Destination::Tunnel(label) => match routes.lead(&label) {
                Lookup::Live(tunnel) if tunnel.kind() == TunnelKind::Tls => Ok(Target::PassedThrough),
                Lookup::Live(tunnel) if tunnel.is_closed() => Ok(Target::Away((*label).into())),
                Lookup::Away | Lookup::Ended if routes.is_passed_through(&label) => Ok(Target::PassedThrough),
                Lookup::Away => Ok(Target::Away((*label).into())),
                found @ (Lookup::Live(_) | Lookup::Ended | Lookup::Unknown) => live(found).map(Target::Live),
            },
        }
    }

    /// Where to ask instead: with TLS.
    fn elsewhere(&self, request: &Request<VisitorBody>, turn: &Turn) -> Refused {
        let Some(port) = self.shared.https_port.filter(|_| !turn.visitor().is_secure()) else {
            return Failure::Misdirected.into();
        };
        let Ok(authority) = host::requested(request.uri(), request.headers()) else {
            return Failure::BadRequest.into();
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let location = HeaderValue::try_from(format!("https://{}{port}{path}", authority.host));
        location.map_or_else(|_| Failure::BadRequest.into(), Refused::Moved)
    }

    /// Whether a request for the console's host is one of a visitor who signs in.
    fn is_sign_in(&self, request: &Request<VisitorBody>) -> bool {
        request.uri().path().starts_with(gate::OWN) && self.shared.gates.offers_sign_ins()
    }

    /// A node that comes by a WebSocket.
    fn take_node(
        &self,
        mut request: Request<VisitorBody>,
        turn: &Turn,
    ) -> Result<Response<ResponseBody>, Failure> {
        let entrance = self.shared.nodes.as_ref().ok_or(Failure::UnknownName)?;
        // The port is not known where a proxy has the connection, nor of use anywhere.
        let from = SocketAddr::new(turn.visitor().ip(), 0);
        let (response, socket) = nodes::agree(&mut request, entrance, from)?;
        self.visit.enter(Stage::Responding);
        self.visit.set_next(Next::Node(socket));
        Ok(response)
    }

    async fn sign_in(
        &self,
        request: Request<VisitorBody>,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (parts, _) = request.into_parts();
        let authority = host::requested(&parts.uri, &parts.headers).map_err(|_| Failure::BadRequest)?;
        let asked = asked(&parts, &authority.host, &turn);
        let Shared { routes, domain, console, .. } = &*self.shared;
        let page = self.shared.gates.sign_in(&asked, Places { routes, domain, console }).await?;
        Ok(page.map(ResponseBody::page))
    }

    /// Answers a request for a tunnel whose node is not here, if it is one of a sign-in.
    fn step(
        &self,
        label: &str,
        request: &Request<VisitorBody>,
        turn: &Turn,
    ) -> Option<Result<Response<ResponseBody>, Refused>> {
        let gates = self.shared.routes.known_gates(label)?;
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let (name, authority) = (label.parse().ok()?, host::requested(uri, headers).ok()?);
        let (visitor, host) = (turn.visitor(), &*authority.host);
        let asked = Asked { method, uri, headers, visitor, host, now: gate::unix(), signed_out: false };
        let page = self.shared.gates.step(&name, &gates, &asked)?;
        Some(page.map(|page| page.map(ResponseBody::page)).map_err(Refused::from))
    }

    async fn console(
        &self,
        mut request: Request<VisitorBody>,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Failure> {
        let Some(service) = &self.shared.console_service else { return Err(Failure::UnknownName) };
        request.extensions_mut().insert(VisitorAddress(turn.visitor().ip()));
        let mut response = service(request).await;
        if self.shared.only_https && turn.visitor().is_secure() {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, A_YEAR);
        }
        Ok(response.map(|body| ResponseBody::console(body, turn)))
    }

    /// Past the gates of a tunnel, and on to its node.
    async fn enter(
        &self,
        tunnel: Arc<Tunnel>,
        request: Request<VisitorBody>,
        protocol: Protocol,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Refused> {
        let passed = match tunnel.gates() {
            None => Passed::open(),
            Some(gates) => match self.pass(&tunnel, gates, &request, &turn).await? {
                Entry::Passed(passed) => passed,
                Entry::Own(own) => return Box::pin(self.answer_own(&own, &tunnel, request, &turn)).await,
            },
        };
        let forward = self.prepare(&tunnel, request, protocol, (passed, &turn))?;
        self.forward(tunnel, forward, turn).await
    }

    async fn pass(
        &self,
        tunnel: &Tunnel,
        gates: Arc<Gates>,
        request: &Request<VisitorBody>,
        turn: &Turn,
    ) -> Result<Entry, Refused> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let authority = host::requested(uri, headers).map_err(|_| Failure::BadRequest)?;
        let (visitor, host) = (turn.visitor(), &*authority.host);
        let asked = Asked { method, uri, headers, visitor, host, now: gate::unix(), signed_out: false };
        Ok(self.shared.gates.pass(tunnel, gates, &asked).await?)
    }

    /// Answers with a page of the gates' own.
    async fn answer_own(
        &self,
        own: &Own,
        tunnel: &Tunnel,
        request: Request<VisitorBody>,
        turn: &Turn,
    ) -> Result<Response<ResponseBody>, Refused> {
        let (parts, body) = request.into_parts();
        let authority = host::requested(&parts.uri, &parts.headers).map_err(|_| Failure::BadRequest)?;
        let page = self.shared.gates.answer(own, tunnel, &asked(&parts, &authority.host, turn), body).await?;
        Ok(page.map(ResponseBody::page))
    }

    async fn answer(
        &self,
        response: Response<Incoming>,
        mut exchange: Exchange,
        forward: &mut Forward,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (mut head, incoming) = response.into_parts();
        // The version is a matter of each connection (RFC 9110 §2.5).
        head.version = Version::HTTP_11;
        let only_secure = self.shared.only_https && turn.visitor().is_secure();
        head::to_visitor(head.status, &mut head.headers, only_secure).map_err(|_| Failure::Broken)?;
        self.visit.enter(Stage::Responding);
        let lasts = forward.passed.lasts().map(Duration::from_secs);
        let ends = lasts.and_then(|lasts| Instant::now().checked_add(lasts));
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // A server that speaks something else from here on would not be understood, or be spoken to past every check.
            let agreed =
                forward.upgrade.take().filter(|(_, asked)| head::is_switched_to(asked, &head.headers));
            let (Some((visitor, _)), Some((node, first))) = (agreed, exchange.take_pipe().await) else {
                return Err(Failure::Broken);
            };
            let upgrade = Upgrade { visitor, node, first, exchange, ends, _turn: turn };
            self.visit.set_next(Next::Splice(upgrade));
            if forward.protocol == Protocol::WebSocketOverHttp2 {
                http2::response::open_websocket(&mut head);
            }
            return Ok(Response::from_parts(head, ResponseBody::empty()));
        }
        if forward.protocol == Protocol::WebSocketOverHttp2 && head.status.is_success() {
            // To who has sent a CONNECT this would mean that the WebSocket is open.
            return Err(Failure::Broken);
        }
        if incoming.is_end_stream() {
            return Ok(Response::from_parts(head, ResponseBody::empty()));
        }
        let begun = Download::begin(incoming, exchange, turn, ends).await.map_err(|_| Failure::Broken)?;
        let body = begun.map_or_else(ResponseBody::empty, ResponseBody::download);
        if forward.protocol == Protocol::Http10 && !head.headers.contains_key(CONTENT_LENGTH) {
            self.visit.set_close_delimited();
        }
        Ok(Response::from_parts(head, body))
    }
}

/// What gates look at of a request.
fn asked<'a>(parts: &'a Parts, host: &'a str, turn: &'a Turn) -> Asked<'a> {
    let Parts { method, uri, headers, .. } = parts;
    Asked { method, uri, headers, visitor: turn.visitor(), host, now: gate::unix(), signed_out: false }
}

fn live(found: Lookup) -> Result<Arc<Tunnel>, Failure> {
    match found {
        Lookup::Live(tunnel) if tunnel.kind() == TunnelKind::Http => Ok(tunnel),
        Lookup::Live(tunnel) if tunnel.kind() == TunnelKind::Tls => Err(Failure::Misdirected),
        Lookup::Live(_) | Lookup::Unknown => Err(Failure::UnknownName),
        Lookup::Ended => Err(Failure::Ended),
        Lookup::Away => Err(Failure::Away),
    }
}

impl Refused {
    /// What is wrong, where something is.
    const fn failure(&self) -> Option<Failure> {
        match self {
            Self::Failed(failure) => Some(*failure),
            Self::Denied(denied) => Some(denied.failure()),
            Self::Moved(_) => None,
        }
    }

    fn page(self, accept: Option<HeaderValue>) -> Response<ResponseBody> {
        let asked: HeaderMap = accept.into_iter().map(|value| (ACCEPT, value)).collect();
        let page = match self {
            Self::Failed(failure) => failure.response(&asked),
            Self::Denied(denied) => denied.response(&asked),
            Self::Moved(location) => {
                let mut moved = Response::new(Bytes::new());
                *moved.status_mut() = StatusCode::PERMANENT_REDIRECT;
                moved.headers_mut().insert(LOCATION, location);
                moved
            }
        };
        page.map(ResponseBody::page)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}
