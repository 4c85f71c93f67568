//! The copy: a pipe that gives what passes to the recorder, and waits for nobody.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// Whose pipe it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A visitor's.
    Visit,
    /// Our own, to send that exchange's request again.
    Replay { of: u64 },
}

/// What happened on a pipe.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) line: Arc<Line>,
    pub(super) at: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// Bytes passed, at this place of their direction's stream.
    Passed { way: Direction, place: u64, bytes: Bytes },
    /// It is gone.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// What a tap and the recorder know of the same pipe.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: u64,
    pub(super) kind: Kind,
    /// Bytes before these places need no copy: the recorder's wish.
    needless: [AtomicU64; 2],
    /// Something was not recorded: nothing is copied any more.
    lost: AtomicBool,
    ended: AtomicBool,
    /// What passed up to the end.
    totals: [AtomicU64; 2],
}

impl Line {
    pub(super) fn set_needless(&self, (up, down): (u64, u64)) {
        self.needless[Direction::Up as usize].store(up, Relaxed);
        self.needless[Direction::Down as usize].store(down, Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Relaxed)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn totals(&self) -> (u64, u64) {
        (
            self.totals[Direction::Up as usize].load(Relaxed),
            self.totals[Direction::Down as usize].load(Relaxed),
        )
    }
}

/// The way to the recorder, shared by all taps.
#[derive(Debug)]
pub(super) struct Inlet {
    queue: mpsc::Sender<Message>,
    pub(super) clock: Clock,
    /// A message was lost: the recorder is to look at its lines' own words.
    pub(super) overflowed: AtomicBool,
    /// Lines of which something was not recorded.
    pub(super) missed: AtomicU64,
    lines: AtomicU64,
}

impl Inlet {
    pub(super) const fn new(queue: mpsc::Sender<Message>, clock: Clock) -> Self {
        Self {
            queue,
            clock,
            overflowed: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            lines: AtomicU64::new(0),
        }
    }

    /// Whether the recorder will see it.
    fn send(&self, line: &Arc<Line>, what: What) -> bool {
        let message = Message { line: Arc::clone(line), at: self.clock.now(), what };
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                if !line.lost.swap(true, Relaxed) {
                    self.missed.fetch_add(1, Relaxed);
                }
                self.overflowed.store(true, Relaxed);
                false
            }
            Err(TrySendError::Closed(_)) => {
                line.lost.store(true, Relaxed);
                false
            }
        }
    }
}

/// Microseconds of the Unix epoch that never go back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    epoch: u64,
}

impl Clock {
    pub(super) fn starting(now: SystemTime) -> Self {
        let epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Self { started: Instant::now(), epoch: u64::try_from(epoch).unwrap_or(u64::MAX) }
    }

    pub(super) fn now(self) -> u64 {
        let since = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.epoch.saturating_add(since)
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Tap<P> {
    pipe: P,
    line: Arc<Line>,
    inlet: Arc<Inlet>,
    passed: [u64; 2],
}

impl<P> Tap<P> {
    /// `first` was read from the pipe already.
    pub(super) fn new(pipe: P, first: &[u8], inlet: Arc<Inlet>, kind: Kind) -> Self {
        let line = Arc::new(Line {
            id: inlet.lines.fetch_add(1, Relaxed) + 1,
            kind,
            needless: [const { AtomicU64::new(0) }; 2],
            lost: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            totals: [const { AtomicU64::new(0) }; 2],
        });
        let mut tap = Self { pipe, line, inlet, passed: [0; 2] };
        tap.copy(Direction::Up, first);
        tap
    }

    /// Which connection its exchanges belong to.
    pub(crate) fn line(&self) -> u64 {
        self.line.id
    }

    fn copy(&mut self, way: Direction, bytes: &[u8]) {
        let place = self.passed[way as usize];
        self.passed[way as usize] += bytes.len() as u64;
        let needless = self.line.needless[way as usize].load(Relaxed).saturating_sub(place);
        let Some(bytes) = usize::try_from(needless).ok().and_then(|needless| bytes.get(needless..)) else {
            return;
        };
        if bytes.is_empty() || self.line.is_lost() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        self.inlet.send(&self.line, What::Passed { way, place: place + needless, bytes });
    }
}

impl<P> Drop for Tap<P> {
    fn drop(&mut self) {
        for (total, passed) in self.line.totals.iter().zip(self.passed) {
            total.store(passed, Relaxed);
        }
        self.line.ended.store(true, Relaxed);
        // Where it does not arrive, the recorder finds the line ended.
        self.inlet.send(&self.line, What::Ended);
    }
}

impl<P: AsyncRead + Unpin> AsyncRead for Tap<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        self.copy(Direction::Up, &buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Tap<P> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, bytes))?;
        self.copy(Direction::Down, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let count = slice.len().min(left);
            self.copy(Direction::Down, &slice[..count]);
            left -= count;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
