//! Moves the bytes of one lasting stream between its owner here and the leg that carries it. While another leg is begun, the
//! earlier one goes on.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::future::OptionFuture;
use mytunnel_carrier::{
    chunk::{self, Chunk},
    pipe_end,
};
use mytunnel_keys::wire::PipeStatus;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::flow::{Attempt, Flow, Standing};

/// Bytes that are written to a leg at once.
const WRITE: usize = 32 * 1024;

/// Time for the last words on a leg.
const FAREWELL: Duration = Duration::from_secs(5);

/// Something that bytes go in and out of.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A leg as it is carried: one stream of one connection.
pub(crate) type LegIo = Box<dyn Io>;

/// What stopped the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The stream is over.
    Over,
    /// The newest leg is lost, and another is wanted.
    Legless,
    /// All is said, and only an answer is awaited; said once.
    Said,
}

/// Whether the first byte from the other end, a [`PipeStatus`], has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Awaited,
    /// There is none, or it said that the target has accepted.
    Past,
    Refused(PipeStatus),
}

/// See the [module documentation](self).
pub(super) struct Exchange<L> {
    pub(super) flow: Flow,
    local: Local<L>,
    leg: Option<Leg>,
    /// What is to carry the stream once the other end answers on it.
    next: Option<Leg>,
    has_said: bool,
}

/// The owner's end.
struct Local<L> {
    io: L,
    /// It writes no more.
    has_ended: bool,
    /// It was told that nothing follows.
    was_told: bool,
    status: Status,
    /// Whether its end is one, and no break.
    verdict: Verdict,
}

/// Told by who writes into the owner's end, before it drops that: an end of reading alone does not say whether what came
/// before it is all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<AtomicBool>);

impl Verdict {
    /// What was written is not whole.
    pub(crate) fn set_broken(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct Leg {
    io: LegIo,
    attempt: Attempt,
    out: Vec<u8>,
    written: usize,
    is_flushed: bool,
    /// Read, and not taken: the beginning of a frame.
    residue: Vec<u8>,
}

impl<L: Io> Exchange<L> {
    pub(super) fn new(flow: Flow, local: L, status: Status, verdict: Verdict) -> Self {
        let local = Local { io: local, has_ended: false, was_told: false, status, verdict };
        Self { flow, local, leg: None, next: None, has_said: false }
    }

    /// Another leg, on which `first` is sent before anything else.
    pub(super) fn take(&mut self, io: LegIo, attempt: Attempt, first: Vec<u8>) {
        let leg = Leg { io, attempt, out: first, written: 0, is_flushed: false, residue: Vec::new() };
        if self.flow.is_on(attempt) {
            (self.leg, self.next) = (Some(leg), None);
        } else {
            self.next = Some(leg);
        }
    }

    /// Leaves a leg on which the other end has not answered in time; whether there was one.
    pub(super) fn leave_late(&mut self) -> bool {
        let Some(late) = self.flow.late(now()) else { return false };
        for leg in [&mut self.leg, &mut self.next] {
            leg.take_if(|leg| leg.attempt == late);
        }
        self.flow.detach(late, now());
        true
    }

    pub(super) fn status(&self) -> Status {
        self.local.status
    }

    /// Moves bytes for as long as any move. Safe to cancel.
    pub(super) async fn run(&mut self) -> Turn {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Says the last words, and gives the owner's end back.
    pub(super) async fn finish(mut self) -> L {
        let (flow, leg, next) = (&mut self.flow, self.leg.take(), self.next.take());
        let [on_leg, on_next] = [leg, next].map(|leg| {
            leg.map(|mut leg| {
                flow.transmit(leg.attempt, &mut leg.out, usize::MAX);
                leg.part()
            })
        });
        tokio::join!(OptionFuture::from(on_leg), OptionFuture::from(on_next));
        self.local.io
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            let mut moved = self.local.poll_read(cx, &mut self.flow);
            moved |= self.local.poll_write(cx, &mut self.flow);
            let mut is_legless = false;
            for slot in [&mut self.leg, &mut self.next] {
                let Some(leg) = slot else { continue };
                match leg.poll(cx, &mut self.flow) {
                    Ok(has_moved) => moved |= has_moved,
                    Err(error) => {
                        tracing::debug!(%error, "leg lost");
                        is_legless |= self.flow.is_newest(leg.attempt);
                        self.flow.detach(leg.attempt, now());
                        *slot = None;
                    }
                }
            }
            if let Some(next) = self.next.take_if(|next| self.flow.is_on(next.attempt)) {
                self.leg = Some(next);
                moved = true;
            }
            if is_legless && self.flow.standing() == Standing::Open {
                return Poll::Ready(Turn::Legless);
            }
            let is_over = match self.flow.standing() {
                Standing::Open => false,
                Standing::Done => self.local.was_told,
                Standing::Broken => true,
            };
            let mut legs = [&self.leg, &self.next].into_iter().flatten();
            if is_over && legs.all(Leg::is_flushed) {
                return Poll::Ready(Turn::Over);
            }
            if self.flow.is_said() && !std::mem::replace(&mut self.has_said, true) {
                return Poll::Ready(Turn::Said);
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

impl<L: Io> Local<L> {
    /// Takes what the owner writes; whether there was anything.
    fn poll_read(&mut self, cx: &mut Context<'_>, flow: &mut Flow) -> bool {
        if self.has_ended || flow.room() < chunk::SIZE || flow.standing() != Standing::Open {
            return false;
        }
        let mut chunk = Chunk::take();
        let Poll::Ready(read) = chunk.poll_fill(cx, &mut self.io) else { return false };
        match read {
            Ok(0) => {
                self.has_ended = true;
                if self.verdict.is_broken() {
                    flow.break_off();
                } else {
                    flow.finish();
                }
            }
            Ok(_) => {
                let taken = flow.write(chunk.filled());
                debug_assert_eq!(taken, chunk.filled().len(), "there was room for a whole chunk");
            }
            Err(error) => {
                tracing::debug!(%error, "the owner of a stream has broken it off");
                self.has_ended = true;
                flow.break_off();
            }
        }
        true
    }

    /// Gives the owner what has come; whether it took anything.
    fn poll_write(&mut self, cx: &mut Context<'_>, flow: &mut Flow) -> bool {
        if self.was_told || flow.standing() == Standing::Broken {
            return false;
        }
        if self.status == Status::Awaited {
            let Some(byte) = flow.readable().first().copied() else {
                if flow.has_ended() {
                    flow.break_off();
                }
                return false;
            };
            flow.consume(1);
            self.status = match PipeStatus::try_from(byte) {
                Ok(PipeStatus::Connected) => Status::Past,
                Ok(refused @ (PipeStatus::TargetUnreachable | PipeStatus::UnknownTunnel)) => {
                    Status::Refused(refused)
                }
                Err(_) => Status::Refused(PipeStatus::UnknownTunnel),
            };
            if self.status != Status::Past {
                flow.break_off();
            }
            return true;
        }
        let result = if !flow.readable().is_empty() {
            Pin::new(&mut self.io).poll_write(cx, flow.readable())
        } else if flow.has_ended() {
            Pin::new(&mut self.io).poll_shutdown(cx).map_ok(|()| 0)
        } else {
            // What the owner's end holds back is to reach it before we wait.
            let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) else { return false };
            Poll::Ready(Err(error))
        };
        match result {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) if flow.readable().is_empty() => self.was_told = true,
            Poll::Ready(Ok(0)) => flow.break_off(),
            Poll::Ready(Ok(written)) => flow.consume(written),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the owner of a stream takes nothing more");
                flow.break_off();
            }
        }
        true
    }
}

impl Leg {
    /// Moves bytes both ways; whether any did.
    ///
    /// # Errors
    /// When the leg is of no use any more.
    fn poll(&mut self, cx: &mut Context<'_>, flow: &mut Flow) -> io::Result<bool> {
        let mut moved = false;
        if self.out.is_empty() {
            flow.transmit(self.attempt, &mut self.out, WRITE);
        }
        if let Poll::Ready(written) = self.poll_write(cx) {
            moved |= written?;
        }
        if flow.standing() != Standing::Broken {
            moved |= self.poll_read(cx, flow)?;
        }
        Ok(moved)
    }

    /// Writes the last words.
    async fn part(mut self) {
        let last = async {
            poll_fn(|cx| self.poll_write(cx)).await?;
            pipe_end::close(&mut self.io).await
        };
        // Whoever does not take them learns it otherwise.
        if !matches!(timeout(FAREWELL, last).await, Ok(Ok(()))) {
            tracing::trace!("the last word on a leg was not taken");
        }
    }

    /// Whether something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let had_any = !self.out.is_empty();
        while self.written < self.out.len() {
            self.is_flushed = false;
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        if had_any {
            // An idle stream holds no buffer.
            (self.out, self.written) = (Vec::new(), 0);
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(had_any))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, flow: &mut Flow) -> io::Result<bool> {
        let mut chunk = Chunk::take();
        chunk.push(&self.residue);
        match chunk.poll_fill(cx, &mut self.io) {
            Poll::Pending => Ok(false),
            Poll::Ready(read) => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {
                    self.residue = chunk.filled().to_vec();
                    self.feed(flow)?;
                    Ok(true)
                }
            },
        }
    }

    /// Gives the stream what was read; whether it took any of it.
    fn feed(&mut self, flow: &mut Flow) -> io::Result<bool> {
        if self.residue.is_empty() {
            return Ok(false);
        }
        let taken = flow
            .on_bytes(self.attempt, &self.residue)
            .map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
        self.residue.drain(..taken);
        if self.residue.is_empty() {
            self.residue = Vec::new();
        }
        Ok(taken > 0)
    }

    fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.is_flushed
    }
}

/// The clock of the streams.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;
    use crate::lasting::{flow::Limits, frames};

    #[tokio::test]
    async fn what_is_broken_off_while_it_moves_says_so_on_both_legs() {
        let (local, _owner) = duplex(64);
        let flow = Flow::new(Limits::default(), now());
        let mut exchange = Exchange::new(flow, local, Status::Past, Verdict::default());
        let (near, mut first) = duplex(64);
        let attempt = exchange.flow.begin(now()).attempt;
        exchange.take(Box::new(near), attempt, Vec::new());
        let mut answer = Vec::new();
        frames::put_have(&mut answer, 0, 0);
        exchange.flow.on_bytes(attempt, &answer).unwrap();
        let (near, mut second) = duplex(64);
        let attempt = exchange.flow.begin(now()).attempt;
        exchange.take(Box::new(near), attempt, b"opening".to_vec());
        exchange.flow.break_off();
        exchange.finish().await;
        let mut said = Vec::new();
        frames::put_break(&mut said);
        for (leg, before) in [(&mut first, &b""[..]), (&mut second, b"opening")] {
            let mut came = Vec::new();
            leg.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, [before, &said].concat());
        }
    }
}
