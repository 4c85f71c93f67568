//! Just enough HTTP/1.1 on a bare TCP connection for load and for faults: no client library stands between a test
//! and the bytes.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One connection, with what was read ahead.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// All of it as text, from the status line to the empty line.
    pub text: String,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// The first value of a field, trimmed.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.text, name)
    }

    fn framing(&self) -> Framing {
        if self.field("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Framing::Chunked;
        }
        if self.status == 204 || self.status == 304 || self.status < 200 {
            return Framing::Length(0);
        }
        self.field("content-length").and_then(|v| v.parse().ok()).map_or(Framing::UntilClose, Framing::Length)
    }
}

/// The first value of a field in the text of a head, trimmed.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where the empty line after a head ends, if it is there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

fn cut(what: &str) -> Error {
    Error::new(ErrorKind::UnexpectedEof, what.to_owned())
}

impl Connection {
    /// Connects, without Nagle's delay.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::with_capacity(16 << 10) })
    }

    /// Over a connection that was made elsewhere.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// The same from one of this machine's IPv4 addresses.
    pub async fn open_from(from: IpAddr, address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Reads to the end of the connection, however it ends, and returns what came.
    pub async fn rest(&mut self) -> String {
        while self.fill().await.is_ok_and(|read| read > 0) {}
        String::from_utf8_lossy(&std::mem::take(&mut self.ahead)).into_owned()
    }

    /// Writes bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads more into the read-ahead; 0 at the end.
    async fn fill(&mut self) -> Result<usize> {
        self.stream.read_buf(&mut self.ahead).await
    }

    /// Reads a head.
    pub async fn head(&mut self) -> Result<Head> {
        let end = loop {
            if let Some(end) = head_end(&self.ahead) {
                break end;
            }
            if self.fill().await? == 0 {
                return Err(cut("the connection ended in a head"));
            }
        };
        let text = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
        self.ahead.drain(..end);
        let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| cut("no status"))?;
        Ok(Head { status, text })
    }

    /// Reads the body that belongs to `head`, telling `seen` the length of each piece; fails if it is cut short.
    pub async fn body(&mut self, head: &Head, mut seen: impl FnMut(&[u8])) -> Result<()> {
        match head.framing() {
            Framing::Length(length) => self.exactly(length, &mut seen).await,
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                self.exactly(size, &mut seen).await?;
                self.exactly(2, &mut |_| ()).await?;
                if size == 0 {
                    return Ok(());
                }
            },
            Framing::UntilClose => loop {
                seen(&self.ahead);
                self.ahead.clear();
                if self.fill().await? == 0 {
                    return Ok(());
                }
            },
        }
    }

    async fn exactly(&mut self, length: u64, seen: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut left = length;
        loop {
            let now = self.ahead.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if now > 0 {
                seen(&self.ahead[..now]);
                self.ahead.drain(..now);
                left -= now as u64;
            }
            if left == 0 {
                return Ok(());
            }
            if left > (64 << 10) && self.ahead.capacity() < (256 << 10) {
                self.ahead.reserve(256 << 10);
            }
            if self.fill().await? == 0 {
                return Err(cut("the connection ended in a body"));
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<u64> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                let digits = line.split(';').next().unwrap_or_default().trim();
                return u64::from_str_radix(digits, 16).map_err(|_| cut("no chunk size"));
            }
            if self.fill().await? == 0 {
                return Err(cut("the connection ended in a chunk"));
            }
        }
    }

    /// Sends a request and reads the whole answer, body included.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(Head, Vec<u8>)> {
        self.send(request).await?;
        let head = self.head().await?;
        let mut body = Vec::new();
        self.body(&head, |piece| body.extend_from_slice(piece)).await?;
        Ok((head, body))
    }

    /// Reads exactly `buffer.len()` raw bytes, for what comes after an upgrade.
    pub async fn raw(&mut self, buffer: &mut [u8]) -> Result<()> {
        while self.ahead.len() < buffer.len() {
            if self.fill().await? == 0 {
                return Err(cut("the connection ended"));
            }
        }
        buffer.copy_from_slice(&self.ahead[..buffer.len()]);
        self.ahead.drain(..buffer.len());
        Ok(())
    }
}
