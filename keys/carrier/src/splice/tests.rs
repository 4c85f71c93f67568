use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::chunk;

const SOON: Duration = Duration::from_secs(10);

/// A visitor's end and an origin's end with a splice between them. The pipe is dropped when the splice ends.
struct Pair<O> {
    visitor: DuplexStream,
    origin: O,
    splice: JoinHandle<Ended>,
}

struct Nobody;

impl Watch for Nobody {
    fn up(&mut self, _: usize) {}

    fn down(&mut self, _: usize) {}
}

fn held(bytes: &[u8]) -> Chunk {
    let mut chunk = Chunk::take();
    assert_eq!(chunk.push(bytes), bytes.len());
    chunk
}

#[expect(clippy::disallowed_methods, reason = "the test joins the task")]
fn between<O>(mut inner: O, up: &[u8], down: &[u8], deaf: Deaf) -> (DuplexStream, JoinHandle<Ended>)
where
    O: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (visitor, mut pipe) = duplex(1024);
    let (up, down) = (held(up), held(down));
    let splice =
        tokio::spawn(async move { splice(&mut pipe, &mut inner, (up, down), deaf, &mut Nobody).await });
    (visitor, splice)
}

fn in_memory() -> Pair<DuplexStream> {
    let (origin, inner) = duplex(1024);
    let (visitor, splice) = between(inner, b"", b"", Deaf::MayAnswer);
    Pair { visitor, origin, splice }
}

async fn over_tcp() -> Pair<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inner = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (origin, _) = listener.accept().await.unwrap();
    let (visitor, splice) = between(inner, b"", b"", Deaf::MayAnswer);
    Pair { visitor, origin, splice }
}

async fn end_of(splice: JoinHandle<Ended>) -> Ended {
    timeout(SOON, splice).await.expect("the splice goes on").unwrap()
}

#[tokio::test]
async fn copies_both_ways_and_ends_when_both_have() {
    let mut pair = in_memory();
    pair.visitor.write_all(b"request").await.unwrap();
    let mut bytes = [0; 7];
    pair.origin.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"request");

    // The visitor is done; the answer still flows.
    pair.visitor.shutdown().await.unwrap();
    assert_eq!(pair.origin.read(&mut bytes).await.unwrap(), 0, "the half-close is passed on");
    pair.origin.write_all(b"an answer").await.unwrap();
    pair.origin.shutdown().await.unwrap();
    let mut answer = Vec::new();
    pair.visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"an answer");
    assert!(matches!(end_of(pair.splice).await, Ended::Properly));
}

#[tokio::test]
async fn an_upload_goes_on_after_the_answer_has_ended() {
    let mut pair = in_memory();
    pair.origin.write_all(b"go on").await.unwrap();
    pair.origin.shutdown().await.unwrap();
    let mut answer = Vec::new();
    pair.visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"go on");
    assert!(!pair.splice.is_finished(), "it waits for the pipe's own end");

    let sent = vec![7; 100_000];
    let mut received = Vec::new();
    let (written, read) = tokio::join!(
        async {
            pair.visitor.write_all(&sent).await?;
            pair.visitor.shutdown().await
        },
        pair.origin.read_to_end(&mut received),
    );
    written.unwrap();
    read.unwrap();
    assert!(received == sent);
    assert!(matches!(end_of(pair.splice).await, Ended::Properly));
}

#[tokio::test]
async fn what_was_read_before_goes_first() {
    let (mut origin, inner) = duplex(64);
    let (mut visitor, splice) = between(inner, b"early ", b"\0", Deaf::MayAnswer);
    visitor.write_all(b"late").await.unwrap();
    visitor.shutdown().await.unwrap();
    let mut up = String::new();
    origin.read_to_string(&mut up).await.unwrap();
    assert_eq!(up, "early late");
    origin.write_all(b"answer").await.unwrap();
    drop(origin);
    let mut down = Vec::new();
    visitor.read_to_end(&mut down).await.unwrap();
    assert_eq!(down, b"\0answer");
    assert!(matches!(end_of(splice).await, Ended::Properly));
}

#[tokio::test]
async fn what_is_larger_than_every_buffer_arrives_whole() {
    let mut pair = over_tcp().await;
    let sent: Vec<u8> = (0..chunk::SIZE * 20 + 17).map(|i| (i % 251) as u8).collect();
    let (mut read, mut write) = pair.origin.split();
    let (mut visitor_read, mut visitor_write) = tokio::io::split(&mut pair.visitor);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (a, b, c, d) = tokio::join!(
        async {
            visitor_write.write_all(&sent).await?;
            visitor_write.shutdown().await
        },
        read.read_to_end(&mut up),
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        visitor_read.read_to_end(&mut down),
    );
    a.and(c).unwrap();
    b.and(d).unwrap();
    assert!(up == sent && down == sent);
}

#[tokio::test]
async fn an_origin_that_resets_is_not_a_proper_end() {
    let mut pair = over_tcp().await;
    pair.origin.write_all(b"half an ans").await.unwrap();
    let mut bytes = [0; 11];
    pair.visitor.read_exact(&mut bytes).await.unwrap();
    pair.origin.set_zero_linger().unwrap();
    drop(pair.origin);
    let ended = end_of(pair.splice).await;
    assert!(matches!(ended, Ended::OriginFailed(_)), "{ended:?}");
}

#[tokio::test]
async fn a_pipe_that_was_dropped_ends_everything_at_once() {
    let mut pair = in_memory();
    pair.visitor.write_all(b"request").await.unwrap();
    drop(pair.visitor);
    let ended = end_of(pair.splice).await;
    assert!(matches!(ended, Ended::PipeLost(_)), "{ended:?}");
    let mut rest = Vec::new();
    pair.origin.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"request", "the origin is let go");
}

#[tokio::test]
async fn an_early_answer_survives_the_upload_it_refuses() {
    let (mut origin, inner) = duplex(64);
    let (mut visitor, splice) = between(DeafOrigin(inner), b"", b"", Deaf::MayAnswer);
    origin.write_all(b"413").await.unwrap();
    drop(origin);
    let upload = vec![1; 100_000];
    visitor.write_all(&upload).await.expect("the upload is taken, if only to be thrown away");
    visitor.shutdown().await.unwrap();
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"413");
    assert!(matches!(end_of(splice).await, Ended::Properly));
}

#[tokio::test]
async fn an_origin_that_takes_no_more_has_failed_where_nobody_answers_early() {
    let (mut origin, inner) = duplex(64);
    let (mut visitor, splice) = between(DeafOrigin(inner), b"", b"", Deaf::HasFailed);
    visitor.write_all(b"into the void").await.unwrap();
    let ended = end_of(splice).await;
    assert!(matches!(ended, Ended::OriginFailed(_)), "{ended:?}");
    assert!(origin.write_all(b"late").await.is_err(), "the origin is let go");
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_counted_and_can_be_held_up() {
    let (mut origin, mut inner) = duplex(64);
    let (mut visitor, mut pipe) = duplex(64);
    let gate = Gate::default();
    let mut counts = Counts { gate: &gate, up: 0, down: 0 };
    let work = splice(&mut pipe, &mut inner, (Chunk::take(), held(b"+")), Deaf::HasFailed, &mut counts);
    let talk = async {
        visitor.write_all(b"question").await.unwrap();
        let mut early = [0; 1];
        visitor.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"+", "what was held before is not held up");
        let asked = timeout(SOON, origin.read(&mut [0; 1])).await;
        assert!(asked.is_err(), "it is held up");
        gate.open();
        visitor.shutdown().await.unwrap();
        let mut question = Vec::new();
        origin.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        origin.write_all(b"answer").await.unwrap();
        origin.shutdown().await.unwrap();
        let mut answer = Vec::new();
        visitor.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    };
    let (ended, ()) = tokio::join!(work, talk);
    assert!(matches!(ended, Ended::Properly), "{ended:?}");
    assert_eq!((counts.up, counts.down), (8, 6));
}

/// Lets nothing through before it is opened.
#[derive(Default)]
struct Gate {
    opened: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    fn open(&self) {
        self.opened.store(true, Ordering::Release);
        self.waiting.wake();
    }
}

struct Counts<'a> {
    gate: &'a Gate,
    up: usize,
    down: usize,
}

impl Watch for Counts<'_> {
    fn up(&mut self, bytes: usize) {
        self.up += bytes;
    }

    fn down(&mut self, bytes: usize) {
        self.down += bytes;
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.gate.waiting.register(cx.waker());
        if self.gate.opened.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_visitor_stops_the_origin() {
    let mut pair = in_memory();
    let endless = vec![1; chunk::SIZE];
    let mut taken = 0;
    while let Ok(written) = timeout(Duration::from_millis(100), pair.origin.write(&endless)).await {
        taken += written.unwrap();
    }
    assert!(taken <= 2 * 1024 + chunk::SIZE, "{taken} bytes are held for a visitor who reads nothing");
    let mut bytes = vec![0; taken];
    pair.visitor.read_exact(&mut bytes).await.unwrap();
    pair.origin.write_all(&endless[..100]).await.expect("reading lets it go on");
}

#[tokio::test]
async fn what_was_written_is_flushed_when_nothing_follows() {
    let (mut origin, inner) = duplex(64);
    let (mut visitor, _splice) = between(BufWriter::with_capacity(1024, inner), b"", b"", Deaf::MayAnswer);
    visitor.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    timeout(SOON, origin.read_exact(&mut bytes)).await.expect("it stays in the buffer").unwrap();
    assert_eq!(&bytes, b"hello");
}

/// An origin that takes nothing, but still answers.
struct DeafOrigin(DuplexStream);

impl AsyncRead for DeafOrigin {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for DeafOrigin {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }
}
