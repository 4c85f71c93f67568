//! One direction of an HTTP/1.1 connection, cut into heads and bodies as its bytes come.
//!
//! It follows what passed between two others and refuses nothing: what it cannot follow, it reports as [`Trouble`], and
//! is not to be asked again.

use memchr::memmem;

use super::exchange::{Header, RequestHead, ResponseHead, Trouble, header};

/// A longer head is not followed.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Headers of one head.
const MAX_HEADERS: usize = 128;
/// The line of a chunk's size, with its extensions.
const MAX_CHUNK_LINE: usize = 4 * 1024;
/// How a connection begins that speaks HTTP/2.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";

/// What a head can be read as.
pub(super) trait Head: Sized {
    /// Reads a complete head; `None` when there is more to come.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Trouble>;
}

impl Head for RequestHead {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(bytes).map_err(unreadable)?.is_partial() {
            return Ok(None);
        }
        let (Some(method), Some(target)) = (request.method, request.path) else { return Ok(None) };
        let headers = kept(request.headers);
        Ok(Some(Self { method: method.to_owned(), target: target.to_owned(), headers }))
    }
}

impl Head for ResponseHead {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        if response.parse(bytes).map_err(unreadable)?.is_partial() {
            return Ok(None);
        }
        let Some(status) = response.code else { return Ok(None) };
        let reason = response.reason.unwrap_or_default().to_owned();
        Ok(Some(Self { status, reason, headers: kept(response.headers) }))
    }
}

fn unreadable(error: httparse::Error) -> Trouble {
    if error == httparse::Error::TooManyHeaders { Trouble::HeadTooLong } else { Trouble::NotHttp }
}

fn kept(headers: &[httparse::Header<'_>]) -> Vec<Header> {
    let kept =
        |header: &httparse::Header<'_>| Header { name: header.name.to_owned(), value: header.value.to_vec() };
    headers.iter().map(kept).collect()
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    UntilEnd,
    /// Never: what follows is no HTTP.
    Tunnel,
}

impl Framing {
    /// Of a request (RFC 9112, section 6.3).
    pub(super) fn of_request(head: &RequestHead) -> Result<Self, Trouble> {
        Ok(declared(&head.headers)?.unwrap_or(Self::Length(0)))
    }

    /// Of the answer to a request with this method.
    pub(super) fn of_response(head: &ResponseHead, method: &str) -> Result<Self, Trouble> {
        match head.status {
            101 => return Ok(Self::Tunnel),
            200..=299 if method == "CONNECT" => return Ok(Self::Tunnel),
            100..=199 | 204 | 304 => return Ok(Self::Length(0)),
            _ if method == "HEAD" => return Ok(Self::Length(0)),
            _ => {}
        }
        Ok(declared(&head.headers)?.unwrap_or(Self::UntilEnd))
    }
}

fn declared(headers: &[Header]) -> Result<Option<Framing>, Trouble> {
    if let Some(coding) = header(headers, "transfer-encoding") {
        let chunked = coding.to_ascii_lowercase().trim_ascii().ends_with(b"chunked");
        return Ok(Some(if chunked { Framing::Chunked } else { Framing::UntilEnd }));
    }
    let Some(length) = header(headers, "content-length") else { return Ok(None) };
    let digits = std::str::from_utf8(length.trim_ascii()).map_err(|_| Trouble::NotHttp)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Trouble::NotHttp);
    }
    digits.parse().map(|length| Some(Framing::Length(length))).map_err(|_| Trouble::NotHttp)
}

/// What a stretch of bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a, H> {
    /// A head; [`Way::begin`] says what follows it.
    Head(H),
    /// Some of a body, or of what is no HTTP.
    Body(&'a [u8]),
    /// A body's end.
    End,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Way(State);

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Length(u64),
    ChunkSize(Vec<u8>),
    Chunk(u64),
    Trailers(Vec<u8>),
    /// Until the connection's end, or for ever.
    Rest,
}

impl Way {
    pub(super) const fn new() -> Self {
        Self(State::Head(Vec::new()))
    }

    /// After a head was read: what follows it.
    pub(super) fn begin(&mut self, framing: Framing) {
        self.0 = match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkSize(Vec::new()),
            Framing::UntilEnd | Framing::Tunnel => State::Rest,
        };
    }

    /// Takes the next part off `bytes`; `None` when more is needed.
    pub(super) fn next<'a, H: Head>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Part<'a, H>>, Trouble> {
        loop {
            match &mut self.0 {
                State::Head(held) => {
                    if bytes.is_empty() || !take_head(held, bytes)? {
                        return Ok(None);
                    }
                    if let Some(head) = H::parse(held)? {
                        // Whoever reads a head says at once what follows.
                        self.0 = State::Rest;
                        return Ok(Some(Part::Head(head)));
                    }
                }
                State::Length(0) => {
                    self.0 = State::Head(Vec::new());
                    return Ok(Some(Part::End));
                }
                State::Length(_) | State::Chunk(_) if bytes.is_empty() => return Ok(None),
                State::Length(_) => return Ok(self.take_length(bytes)),
                State::Chunk(_) => {
                    if let Some(data) = self.take_chunk(bytes) {
                        return Ok(Some(Part::Body(data)));
                    }
                }
                State::ChunkSize(line) => {
                    if !take_line(line, bytes)? {
                        return Ok(None);
                    }
                    let size = match httparse::parse_chunk_size(line) {
                        Ok(httparse::Status::Complete((_, size))) if size <= u64::MAX - 2 => size,
                        Ok(_) | Err(_) => return Err(Trouble::NotHttp),
                    };
                    // With the line's end that follows the data.
                    self.0 = if size == 0 { State::Trailers(Vec::new()) } else { State::Chunk(size + 2) };
                }
                State::Trailers(line) => {
                    if !take_line(line, bytes)? {
                        return Ok(None);
                    }
                    if line.trim_ascii().is_empty() {
                        self.0 = State::Head(Vec::new());
                        return Ok(Some(Part::End));
                    }
                    line.clear();
                }
                State::Rest if bytes.is_empty() => return Ok(None),
                State::Rest => return Ok(Some(Part::Body(std::mem::take(bytes)))),
            }
        }
    }

    /// Bytes that will pass and be body for certain: nothing is lost if they are counted only.
    pub(super) const fn certain(&self) -> u64 {
        match self.0 {
            // The last one tells that it has passed.
            State::Length(left) => left.saturating_sub(1),
            State::Chunk(left) => left.saturating_sub(2),
            State::Rest => u64::MAX,
            State::Head(_) | State::ChunkSize(_) | State::Trailers(_) => 0,
        }
    }

    /// So many bytes passed unseen. Whether that can be.
    pub(super) const fn skip(&mut self, count: u64) -> bool {
        match &mut self.0 {
            State::Length(left) | State::Chunk(left) if count < *left => *left -= count,
            State::Rest => {}
            State::Length(_)
            | State::Chunk(_)
            | State::Head(_)
            | State::ChunkSize(_)
            | State::Trailers(_) => return false,
        }
        true
    }

    /// Whether the end of the connection is an end of the message.
    pub(super) const fn may_end(&self) -> bool {
        matches!(self.0, State::Rest)
    }

    fn take_length<'a, H>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a, H>> {
        let State::Length(left) = &mut self.0 else { return None };
        let data = take(bytes, *left);
        *left -= data.len() as u64;
        Some(Part::Body(data))
    }

    /// Data of a chunk; `None` for the line's end after it.
    fn take_chunk<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let State::Chunk(left) = &mut self.0 else { return None };
        let data = take(bytes, left.saturating_sub(2));
        *left -= data.len() as u64;
        if !data.is_empty() {
            return Some(data);
        }
        *left -= take(bytes, *left).len() as u64;
        if *left == 0 {
            self.0 = State::ChunkSize(Vec::new());
        }
        None
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len());
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

/// Moves bytes up to the end of a head; whether it may be complete. Empty lines before it are nothing.
fn take_head(held: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, Trouble> {
    if held.is_empty() {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        *bytes = &bytes[blank..];
    }
    let before = held.len();
    held.extend_from_slice(&bytes[..bytes.len().min(MAX_HEAD - before)]);
    if held.starts_with(HTTP2) {
        return Err(Trouble::Http2);
    }
    // The end may have begun in an earlier piece; some lines end without a carriage return.
    let end = |end: &[u8]| {
        let from = before.saturating_sub(end.len() - 1);
        Some(from + memmem::find(&held[from..], end)? + end.len())
    };
    match [end(b"\n\r\n"), end(b"\n\n")].into_iter().flatten().min() {
        Some(end) => {
            held.truncate(end);
            *bytes = &bytes[end - before..];
            Ok(true)
        }
        None if held.len() == MAX_HEAD => Err(Trouble::HeadTooLong),
        None => {
            *bytes = &[];
            Ok(false)
        }
    }
}

/// Moves bytes up to the end of a line; whether it is complete.
fn take_line(line: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, Trouble> {
    let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
    line.extend_from_slice(take(bytes, end.unwrap_or(bytes.len()) as u64));
    if line.len() > MAX_CHUNK_LINE {
        return Err(Trouble::NotHttp);
    }
    Ok(end.is_some())
}

/// A request as it was put together again.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    head: RequestHead,
    body: Vec<u8>,
    complete: bool,
}

/// For fuzzers: it does not matter how a direction's bytes are cut into pieces. The first byte says how they are cut.
/// Returns whether anything was read.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) -> bool {
    let Some((&step, bytes)) = data.split_first() else { return false };
    let whole = messages(bytes, bytes.len().max(1));
    for step in [1, usize::from(step).max(1)] {
        assert_eq!(messages(bytes, step), whole, "in pieces of {step}");
    }
    !whole.0.is_empty()
}

/// The requests in `bytes`, and what ended them.
fn messages(bytes: &[u8], step: usize) -> (Vec<Message>, Option<Trouble>) {
    let (mut way, mut messages) = (Way::new(), Vec::new());
    for mut piece in bytes.chunks(step) {
        if let Err(trouble) = read(&mut way, &mut piece, &mut messages) {
            return (messages, Some(trouble));
        }
    }
    (messages, None)
}

fn read(way: &mut Way, piece: &mut &[u8], messages: &mut Vec<Message>) -> Result<(), Trouble> {
    while let Some(part) = way.next::<RequestHead>(piece)? {
        match (part, messages.last_mut()) {
            (Part::Head(head), _) => {
                way.begin(Framing::of_request(&head)?);
                messages.push(Message { head, body: Vec::new(), complete: false });
            }
            (Part::Body(data), Some(last)) => last.body.extend_from_slice(data),
            (Part::End, Some(last)) => last.complete = true,
            (Part::Body(_) | Part::End, None) => unreachable!("a body follows a head"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
