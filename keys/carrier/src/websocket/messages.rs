//! A WebSocket as a stream of bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Sink, Stream as Messages};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Bytes, Message,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    io::{CopyToBytes, SinkWriter, StreamReader},
};

pub use tungstenite::handshake::derive_accept_key as accept_key;

/// Bytes of one message that is sent, and the most that one has which is taken: a stranger may have us hold one that does not end.
pub(super) const PIECE: usize = 64 * 1024;

/// Bytes that are read at once. So many are kept for each connection, and cleared each time that it is looked for more.
const READ: usize = 8 * 1024;

/// A WebSocket as a stream of bytes. Its end is a close of the WebSocket.
#[derive(Debug)]
pub struct Stream<S>(Compat<SinkWriter<StreamReader<CopyToBytes<Binary<S>>, Bytes>>>);

impl<S> futures::AsyncRead for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S> futures::AsyncWrite for Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let piece = buf.get(..PIECE).unwrap_or(buf);
        Pin::new(&mut self.0).poll_write(cx, piece)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// The relay's end, once HTTP has given the connection up; `first` has come already.
pub(super) async fn of_server<S>(stream: S, first: Vec<u8>) -> Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    of(WebSocketStream::from_partially_read(stream, first, Role::Server, Some(config())).await)
}

pub(super) fn of<S>(socket: WebSocketStream<S>) -> Stream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Stream(SinkWriter::new(StreamReader::new(CopyToBytes::new(Binary(socket)))).compat())
}

pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(PIECE))
        .max_frame_size(Some(PIECE))
        .read_buffer_size(READ)
        .write_buffer_size(PIECE / 4)
        .max_write_buffer_size(4 * PIECE)
}

/// The binary messages of a WebSocket; pings are answered by the library.
#[derive(Debug)]
pub(super) struct Binary<S>(WebSocketStream<S>);

impl<S> Messages for Binary<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                // An empty piece would look like the end.
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => {}
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(Some(Ok(bytes))),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "a message of text");
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(plain(error)))),
            }
        }
    }
}

impl<S> Sink<Bytes> for Binary<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(plain)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> io::Result<()> {
        Pin::new(&mut self.0).start_send(Message::Binary(bytes)).map_err(plain)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(plain)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(plain)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are many, and told in its words")]
fn plain(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
