//! Copies between a pipe and an origin, both ways at once, and ends the way the origin ended.
//!
//! What it promises:
//! - each half closes on its own: a finished request body leaves the answer flowing, and the other way round;
//! - an origin that fails is never passed on as a proper end: [`splice`] returns [`Ended::OriginFailed`] with the pipe
//!   not closed, so that dropping it resets it;
//! - an origin that stops reading (an early answer to an upload) may still finish its answer: what the pipe sends
//!   from then on is thrown away;
//! - after a proper end it returns once the other end has closed the pipe too. A carrier tells a reset from an end
//!   only by what follows, so that dropping the pipe earlier would look like one.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{chunk::Chunk, pipe_end, pulse::Pulse};

/// How a [`splice`] ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both sides closed properly.
    Properly,
    /// The origin failed before it finished; the pipe is to be dropped as it is, which resets it.
    OriginFailed(io::Error),
    /// The pipe failed, or was reset by the other end.
    PipeLost(io::Error),
}

/// Copies until both directions have ended.
///
/// `up` holds bytes that were read from the pipe before, `down` bytes that go to the pipe first.
pub(crate) async fn splice<P, O>(pipe: &mut P, origin: &mut O, up: Chunk, down: Chunk, pulse: &Pulse) -> Ended
where
    P: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let mut both = Splice { up: Up::Open(Flow::holding(up)), down: Some(Flow::holding(down)), pulse };
    poll_fn(|cx| both.poll(cx, pipe, origin)).await
}

struct Splice<'a> {
    up: Up,
    /// Towards the visitor; `None` once the origin has ended and the pipe was closed.
    down: Option<Flow>,
    pulse: &'a Pulse,
}

/// The way towards the origin.
enum Up {
    Open(Flow),
    /// The origin takes no more; what comes is thrown away.
    Deaf,
    /// The pipe's end was passed on.
    Done,
}

impl Splice<'_> {
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
                Up::Open(flow) => match ready!(flow.poll(cx, pipe, origin, || self.pulse.up())) {
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
        ready!(flow.poll(cx, origin, pipe, || self.pulse.down())).map_err(|broken| match broken {
            Broken::From(error) => Ended::OriginFailed(error),
            Broken::To(error) => Ended::PipeLost(error),
        })?;
        ready!(flow.poll_close(cx, pipe)).map_err(Ended::PipeLost)?;
        self.down = None;
        Poll::Ready(Ok(()))
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

    /// Ready at the end of `from`, when everything before it was written. Calls `beat` for whatever it reads.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        beat: impl Fn(),
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
            let chunk = self.held.get_or_insert_with(Chunk::take);
            match chunk.poll_fill(cx, from) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => beat(),
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
