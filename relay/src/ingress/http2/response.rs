//! What a response head may not say in HTTP/2 (RFC 9113 §8.2.2), how one says that a WebSocket is open, and what is said
//! before it.

use std::{mem, sync::Mutex};

use http::{
    HeaderMap, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE},
    response::Parts,
};

use crate::ingress::{head, locked};

/// Takes out what belongs to one connection of HTTP/1.1.
pub(in crate::ingress) fn clean(headers: &mut HeaderMap) {
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, TE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

/// Makes a 101 the answer to an extended CONNECT (RFC 8441 §5).
pub(in crate::ingress) fn open_websocket(head: &mut Parts) {
    head.status = StatusCode::OK;
    head.headers.remove(SEC_WEBSOCKET_ACCEPT);
}

/// What is said to a visitor ahead of an answer (RFC 9110 §15.2): to go on with the request, and early hints (RFC 8297), which
/// are what the server expects to say in the head of its answer while it is still at work on it.
///
/// No window of the visitor's holds heads back, so those of one exchange are bounded.
#[derive(Debug, Default)]
pub(crate) struct Interim(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    heads: Vec<Response<()>>,
    /// Hints that came so far, and their bytes.
    hints: (usize, u64),
}

impl Interim {
    /// So many hints are passed on of one exchange, of so many bytes together. Browsers look at the first alone, and Go's client
    /// gives up after five interim answers.
    const MOST: usize = 4;
    const MOST_BYTES: u64 = 16 * 1024;

    /// The visitor is to send its body.
    pub(crate) fn go_on(&self) {
        locked(&self.0).heads.push(interim(StatusCode::CONTINUE, HeaderMap::new()));
    }

    /// Hints of a node's server. What a head may not say they may not either, and cookies are for the answer.
    pub(crate) fn hint(&self, fields: &HeaderMap) {
        if locked(&self.0).hints.0 >= Self::MOST {
            return;
        }
        let mut fields = fields.clone();
        for name in [SET_COOKIE, CONTENT_LENGTH, TRANSFER_ENCODING] {
            fields.remove(name);
        }
        if head::to_visitor(StatusCode::EARLY_HINTS, &mut fields, false).is_err() {
            return;
        }
        clean(&mut fields);
        let mut waiting = locked(&self.0);
        let (hints, bytes) = (waiting.hints.0 + 1, waiting.hints.1 + head::length(&fields));
        if !fields.is_empty() && bytes <= Self::MOST_BYTES {
            waiting.hints = (hints, bytes);
            waiting.heads.push(interim(StatusCode::EARLY_HINTS, fields));
        }
    }

    /// What was not sent yet.
    pub(crate) fn take(&self) -> Vec<Response<()>> {
        mem::take(&mut locked(&self.0).heads)
    }
}

fn interim(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (status, fields);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: &[(&'static str, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn hints_say_nothing_that_a_head_may_not() {
        let interim = Interim::default();
        interim.hint(&fields(&[
            ("link", "</a.css>; rel=preload; as=style"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "a=b; Domain=tun.example"),
            ("content-length", "3"),
            ("clear-site-data", "\"*\""),
        ]));
        interim.hint(&fields(&[("keep-alive", "timeout=5")]));
        let told = interim.take();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].status(), StatusCode::EARLY_HINTS);
        assert_eq!(told[0].headers(), &fields(&[("link", "</a.css>; rel=preload; as=style")]));
        assert!(interim.take().is_empty());
    }

    #[test]
    fn hints_are_bounded() {
        let interim = Interim::default();
        interim.hint(&fields(&[("link", &"x".repeat(17 * 1024))]));
        assert!(interim.take().is_empty());
        let hint = |_| {
            interim.hint(&fields(&[("link", "</a.css>")]));
            interim.take().len()
        };
        assert_eq!((0..100).map(hint).sum::<usize>(), Interim::MOST);
        let interim = Interim::default();
        (0..3).for_each(|_| interim.hint(&fields(&[("link", &"x".repeat(7 * 1024))])));
        assert_eq!(interim.take().len(), 2);
    }
}
