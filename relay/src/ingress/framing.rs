//! A strict second pair of eyes on what visitors send: finds message heads in the raw bytes and objects to
//! everything that RFC 9112 calls ambiguous framing, before the forgiving parser behind it has tidied it away
//! (hyper drops `Content-Length` beside `Transfer-Encoding`, merges equal lengths, takes bare line feeds).
//!
//! A [`Scanner`] sees every byte of a connection in order and never changes one. It knows where each head and body
//! ends, so it also tells which stage the connection is in. After an objection it looks at nothing more: the
//! request is refused and its connection closed. Pure; memory is bounded by the longest line a head may have.

mod beside;

use std::mem;

use memchr::memchr;

#[doc(hidden)]
pub use self::beside::beside_hyper;

/// What a request may not do. RFC 9112 §2.2, §5.2, §6.1, §6.3, §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// A line ended by a line feed alone.
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    /// A header line continued on the next (obs-fold).
    #[error("a header line is folded")]
    Folded,
    /// Both a length and a transfer coding.
    #[error("content-length and transfer-encoding are both present")]
    LengthAndCoding,
    /// More than one length.
    #[error("content-length is repeated")]
    RepeatedLength,
    /// A length that is not plain digits, begins with a zero that says nothing, or is too large to be one.
    #[error("content-length is not a number")]
    InvalidLength,
    /// A transfer coding other than one `chunked`.
    #[error("transfer-encoding is not chunked")]
    UnknownCoding,
    /// A chunk whose size or end is malformed.
    #[error("the chunked body is malformed")]
    InvalidChunk,
    /// A head line longer than any head may be.
    #[error("the request head is too large")]
    TooLong,
}

/// Where in the stream of messages a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Between messages: the last one has been received completely.
    Between,
    /// Inside of a head.
    Head,
    /// Inside of a body, or after an objection.
    Body,
}

/// Follows the framing of one connection.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    line: Vec<u8>,
    head: Head,
    heads: u32,
    /// Bytes of cookies in the lines of the current head.
    cookies: usize,
    max_line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for a request line; empty lines before it are skipped (RFC 9112 §2.2).
    Start,
    Head,
    Length(u64),
    Chunked(Chunk),
    /// Nothing more is looked at, since this message.
    Blind {
        message: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { digits: u8, value: u64 },
    Extension { value: u64 },
    SizeEnd { value: u64 },
    Data(u64),
    DataCr,
    DataLf,
    Trailer { empty: bool },
    TrailerEnd { empty: bool },
}

/// What the lines of the current head have said about its body.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
}

const CHUNK_START: Chunk = Chunk::Size { digits: 0, value: 0 };

impl Scanner {
    /// A scanner for a fresh connection; a head line of more than `max_line` bytes is objected to.
    pub fn new(max_line: usize) -> Self {
        Self { state: State::Start, line: Vec::new(), head: Head::default(), heads: 0, cookies: 0, max_line }
    }

    /// How many heads have been received completely.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether half of what a head may have is taken by the cookies of the current one.
    pub(super) fn is_full_of_cookies(&self) -> bool {
        self.cookies + cookie(&self.line) > self.max_line / 2
    }

    /// Where the connection stands after the bytes seen so far.
    pub fn position(&self) -> Position {
        match self.state {
            State::Start if self.line.is_empty() => Position::Between,
            State::Start | State::Head => Position::Head,
            State::Length(_) | State::Chunked(_) | State::Blind { .. } => Position::Body,
        }
    }

    /// The number, from one, of the message that is being received, or that the objection concerns.
    pub fn message(&self) -> u32 {
        match self.state {
            State::Start | State::Head => self.heads.saturating_add(1),
            State::Length(_) | State::Chunked(_) => self.heads,
            State::Blind { message } => message,
        }
    }

    /// Takes the next bytes of the connection. An objection is made once and concerns [`message`](Self::message).
    pub fn scan(&mut self, mut bytes: &[u8]) -> Result<(), Objection> {
        while !bytes.is_empty() {
            let step = match self.state {
                State::Start | State::Head => self.head_bytes(bytes),
                State::Length(left) => Ok(self.skip(bytes, left)),
                State::Chunked(chunk) => self.chunk_bytes(bytes, chunk),
                State::Blind { .. } => return Ok(()),
            };
            match step {
                Ok(used) => bytes = &bytes[used..],
                Err(objection) => {
                    self.state = State::Blind { message: self.message() };
                    return Err(objection);
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, bytes: &[u8], left: u64) -> usize {
        let used = left.min(bytes.len() as u64);
        self.state = if used == left { State::Start } else { State::Length(left - used) };
        used as usize
    }

    fn head_bytes(&mut self, bytes: &[u8]) -> Result<usize, Objection> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.keep(bytes)?;
            return Ok(bytes.len());
        };
        if self.line.is_empty() {
            if end > self.max_line {
                self.cookies += cookie(&bytes[..end]);
                return Err(Objection::TooLong);
            }
            self.head_line(&bytes[..end])?;
        } else {
            self.keep(&bytes[..end])?;
            let mut line = mem::take(&mut self.line);
            self.head_line(&line)?;
            line.clear();
            self.line = line;
        }
        Ok(end + 1)
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Objection> {
        if self.line.len() + part.len() > self.max_line {
            self.cookies += if self.line.is_empty() { cookie(part) } else { 0 };
            return Err(Objection::TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    /// One line of a head, its line feed cut off.
    fn head_line(&mut self, line: &[u8]) -> Result<(), Objection> {
        let Some((b'\r', line)) = line.split_last() else { return Err(Objection::BareLineFeed) };
        match (self.state, line.first()) {
            (State::Start, None) => Ok(()),
            (State::Start, Some(_)) => {
                self.head = Head::default();
                self.cookies = 0;
                self.state = State::Head;
                Ok(())
            }
            (_, None) => {
                self.heads = self.heads.saturating_add(1);
                self.state = self.head.body();
                Ok(())
            }
            (_, Some(b' ' | b'\t')) => Err(Objection::Folded),
            // Only these two start with the same letters as the fields that frame a message, and cookies.
            (_, Some(b'c' | b'C' | b't' | b'T')) => {
                self.cookies += cookie(line);
                self.head.field(line)
            }
            (_, Some(_)) => Ok(()),
        }
    }

    fn chunk_bytes(&mut self, bytes: &[u8], chunk: Chunk) -> Result<usize, Objection> {
        if let Chunk::Data(left) = chunk {
            let used = left.min(bytes.len() as u64);
            self.state = State::Chunked(if used == left { Chunk::DataCr } else { Chunk::Data(left - used) });
            return Ok(used as usize);
        }
        self.state = chunk.next(bytes[0])?.map_or(State::Start, State::Chunked);
        Ok(1)
    }
}

impl Head {
    fn body(self) -> State {
        match self {
            Self { chunked: true, .. } => State::Chunked(CHUNK_START),
            Self { length: Some(length), .. } if length > 0 => State::Length(length),
            Self { .. } => State::Start,
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Objection> {
        let Some(colon) = memchr(b':', line) else { return Ok(()) };
        // A name with a space before its colon counts as the name: the parser behind refuses it anyway.
        let (name, value) = (trim(&line[..colon]), trim(&line[colon + 1..]));
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(length(value)?).is_some() {
                return Err(Objection::RepeatedLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Objection::UnknownCoding);
            }
            self.chunked = true;
        }
        if self.chunked && self.length.is_some() {
            return Err(Objection::LengthAndCoding);
        }
        Ok(())
    }
}

impl Chunk {
    /// The state after `byte`; `None` when the body is complete.
    fn next(self, byte: u8) -> Result<Option<Self>, Objection> {
        let next = match (self, byte) {
            (Self::Size { digits, value }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                Self::Size { digits: digits + 1, value: value << 4 | u64::from(hex(byte)) }
            }
            (Self::Size { digits: 1.., value }, b'\r') => Self::SizeEnd { value },
            (Self::Size { digits: 1.., value }, b';') => Self::Extension { value },
            (Self::Extension { value }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value }, 0x20..=0x7e | b'\t') => Self::Extension { value },
            (Self::SizeEnd { value: 0 }, b'\n') => Self::Trailer { empty: true },
            (Self::SizeEnd { value }, b'\n') => Self::Data(value),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => CHUNK_START,
            (Self::Trailer { empty }, b'\r') => Self::TrailerEnd { empty },
            (Self::Trailer { .. }, byte) if byte != b'\n' => Self::Trailer { empty: false },
            (Self::TrailerEnd { empty: true }, b'\n') => return Ok(None),
            (Self::TrailerEnd { empty: false }, b'\n') => Self::Trailer { empty: true },
            _ => return Err(Objection::InvalidChunk),
        };
        Ok(Some(next))
    }
}

/// Bytes of a line of cookies.
fn cookie(line: &[u8]) -> usize {
    const NAME: &[u8] = b"cookie:";
    let is_one = line.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME));
    if is_one { line.len() } else { 0 }
}

/// Digits, and none that could make the number an octal one.
pub(super) fn is_plain(length: &[u8]) -> bool {
    length.iter().all(u8::is_ascii_digit) && matches!(length, [b'0'] | [b'1'..=b'9', ..])
}

fn length(value: &[u8]) -> Result<u64, Objection> {
    if !is_plain(value) {
        return Err(Objection::InvalidLength);
    }
    let text = std::str::from_utf8(value).map_err(|_| Objection::InvalidLength)?;
    text.parse().map_err(|_| Objection::InvalidLength)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests;
