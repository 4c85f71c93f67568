//! What happens at the node's end of a pipe.
//!
//! A pipe is an ordered byte stream that the relay opened: a libp2p stream, later a TLS lane, a duplex in a test. It
//! begins with 16 bytes that name the tunnel. Then nothing happens until the first byte of payload, so that a relay
//! may keep pipes in reserve: a waiting pipe holds no buffer and no connection to the target. With the first byte the
//! target is dialled and one status byte answered ([`PipeStatus`]); from there on bytes are copied unread, or, for files
//! and with a rewritten `Host`, spoken HTTP/1.1 with. Pipes of TCP and UDP tunnels begin their payload with a
//! [`Greeting`](mytunnel_carrier::greeting::Greeting).

mod datagrams;
pub(crate) mod files;
mod http_pipe;
pub(crate) mod pulse;
mod rewrite;
mod stream;
pub(crate) mod table;

use std::{future::poll_fn, io, sync::Arc, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use mytunnel_carrier::{
    chunk::Chunk,
    greeting::{NoGreeting, Transport},
    pipe::PREFACE,
    pipe_end,
    splice::{Deaf, Ended, splice},
};
use mytunnel_keys::wire::PipeStatus;

use crate::{
    inspect::tap::Kind,
    target::dial::{DialError, Origin, Speech},
};
use pulse::Pulse;
use socket2::SockRef;
use table::{Answer, Service, Table};

/// A pipe of whatever carries it.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// How long a pipe may wait for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the 16 bytes that name the tunnel.
    pub(crate) preface: Duration,
    /// For the first byte of payload. Longer than a relay keeps a pipe in reserve, so that it is the relay that
    /// closes.
    pub(crate) first_use: Duration,
    /// For a tunnel whose registration is still on its way to us.
    pub(crate) registration: Duration,
    /// For the relay to close a pipe that was answered with an error.
    pub(crate) refused: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            preface: Duration::from_secs(10),
            first_use: Duration::from_secs(90),
            registration: Duration::from_secs(1),
            refused: Duration::from_secs(5),
        }
    }
}

/// Serves one pipe to its end. Returning drops the pipe, which resets it unless both ends closed it.
pub(crate) async fn serve(
    mut pipe: impl Pipe + 'static,
    mut table: Table,
    patience: Patience,
    pulse: Arc<Pulse>,
) -> Result<(), PipeError> {
    let mut tunnel = [0; PREFACE];
    timeout(patience.preface, pipe.read_exact(&mut tunnel)).await.map_err(|_| PipeError::Idle)??;
    let Some(first) = first_use(&mut pipe, patience).await? else { return Ok(()) };
    match table.find(&tunnel, patience.registration).await {
        Some(service) => serve_first(pipe, first, &service, patience, pulse).await,
        None => refuse(pipe, PipeStatus::UnknownTunnel, patience).await,
    }
}

/// As [`serve`], for a pipe that we opened and that names no tunnel. Calls `on_first_use` when it is taken into use.
pub(crate) async fn serve_lane(
    mut pipe: impl Pipe + 'static,
    service: &Service,
    patience: Patience,
    pulse: Arc<Pulse>,
    on_first_use: impl FnOnce(),
) -> Result<(), PipeError> {
    let Some(first) = first_use(&mut pipe, patience).await? else { return Ok(()) };
    on_first_use();
    serve_first(pipe, first, service, patience, pulse).await
}

async fn serve_first(
    pipe: impl Pipe + 'static,
    first: Chunk,
    service: &Service,
    patience: Patience,
    pulse: Arc<Pulse>,
) -> Result<(), PipeError> {
    pulse.up();
    service.note_use();
    // Boxed, so that a pipe that waits is small.
    let served = match service.inspector() {
        None => service.unless_closed(Box::pin(answer(pipe, first, service, patience, pulse))).await,
        Some(inspector) => {
            let pipe = inspector.tap(pipe, first.filled(), Kind::Visit);
            service.unless_closed(Box::pin(answer(pipe, first, service, patience, pulse))).await
        }
    };
    served.unwrap_or(Err(PipeError::TunnelClosed))
}

/// What is done with a pipe in use.
pub(crate) async fn answer(
    mut pipe: impl Pipe + 'static,
    first: Chunk,
    service: &Service,
    patience: Patience,
    pulse: Arc<Pulse>,
) -> Result<(), PipeError> {
    match service.answer() {
        Answer::Origin(dialer) => match dialer.dial(Speech::of(first.filled())).await {
            Ok(origin) => copy(&mut pipe, origin, first, Deaf::MayAnswer, &pulse).await,
            Err(error) => {
                refuse(pipe, PipeStatus::TargetUnreachable, patience).await?;
                Err(PipeError::Target(error))
            }
        },
        Answer::Files(files) => http_pipe::serve(pipe, first, files, pulse).await,
        Answer::Site(files) => {
            let mut first = first;
            let (_, length) = stream::greeted(&mut pipe, &mut first, Transport::Stream, patience).await?;
            first.consume(length);
            http_pipe::serve(pipe, first, files, pulse).await
        }
        Answer::Rewritten(rewrite) => rewrite.serve(pipe, first, patience, pulse).await,
        Answer::Stream(stream) => stream.serve(pipe, first, patience, &pulse).await,
        Answer::Terminal(terminal) => stream::hand_over(pipe, first, &**terminal, patience, &pulse).await,
        Answer::Datagrams(peer) => peer.serve(pipe, first, patience, pulse).await,
    }
}

async fn copy(
    pipe: &mut impl Pipe,
    origin: Origin,
    first: Chunk,
    deaf: Deaf,
    mut pulse: &Pulse,
) -> Result<(), PipeError> {
    let mut down = Chunk::take();
    down.push(&[PipeStatus::Connected as u8]);
    let held = (first, down);
    let ended = match origin {
        Origin::Tcp(mut stream) => {
            // What is dropped in the middle is not to look whole to a server that reads to the end.
            let strict = deaf == Deaf::HasFailed && stream.set_zero_linger().is_ok();
            let ended = splice(pipe, &mut stream, held, deaf, &mut pulse).await;
            if strict && matches!(ended, Ended::Properly) {
                let _ = SockRef::from(&stream).set_linger(None);
            }
            ended
        }
        Origin::Tls(mut stream) => splice(pipe, &mut *stream, held, deaf, &mut pulse).await,
        Origin::Here(mut stream) => splice(pipe, &mut stream, held, deaf, &mut pulse).await,
        #[cfg(unix)]
        Origin::Unix(mut stream) => splice(pipe, &mut stream, held, deaf, &mut pulse).await,
    };
    outcome(ended)
}

/// Answers an error status, and waits a little for the relay to have read it: dropping the pipe first could make
/// its carrier throw the status away.
async fn refuse(mut pipe: impl Pipe, status: PipeStatus, patience: Patience) -> Result<(), PipeError> {
    pipe.write_all(&[status as u8]).await?;
    // Late or broken, there is nothing more to tell.
    let _ = timeout(patience.refused, pipe_end::close(&mut pipe)).await;
    Ok(())
}

/// Waits for the first payload; `None` when the relay closes the pipe unused.
async fn first_use(pipe: &mut impl Pipe, patience: Patience) -> Result<Option<Chunk>, PipeError> {
    Ok(timeout(patience.first_use, first_bytes(pipe)).await.map_err(|_| PipeError::Idle)??)
}

/// Holds no buffer while it waits.
async fn first_bytes(pipe: &mut impl Pipe) -> io::Result<Option<Chunk>> {
    poll_fn(|cx| {
        let mut chunk = Chunk::take();
        match chunk.poll_fill(cx, pipe) {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Some(chunk))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Why a pipe did not end properly. None of them is the tunnel's end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipeError {
    #[error("the pipe was not used in time")]
    Idle,
    #[error("the pipe failed")]
    Pipe(#[from] io::Error),
    #[error("the target could not be reached")]
    Target(#[source] DialError),
    #[error("the target failed before its answer was complete")]
    Origin(#[source] io::Error),
    #[error("speaking HTTP on the pipe failed")]
    Http(#[source] hyper::Error),
    #[error(transparent)]
    Greeting(#[from] NoGreeting),
    #[error("the tunnel was closed")]
    TunnelClosed,
}

fn outcome(ended: Ended) -> Result<(), PipeError> {
    match ended {
        Ended::Properly => Ok(()),
        Ended::OriginFailed(error) => Err(PipeError::Origin(error)),
        Ended::PipeLost(error) => Err(PipeError::Pipe(error)),
    }
}

#[cfg(test)]
mod tests;
