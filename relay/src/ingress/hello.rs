//! The first bytes of a TLS connection: kept while they are read, so that whoever ends the connection's TLS may be
//! somebody behind the relay, and gets them as they came.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// From so many bytes on no more of a client hello is read. Browsers send some 2 KiB, with keys for the time after
/// quantum computers.
const LONGEST: usize = 16 * 1024;

/// A connection whose hello is being read.
#[derive(Debug)]
pub(super) struct Hello<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

impl<S> Hello<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// The connection, and what was read from it.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.read.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hello<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.len() >= LONGEST {
            return Poll::Ready(Err(io::Error::other("the client hello is too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read.extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hello<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection from its first byte on, of which some were read before.
#[derive(Debug)]
pub(super) struct Replayed<S = TcpStream> {
    hello: Bytes,
    stream: S,
    moved: Moved,
}

/// Counts how often bytes went through a connection, in either direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Arc<AtomicU64>);

impl Moved {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl<S> Replayed<S> {
    pub(super) fn new(stream: S, hello: Bytes) -> Self {
        Self { hello, stream, moved: Moved::default() }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn moved(&self) -> Moved {
        self.moved.clone()
    }

    fn note<T>(&self, result: Poll<T>) -> Poll<T> {
        if result.is_ready() {
            self.moved.0.fetch_add(1, Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hello.has_remaining() {
            let now = buf.remaining().min(self.hello.len());
            buf.put_slice(&self.hello.split_to(now));
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_again_and_then_the_rest() {
        let (mut far, near) = duplex(64);
        far.write_all(b"hello").await.unwrap();
        let mut hello = Hello::new(near);
        assert_eq!(hello.read_u8().await.unwrap(), b'h');
        hello.read_exact(&mut [0; 4]).await.unwrap();
        let (near, read) = hello.into_parts();
        let mut replayed = Replayed::new(near, read);
        far.write_all(b", world").await.unwrap();
        drop(far);
        let mut all = String::new();
        replayed.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "hello, world");
        assert!(replayed.moved().count() > 0);
    }

    #[tokio::test]
    async fn a_hello_without_an_end_is_given_up() {
        let (mut far, near) = duplex(64);
        let feeding = async move { while far.write_all(&[0; 64]).await.is_ok() {} };
        let reading = async {
            let (mut hello, mut all) = (Hello::new(near), Vec::new());
            let failed = hello.read_to_end(&mut all).await;
            assert!(failed.is_err() && all.len() < LONGEST + 64, "{}", all.len());
        };
        tokio::join!(feeding, reading);
    }
}
