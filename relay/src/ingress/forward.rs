//! A request on its way from a visitor to the node: what it was, and what it becomes.

use std::sync::Arc;

use super::{
    body::{Granted, HeldUpload, Permission, RequestBody, Upload, VisitorBody},
    failure::Failure,
    head::{self, Visitor},
    http2,
    limits::Limits,
    upgrade::Way,
    upstream::Speech,
    visit::Visit,
};
use crate::{gate::Passed, route::Tunnel};
use http::{
    HeaderMap, HeaderValue, Request, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body::Body as _;

/// What the visitor speaks, where that makes a difference to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Knows no chunks: a body without a length ends with the connection.
    Http10,
    Http11,
    Http2,
    /// Has opened a stream for a WebSocket (RFC 8441), which the node is asked for in the way of HTTP/1.1.
    WebSocketOverHttp2,
}

/// A request that was given to a node, for another to get if the first does not take it.
pub(super) struct Spare {
    head: Box<Request<RequestBody>>,
    upload: Option<HeldUpload>,
}

impl Spare {
    /// Of a request without a body.
    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        Self { head: copy(request), upload: None }
    }

    /// Of any request: what it uploads is held back until the node's server has taken the connection.
    pub(super) fn until(accepted: &Arc<Granted>, request: &mut Request<RequestBody>) -> Self {
        let upload =
            matches!(request.body(), RequestBody::Upload(_)).then(|| request.body_mut().hold(accepted));
        Self { upload, ..Self::of(request) }
    }

    /// The request again; none when a part of it was sent.
    pub(super) fn again(self) -> Option<Box<Request<RequestBody>>> {
        let mut request = self.head;
        if let Some(upload) = self.upload {
            *request.body_mut() = RequestBody::Upload(upload.take()?);
        }
        Some(request)
    }
}

impl Protocol {
    /// What `request` came in. A request in HTTP/2 becomes one in HTTP/1.1.
    pub(super) fn of<B>(request: &mut Request<B>, limits: &Limits) -> Result<Self, Failure> {
        if !expects_what_is_known(request.headers()) {
            return Err(Failure::BadRequest);
        }
        if request.version() == Version::HTTP_2 {
            return http2::request::translate(request, limits);
        }
        Ok(if request.version() == Version::HTTP_10 { Self::Http10 } else { Self::Http11 })
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Forward {
    /// `None` while it is with a pipe.
    pub(super) request: Option<Box<Request<RequestBody>>>,
    /// May be sent twice: it changes nothing and has no body (RFC 9110 §9.2.2).
    pub(super) repeatable: bool,
    /// Whether it changes nothing at whoever gets it, and has not been repeated at another node yet.
    pub(super) has_second_try: bool,
    /// What becomes of the visitor's connection after a 101, and the protocol that was asked for.
    pub(super) upgrade: Option<(Way, HeaderValue)>,
    pub(super) protocol: Protocol,
    /// What the node's server is spoken to in.
    pub(super) speech: Speech,
    pub(super) passed: Passed,
    /// The domain of a tenant's own that it came by.
    pub(super) domain: Option<Box<str>>,
}

impl Forward {
    /// It goes to this tunnel from here on.
    pub(super) fn lead_to(&mut self, tunnel: &Arc<Tunnel>) {
        if let Some(request) = &mut self.request {
            request.body_mut().lead_to(tunnel);
        }
    }
}

/// Turns a visitor's request into one for the node.
pub(super) fn prepare(
    mut request: Request<VisitorBody>,
    protocol: Protocol,
    tunnel: &Arc<Tunnel>,
    visit: &Arc<Visit>,
    visitor: &Visitor,
    passed: Passed,
) -> Forward {
    let has_body = !request.body().is_end_stream();
    let wanted = head::wanted_upgrade(&request, has_body);
    let upgrade = wanted.map(|wanted| match protocol {
        Protocol::WebSocketOverHttp2 => (Way::Stream, wanted),
        Protocol::Http10 | Protocol::Http11 | Protocol::Http2 => {
            (Way::Connection(hyper::upgrade::on(&mut request)), wanted)
        }
    });
    let (mut parts, incoming) = request.into_parts();
    head::to_node(&mut parts.headers, visitor, upgrade.is_some());
    passed.introduce(&mut parts.headers);
    let speech = match protocol == Protocol::Http2 && is_grpc(&parts.headers) {
        true => Speech::Http2,
        false => Speech::Http1,
    };
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        parts.uri = origin_form(&parts.uri);
    }
    if speech == Speech::Http2 {
        http2::request::translate_back(&mut parts);
    }
    if !has_body {
        // A body that is spoken of and does not come would be the next request.
        parts.headers.remove(EXPECT);
        if parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
            parts.headers.remove(CONTENT_LENGTH);
        }
    }
    let repeatable = !has_body && parts.method.is_idempotent();
    let has_second_try = !has_body && parts.method.is_safe();
    let waits = has_body && parts.headers.get(EXPECT).is_some_and(is_continue);
    let granted = waits.then(Arc::<Granted>::default);
    let body = if has_body {
        let permission = granted.clone().map(|granted| Permission::new(granted, visit.continue_patience()));
        RequestBody::Upload(Upload::new(incoming, Arc::clone(visit), Arc::clone(tunnel), permission))
    } else {
        RequestBody::Empty
    };
    let mut request = Request::from_parts(parts, body);
    let hinted = (protocol == Protocol::Http2).then(|| Arc::clone(visit));
    if granted.is_some() || hinted.is_some() {
        hyper::ext::on_informational(&mut request, move |response| match response.status() {
            StatusCode::CONTINUE => granted.iter().for_each(|granted| granted.grant()),
            StatusCode::EARLY_HINTS => hinted.iter().for_each(|visit| visit.hint(response.headers())),
            _ => {}
        });
    }
    Forward {
        request: Some(Box::new(request)),
        repeatable,
        has_second_try,
        upgrade,
        protocol,
        speech,
        passed,
        domain: None,
    }
}

/// Whether a call of gRPC comes in HTTP/2, which is how its servers want it too (gRPC over HTTP/2, "Content-Type").
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match kind.split_at_checked(b"application/grpc".len()) {
        Some((kind, rest)) => {
            kind.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';'))
        }
        None => false,
    }
}

/// Whether a request expects nothing, or only to be told to go on (RFC 9110 §10.1.1). Of anything else, and of more than one,
/// servers make different things: some answer without reading the body, and take it for the next request.
fn expects_what_is_known(headers: &HeaderMap) -> bool {
    let mut expected = headers.get_all(EXPECT).iter();
    expected.next().is_none_or(is_continue) && expected.next().is_none()
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// A request again, but for its body.
fn copy(request: &Request<RequestBody>) -> Box<Request<RequestBody>> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy.extensions_mut().clone_from(request.extensions());
    Box::new(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_itself_is_grpc() {
        let of = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            is_grpc(&headers)
        };
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC;charset=x"] {
            assert!(of(kind), "{kind}");
        }
        for kind in
            ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/grp", ""]
        {
            assert!(!of(kind), "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
