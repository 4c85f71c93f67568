//! WebSockets of nodes, at the host of the console: for those whose network lets nothing but HTTPS out. Once one is open, its bytes are
//! those of any other connection of a node, and no visitor's.

use std::net::SocketAddr;

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mytunnel_carrier::websocket::{self, Entrance};

use super::{
    body::ResponseBody,
    failure::Failure,
    visitor_io::{VisitorIo, VisitorStream},
};
use crate::tally::Tally;

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

/// Agrees to a WebSocket (RFC 6455 §4.2) whose messages go in by `entrance`, if there is room for it.
pub(super) fn agree<B: Body>(
    request: &mut Request<B>,
    entrance: &Entrance,
    from: SocketAddr,
) -> Result<(Response<ResponseBody>, NodeSocket), Failure> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) {
        // A page in somebody's browser, which could take the places of all nodes that share its address.
        return Err(Failure::CrossSite);
    }
    let says = |name, word: &str| {
        let mut lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
        lines.any(|line| line.split(',').any(|said| said.trim().eq_ignore_ascii_case(word)))
    };
    let is_asked = request.method() == Method::GET
        && request.body().is_end_stream()
        && says(CONNECTION, "upgrade")
        && says(UPGRADE, "websocket")
        && says(SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_asked).ok_or(Failure::BadRequest)?;
    let accept =
        HeaderValue::try_from(websocket::accept_key(key.as_bytes())).map_err(|_| Failure::BadRequest)?;
    if !entrance.has_room() {
        return Err(Failure::NodesBusy);
    }
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
    pub(super) async fn hand_in<S: VisitorStream>(self, tally: &Tally) {
        let Ok(upgraded) = self.visitor.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<VisitorIo<S>>>() else { return };
        let stream = Box::new(parts.io.into_inner().into_stream());
        if let Err(error) = self.entrance.enter(stream, parts.read_buf.into(), self.from).await {
            tally.turned_away.add(1);
            tracing::debug!(%error, "a node is not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};
    use mytunnel_carrier::websocket::Door;

    use super::*;

    fn request(alter: impl FnOnce(&mut Request<Empty<Bytes>>)) -> Request<Empty<Bytes>> {
        let request = Request::get(websocket::PATH)
            .header(CONNECTION, "keep-alive, Upgrade")
            .header(UPGRADE, "WebSocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let mut request = request.body(Empty::new()).unwrap();
        alter(&mut request);
        request
    }

    fn at<B: Body>(entrance: &Entrance, mut request: Request<B>) -> Result<Response<ResponseBody>, Failure> {
        assert!(is_of_node(&request));
        agree(&mut request, entrance, ([192, 0, 2, 1], 0).into()).map(|(response, _)| response)
    }

    fn answer<B: Body>(request: Request<B>) -> Result<Response<ResponseBody>, Failure> {
        let (_door, entrance) = Door::new();
        at(&entrance, request)
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
        let with_body = request(|_| {}).map(|_| Full::new(Bytes::from_static(b"x")));
        assert_eq!(answer(with_body).err(), Some(Failure::BadRequest));
    }

    #[test]
    fn what_a_proxy_writes_in_two_lines_is_read_as_one() {
        let in_lines = |request: &mut Request<_>| {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            request.headers_mut().append(CONNECTION, HeaderValue::from_static("upgrade"));
        };
        assert_eq!(answer(request(in_lines)).unwrap().status(), 101);
    }

    #[test]
    fn a_page_in_a_browser_opens_none() {
        let of_page = |request: &mut Request<_>| {
            request.headers_mut().insert(ORIGIN, HeaderValue::from_static("https://relay.example"));
        };
        assert_eq!(answer(request(of_page)).err(), Some(Failure::CrossSite));
    }

    #[tokio::test]
    async fn where_there_is_no_room_it_is_said_before_anything_is_agreed_to() {
        let (door, entrance) = Door::new();
        while entrance.has_room() {
            let (ours, _theirs) = tokio::io::duplex(64);
            entrance.enter(Box::new(ours), Vec::new(), ([192, 0, 2, 1], 0).into()).await.unwrap();
        }
        assert_eq!(at(&entrance, request(|_| {})).err(), Some(Failure::NodesBusy));
        assert_eq!(Failure::NodesBusy.status(), 503);
        drop(door);
        assert_eq!(at(&entrance, request(|_| {})).err(), Some(Failure::NodesBusy));
    }
}
