//! WebSockets of nodes, at the host of the console: for those whose network lets nothing but HTTPS out. Once one is open, its bytes are
//! those of any other connection of a node, and no visitor's.

use std::net::SocketAddr;

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mytunnel_carrier::websocket::{self, Entrance};

use super::{
    body::ResponseBody,
    failure::Failure,
    visitor_io::{VisitorIo, VisitorStream},
};

/// One that was agreed to, waiting for hyper to let go of it.
#[derive(Debug)]
pub(crate) struct NodeSocket {
    visitor: OnUpgrade,
    entrance: Entrance,
    from: SocketAddr,
}

/// Whether a request is one of a node.
pub(super) fn is_of_node<B>(request: &Request<B>) -> bool {
    request.uri().path() == websocket::PATH
}

/// Agrees to a WebSocket (RFC 6455 §4.2) whose messages go in by `entrance`.
pub(super) fn agree<B>(
    request: &mut Request<B>,
    entrance: &Entrance,
    from: SocketAddr,
) -> Result<(Response<ResponseBody>, NodeSocket), Failure> {
    let headers = request.headers();
    let says = |name, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|said| said.trim().eq_ignore_ascii_case(word))
    };
    let is_asked = request.method() == Method::GET
        && says(CONNECTION, "upgrade")
        && says(UPGRADE, "websocket")
        && says(SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_asked).ok_or(Failure::BadRequest)?;
    let accept =
        HeaderValue::try_from(websocket::accept_key(key.as_bytes())).map_err(|_| Failure::BadRequest)?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    let visitor = hyper::upgrade::on(request);
    Ok((response, NodeSocket { visitor, entrance: entrance.clone(), from }))
}

impl NodeSocket {
    /// Hands the connection in where those of nodes are taken.
    pub(super) async fn hand_in<S: VisitorStream>(self) {
        let Ok(upgraded) = self.visitor.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<VisitorIo<S>>>() else { return };
        let stream = Box::new(parts.io.into_inner().into_stream());
        if let Err(error) = self.entrance.enter(stream, parts.read_buf.into(), self.from).await {
            tracing::debug!(%error, "a node is not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_carrier::websocket::Door;

    use super::*;

    fn request(alter: impl FnOnce(&mut Request<()>)) -> Request<()> {
        let request = Request::get(websocket::PATH)
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let mut request = request.body(()).unwrap();
        alter(&mut request);
        request
    }

    fn answer(mut request: Request<()>) -> Result<Response<ResponseBody>, Failure> {
        let (_door, entrance) = Door::new();
        assert!(is_of_node(&request));
        agree(&mut request, &entrance, ([192, 0, 2, 1], 0).into()).map(|(response, _)| response)
    }

    #[test]
    fn a_websocket_is_agreed_to_as_the_standard_says() {
        let response = answer(request(|_| {})).unwrap();
        assert_eq!(response.status(), 101);
        // RFC 6455 §1.3.
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_asks_for_none_gets_none() {
        for missing in [CONNECTION, UPGRADE, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_KEY] {
            let refused = answer(request(|request| drop(request.headers_mut().remove(&missing))));
            assert_eq!(refused.err(), Some(Failure::BadRequest), "without {missing}");
        }
        assert_eq!(
            answer(request(|request| *request.method_mut() = Method::POST)).err(),
            Some(Failure::BadRequest)
        );
    }
}
