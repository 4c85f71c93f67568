//! The answers that hyper makes by itself to what is no request: a status and nothing else.
//!
//! They are kept back on their way to the visitor, who gets the relay's page in their place. What tells them from every
//! other answer: they begin on an empty line of output, no request is being served and none was when it became empty,
//! and the visitor has begun a message that never came to be one.

use std::io;

use bytes::Bytes;
use http::Response;

use super::{
    failure::Failure,
    framing::{Position, Scanner},
    visit::Visit,
};

/// What has been seen of a connection's output.
#[derive(Debug, Default)]
pub(crate) struct OwnAnswer {
    /// The request whose answer was begun last.
    begun: u32,
    unflushed: bool,
    /// A request was being served when everything had been written last: more of its answer may follow.
    unfinished: bool,
    failure: Option<Failure>,
}

impl OwnAnswer {
    /// Whether `output` is hyper's own answer, and so is not to be written.
    pub(super) fn is(&mut self, output: &[u8], visit: &Visit, scanner: &Scanner) -> bool {
        let served = visit.served();
        let over = !self.unfinished && !visit.in_exchange();
        let at_start = !self.unflushed && self.begun == served && over;
        if at_start && concerns(scanner) > served {
            self.failure = match failure(output) {
                Some(Failure::HeadTooLarge) if scanner.is_full_of_cookies() => Some(Failure::CookiesTooLarge),
                failure => failure,
            };
        }
        if self.failure.is_none() {
            (self.begun, self.unflushed) = (served, true);
        }
        self.failure.is_some()
    }

    /// Everything was written.
    pub(super) fn flushed(&mut self, visit: &Visit) {
        self.unflushed = false;
        self.unfinished = visit.in_exchange();
    }

    /// What the visitor is to be told instead.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }
}

/// The number of the last message that has begun.
fn concerns(scanner: &Scanner) -> u32 {
    match scanner.position() {
        Position::Between => scanner.heads(),
        Position::Head | Position::Body => scanner.message(),
    }
}

fn failure(output: &[u8]) -> Option<Failure> {
    match output.strip_prefix(b"HTTP/1.1 ")?.get(..3)? {
        b"400" => Some(Failure::BadRequest),
        b"414" => Some(Failure::TargetTooLong),
        b"431" => Some(Failure::HeadTooLarge),
        _ => None,
    }
}

/// A whole response of a connection that is closed behind it.
pub(super) fn encode(response: &Response<Bytes>) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut bytes = Vec::with_capacity(1024);
    write!(bytes, "HTTP/1.1 {}\r\ncontent-length: {}\r\n", response.status(), response.body().len())?;
    for (name, value) in response.headers() {
        write!(bytes, "{name}: ")?;
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(response.body());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::{deadline::Stage, visit::tests::visit};

    const OWN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    const GOOD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    const BAD: &[u8] = b"GET / HTTP/1.1\r\nX Y: 1\r\n\r\n";

    #[tokio::test]
    async fn only_what_nobody_was_asked_for_is_hypers_own() {
        let (visit, mut scanner, mut own) = (visit(), Scanner::new(1024), OwnAnswer::default());
        scanner.scan(GOOD).unwrap();
        visit.request();
        // A tunnel may answer alike: at once, in pieces, and at the end of a body.
        assert!(!own.is(OWN, &visit, &scanner));
        own.flushed(&visit);
        visit.enter(Stage::Responding);
        assert!(!own.is(OWN, &visit, &scanner));
        own.flushed(&visit);
        visit.enter(Stage::Idle);
        assert!(!own.is(OWN, &visit, &scanner));

        // The rest of an answer, while the next message comes already.
        scanner.scan(BAD).unwrap();
        visit.enter(Stage::Head);
        assert!(!own.is(OWN, &visit, &scanner));
        own.flushed(&visit);
        assert!(own.is(OWN, &visit, &scanner));
        assert_eq!(own.failure(), Some(Failure::BadRequest));
    }

    #[test]
    fn each_has_its_page() {
        for (output, expected) in [
            ("HTTP/1.1 414 URI Too Long\r\n", Some(Failure::TargetTooLong)),
            ("HTTP/1.1 431 Request Header Fields Too Large\r\n", Some(Failure::HeadTooLarge)),
            ("HTTP/1.1 200 OK\r\n", None),
            ("4\r\n", None),
        ] {
            assert_eq!(failure(output.as_bytes()), expected, "{output:?}");
        }
    }
}
