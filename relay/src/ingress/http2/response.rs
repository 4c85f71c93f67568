//! What a response head may not say in HTTP/2 (RFC 9113 §8.2.2), and how one says that a WebSocket is open.

use http::{
    HeaderMap, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE},
    response::Parts,
};

/// Takes out what belongs to one connection of HTTP/1.1.
pub(in crate::ingress) fn clean(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
}

/// Makes a 101 the answer to an extended CONNECT (RFC 8441 §5).
pub(in crate::ingress) fn open_websocket(head: &mut Parts) {
    head.status = StatusCode::OK;
    head.headers.remove(SEC_WEBSOCKET_ACCEPT);
}
