//! Copies between a pipe and an origin, both ways at once, and ends the way the origin ended.
//!
//! What it promises:
//! - each half closes on its own: a finished request body leaves the answer flowing, and the other way round;
//! - an origin that fails is never passed on as a proper end: [`splice`] returns [`Ended::OriginFailed`] with the pipe
//!   not closed, so that dropping it resets it;
//! - an origin that stops reading may still finish its answer where that is [usual](Deaf::MayAnswer) (an early answer to
//!   an upload): what the pipe sends from then on is thrown away;
//! - after a proper end it returns once the other end has closed the pipe too. A carrier tells a reset from an end
//!   only by what follows, so that dropping the pipe earlier would look like one.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{chunk::Chunk, pipe_end};

/// How a [`splice`] ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides closed properly.
    Properly,
    /// The origin failed before it finished; the pipe is to be dropped as it is, which resets it.
    OriginFailed(io::Error),
    /// The pipe failed, or was reset by the other end.
    PipeLost(io::Error),
}

/// Whoever wants to know what passes, and may hold it up.
pub trait Watch {
    /// So many bytes were read from the pipe.
    fn up(&mut self, bytes: usize);

    /// So many bytes were read from the origin.
    fn down(&mut self, bytes: usize);

    /// Asked before each read; while it is pending nothing is read.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// What an origin that takes no more bytes means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deaf {
    /// It may still be answering, as HTTP servers do.
    MayAnswer,
    /// It has failed.
    HasFailed,
}

/// Copies until both directions have ended.
///
/// `up` holds bytes that were read from the pipe before, `down` bytes that go to the pipe first.
pub async fn splice<P, O>(
    pipe: &mut P,
    origin: &mut O,
    (up, down): (Chunk, Chunk),
    deaf: Deaf,
    watch: &mut impl Watch,
) -> Ended
where
    P: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let mut both = Splice { up: Up::Open(Flow::holding(up)), down: Some(Flow::holding(down)), deaf, watch };
    poll_fn(|cx| both.poll(cx, pipe, origin)).await
}

struct Splice<'a, W> {
    up: Up,
    /// Towards the visitor; `None` once the origin has ended and the pipe was closed.
    down: Option<Flow>,
    deaf: Deaf,
    watch: &'a mut W,
}

/// The way towards the origin.
enum Up {
    Open(Flow),
    /// The origin takes no more; what comes is thrown away.
    Deaf,
    /// The pipe's end was passed on.
    Done,
}

impl<W: Watch> Splice<'_, W> {
    fn poll<P, O>(&mut self, cx: &mut Context<'_>, pipe: &mut P, origin: &mut O) -> Poll<Ended>
    where
        P: AsyncRead + AsyncWrite + Unpin,
        O: AsyncRead + AsyncWrite + Unpin,
    {
        if let Poll::Ready(Err(ended)) = self.poll_up(cx, pipe, origin) {
            return Poll::Ready(ended);
        }
        if let Poll::Ready(Err(ended)) = self.poll_down(cx, pipe, origin) {
            return Poll::Ready(ended);
        }
        match (&self.up, &self.down) {
            (Up::Done, None) => Poll::Ready(Ended::Properly),
            _ => Poll::Pending,
        }
    }

    fn poll_up<P, O>(&mut self, cx: &mut Context<'_>, pipe: &mut P, origin: &mut O) -> Poll<Result<(), Ended>>
    where
        P: AsyncRead + AsyncWrite + Unpin,
        O: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            match &mut self.up {
                Up::Open(flow) => match ready!(flow.poll(cx, pipe, origin, &mut Upwards(self.watch))) {
                    Ok(()) => {
                        // Once our own half is closed, a reset and an end mean the same.
                        if self.down.is_some() {
                            pipe_end::check(cx, pipe).map_err(Ended::PipeLost)?;
                        }
                        self.up = match ready!(flow.poll_close(cx, origin)) {
                            Ok(()) => Up::Done,
                            Err(_) => Up::Deaf,
                        };
                    }
                    Err(Broken::From(error)) => return Poll::Ready(Err(Ended::PipeLost(error))),
                    Err(Broken::To(error)) if self.deaf == Deaf::HasFailed => {
                        return Poll::Ready(Err(Ended::OriginFailed(error)));
                    }
                    // The answer says how the origin ended: it may be complete.
                    Err(Broken::To(_)) => self.up = Up::Deaf,
                },
                Up::Deaf => {
                    ready!(pipe_end::poll_discard(cx, pipe)).map_err(Ended::PipeLost)?;
                    self.up = Up::Done;
                }
                Up::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_down<P, O>(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut P,
        origin: &mut O,
    ) -> Poll<Result<(), Ended>>
    where
        P: AsyncRead + AsyncWrite + Unpin,
        O: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(flow) = &mut self.down else {
            return Poll::Ready(Ok(()));
        };
        ready!(flow.poll(cx, origin, pipe, &mut Downwards(self.watch))).map_err(|broken| match broken {
            Broken::From(error) => Ended::OriginFailed(error),
            Broken::To(error) => Ended::PipeLost(error),
        })?;
        ready!(flow.poll_close(cx, pipe)).map_err(Ended::PipeLost)?;
        self.down = None;
        Poll::Ready(Ok(()))
    }
}

/// A [`Watch`] over one direction.
trait OneWay {
    fn passed(&mut self, bytes: usize);

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

struct Upwards<'a, W>(&'a mut W);

impl<W: Watch> OneWay for Upwards<'_, W> {
    fn passed(&mut self, bytes: usize) {
        self.0.up(bytes);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ready(cx)
    }
}

struct Downwards<'a, W>(&'a mut W);

impl<W: Watch> OneWay for Downwards<'_, W> {
    fn passed(&mut self, bytes: usize) {
        self.0.down(bytes);
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_ready(cx)
    }
}

/// Which side of a one-way copy failed.
#[derive(Debug)]
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// One direction: bytes that were read and not yet written, if any.
struct Flow {
    held: Option<Chunk>,
    unflushed: bool,
    ended: bool,
}

impl Flow {
    fn holding(chunk: Chunk) -> Self {
        Self { held: Some(chunk), unflushed: false, ended: false }
    }

    /// Ready at the end of `from`, when everything before it was written.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        watch: &mut impl OneWay,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if let Some(chunk) = &mut self.held
                && !chunk.is_empty()
            {
                self.unflushed = true;
                ready!(chunk.poll_drain(cx, to)).map_err(Broken::To)?;
            }
            if self.ended {
                self.held = None;
                return Poll::Ready(Ok(()));
            }
            if watch.poll_ready(cx).is_pending() {
                self.held = None;
                return self.poll_flush(cx, to).map_err(Broken::To);
            }
            let chunk = self.held.get_or_insert_with(Chunk::take);
            match chunk.poll_fill(cx, from) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(bytes)) => watch.passed(bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::From(error))),
                Poll::Pending => {
                    self.held = None;
                    return self.poll_flush(cx, to).map_err(Broken::To);
                }
            }
        }
    }

    /// Nothing to read: hand over what `to` may still buffer. Never ready but with an error.
    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    fn poll_close<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        Pin::new(to).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
