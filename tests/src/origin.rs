//! An HTTP/1.1 origin with known answers, cheap enough not to be the measure of anything but itself.
//!
//! | request | answer |
//! |---|---|
//! | `GET /1k` | 1,024 bytes |
//! | `GET /bytes/N` | N bytes of `x`, with a length |
//! | `GET /cut/N` | announces N bytes, sends half of them, hangs up |
//! | `GET /slow/MS` | 1,024 bytes after a while |
//! | `GET /trickle/MS/N` | the head, then after each MS milliseconds one of N bytes |
//! | `GET /garbage` | bytes that are not HTTP |
//! | `GET /sse/MS/N` | N server-sent events, one each MS milliseconds; `id:` = number of the beat, the same in all streams of one MS, `data:` = nanoseconds of the clock when sent |
//! | `POST /upload` | reads the body, answers its length |
//! | `GET /echo` with `Upgrade: websocket` | echoes frames (key of RFC 6455 §1.3 only) |
//! | `GET /head` | the request's own head, as it arrived |

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wire::{field, head_end};

/// The key that a visitor must send to be answered by [`WEBSOCKET_ACCEPT`] (RFC 6455 §1.3).
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The accept value that belongs to [`WEBSOCKET_KEY`].
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static FILLER: [u8; 256 << 10] = [b'x'; 256 << 10];

/// A running origin; it ends when this value is dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Starts one on a free port.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts one at an address, for an origin that comes back.
    pub async fn start_at(address: &str) -> Result<Self> {
        Self::serve(TcpListener::bind(address).await?)
    }

    /// Starts one on a listener that was made elsewhere.
    pub fn serve(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener));
        Ok(Self { address, _tasks: tasks })
    }
}

/// Nanoseconds of the wall clock, to be compared within one machine.
pub fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

async fn accept(listener: TcpListener) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    visitors.spawn(serve(stream));
                }
            }
            Some(_) = visitors.join_next(), if !visitors.is_empty() => {}
        }
    }
}

async fn serve(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut ahead = Vec::with_capacity(16 << 10);
    loop {
        let end = loop {
            if let Some(end) = head_end(&ahead) {
                break end;
            }
            if stream.read_buf(&mut ahead).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&ahead[..end]).into_owned();
        ahead.drain(..end);
        let uploaded = swallow(&mut stream, &mut ahead, &head).await?;
        let target = head.split(' ').nth(1).unwrap_or("/");
        let path = target.split_once('?').map_or(target, |(path, _)| path).to_owned();
        let mut parts = path.split('/').skip(1);
        let verb = parts.next().unwrap_or_default();
        let mut number = || parts.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        match verb {
            "1k" => bytes(&mut stream, 1024).await?,
            "bytes" => bytes(&mut stream, number()).await?,
            "cut" => return cut(&mut stream, number()).await,
            "slow" => {
                tokio::time::sleep(Duration::from_millis(number())).await;
                bytes(&mut stream, 1024).await?;
            }
            "trickle" => trickle(&mut stream, number(), number()).await?,
            "garbage" => return stream.write_all(b"\x00\x01 this is not HTTP\r\n\r\n\r\n").await,
            "sse" => events(&mut stream, number(), number()).await?,
            "upload" => text(&mut stream, &uploaded.to_string()).await?,
            "head" => text(&mut stream, &head).await?,
            "echo" => return echo(&mut stream, ahead, &head).await,
            _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?,
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

/// Reads a request's body and returns its length.
async fn swallow(stream: &mut TcpStream, ahead: &mut Vec<u8>, head: &str) -> Result<u64> {
    if field(head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if let Some(length) = field(head, "content-length").and_then(|v| v.parse::<u64>().ok()) {
        discard(stream, ahead, length).await?;
        return Ok(length);
    }
    if !field(head, "transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        return Ok(0);
    }
    let mut total = 0;
    loop {
        let line = loop {
            if let Some(end) = ahead.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            if stream.read_buf(ahead).await? == 0 {
                return Ok(total);
            }
        };
        let size = u64::from_str_radix(String::from_utf8_lossy(&ahead[..line]).trim(), 16).unwrap_or(0);
        ahead.drain(..line + 2);
        discard(stream, ahead, size + 2).await?;
        total += size;
        if size == 0 {
            return Ok(total);
        }
    }
}

async fn discard(stream: &mut TcpStream, ahead: &mut Vec<u8>, length: u64) -> Result<()> {
    let mut left = usize::try_from(length).unwrap_or(usize::MAX);
    let now = left.min(ahead.len());
    ahead.drain(..now);
    left -= now;
    let mut buffer = vec![0; left.min(256 << 10)];
    while left > 0 {
        let room = left.min(buffer.len());
        let read = stream.read(&mut buffer[..room]).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
    }
    Ok(())
}

async fn text(stream: &mut TcpStream, body: &str) -> Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await
}

async fn bytes(stream: &mut TcpStream, length: u64) -> Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut left = usize::try_from(length).unwrap_or(usize::MAX);
    let first = left.min(8 << 10);
    let mut start = head.into_bytes();
    start.extend_from_slice(&FILLER[..first]);
    stream.write_all(&start).await?;
    left -= first;
    while left > 0 {
        let now = left.min(FILLER.len());
        stream.write_all(&FILLER[..now]).await?;
        left -= now;
    }
    Ok(())
}

async fn trickle(stream: &mut TcpStream, milliseconds: u64, count: u64) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {count}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        stream.write_all(b"x").await?;
    }
    Ok(())
}

async fn cut(stream: &mut TcpStream, length: u64) -> Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let half = usize::try_from(length / 2).unwrap_or(0).min(FILLER.len());
    stream.write_all(&FILLER[..half]).await
}

async fn events(stream: &mut TcpStream, milliseconds: u64, count: u64) -> Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    let every = Duration::from_millis(milliseconds.max(1)).as_nanos();
    let first = nanoseconds() / every + 1;
    for beat in (first..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        let left = (beat * every).saturating_sub(nanoseconds());
        tokio::time::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))).await;
        let event = format!("id: {beat}\ndata: {}\n\n", nanoseconds());
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// Echoes frames of up to 125 bytes unmasked, as a server must send them (RFC 6455 §5.1).
async fn echo(stream: &mut TcpStream, mut ahead: Vec<u8>, head: &str) -> Result<()> {
    if field(head, "sec-websocket-key") != Some(WEBSOCKET_KEY) {
        return stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    loop {
        while ahead.len() < 2 || ahead.len() < 6 + usize::from(ahead[1] & 0x7f) {
            if stream.read_buf(&mut ahead).await? == 0 {
                return Ok(());
            }
        }
        let length = usize::from(ahead[1] & 0x7f);
        let mask = [ahead[2], ahead[3], ahead[4], ahead[5]];
        let mut frame = vec![ahead[0], ahead[1] & 0x7f];
        frame.extend(ahead[6..6 + length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        ahead.drain(..6 + length);
        stream.write_all(&frame).await?;
    }
}
