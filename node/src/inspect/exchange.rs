//! A request and its answer.

/// One request and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// Its number, from 1, in the order of arrival.
    pub id: u64,
    /// Microseconds of the Unix epoch.
    pub started: u64,
    /// When its last byte passed.
    pub ended: Option<u64>,
    /// None where nothing could be read.
    pub request: Option<RequestHead>,
    /// What came with it.
    pub request_body: Body,
    /// The final answer's head.
    pub response: Option<ResponseHead>,
    /// When it came.
    pub answered: Option<u64>,
    /// What came with it; in both directions raw bytes once the connection was upgraded.
    pub response_body: Body,
    /// The connection went on in another protocol, such as WebSocket.
    pub upgraded: bool,
    /// What is missing, and why.
    pub trouble: Option<Trouble>,
    /// It is the same request as that one, sent again from here.
    pub replay_of: Option<u64>,
    /// The connection it came over.
    pub(crate) line: u64,
    /// Of its last change.
    pub(crate) version: u64,
}

impl Exchange {
    /// The request's method; empty where none was read.
    pub fn method(&self) -> &str {
        self.request.as_ref().map_or("", |head| &head.method)
    }

    /// The request's target; empty where none was read.
    pub fn target(&self) -> &str {
        self.request.as_ref().map_or("", |head| &head.target)
    }

    /// The final answer's status.
    pub fn status(&self) -> Option<u16> {
        self.response.as_ref().map(|head| head.status)
    }

    /// How long it took, in milliseconds.
    pub fn millis(&self) -> Option<f64> {
        self.ended.map(|ended| ended.saturating_sub(self.started) as f64 / 1000.0)
    }

    /// The number of its last change.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Bytes that it holds in memory, near enough.
    pub(crate) fn size(&self) -> usize {
        let headers = |headers: &[Header]| -> usize {
            headers.iter().map(|header| header.name.len() + header.value.len() + 64).sum()
        };
        let request = self.request.as_ref().map_or(0, |head| head.target.len() + headers(&head.headers) + 64);
        let response =
            self.response.as_ref().map_or(0, |head| head.reason.len() + headers(&head.headers) + 64);
        256 + request + response + self.request_body.kept.len() + self.response_body.kept.len()
    }
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// As it was sent.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// In order.
    pub headers: Vec<Header>,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The words after it.
    pub reason: String,
    /// In order.
    pub headers: Vec<Header>,
}

/// One header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As it was sent.
    pub name: String,
    /// Usually text.
    pub value: Vec<u8>,
}

/// The value of the first header of this name.
pub(crate) fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| &*header.value)
}

/// A body, as far as it was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Its beginning, without the framing of chunks.
    pub kept: Vec<u8>,
    /// How long it was.
    pub length: u64,
}

impl Body {
    /// Whether all of it was kept.
    pub fn is_whole(&self) -> bool {
        self.kept.len() as u64 == self.length
    }

    /// Bytes that passed; `limit` of a body are kept.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.kept.len());
        // What comes after a gap cannot be kept.
        if self.is_whole() {
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.length += bytes.len() as u64;
    }
}

/// Why a record is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The target did not take the connection.
    #[error("the target could not be reached")]
    Unreachable,
    /// One of both ends went away.
    #[error("the connection ended before the answer was complete")]
    Cut,
    /// More passed than could be recorded.
    #[error("not captured: the inspector could not keep up")]
    Behind,
    /// The connection carries HTTP/2.
    #[error("not captured: HTTP/2")]
    Http2,
    /// Its bytes are no HTTP/1.1 that could be followed.
    #[error("not captured: not HTTP/1.1")]
    NotHttp,
    /// More than 64 KiB, or more than 128 headers.
    #[error("not captured: its head is too long")]
    HeadTooLong,
}
