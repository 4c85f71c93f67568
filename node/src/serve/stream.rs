//! A TCP tunnel's pipe: bytes to the target and back as they are, once it is known who sends them.

use mytunnel_carrier::{
    chunk::Chunk,
    greeting::{Greeting, MAX, Transport},
    splice::Deaf,
};
use mytunnel_keys::wire::PipeStatus;
use tokio::{io, time::timeout};

use super::{Patience, Pipe, PipeError, copy, pulse::Pulse, refuse};
use crate::{
    local::Terminal,
    target::dial::{Dialer, Origin, Speech},
};

/// A server that takes connections.
#[derive(Debug)]
pub(crate) struct Stream {
    dialer: Dialer,
    /// It wants to know who the visitor is.
    proxy_protocol: bool,
}

impl Stream {
    pub(super) const fn new(dialer: Dialer, proxy_protocol: bool) -> Self {
        Self { dialer, proxy_protocol }
    }

    pub(super) async fn serve(
        &self,
        mut pipe: impl Pipe,
        mut first: Chunk,
        patience: Patience,
        pulse: &Pulse,
    ) -> Result<(), PipeError> {
        let (_, length) = greeted(&mut pipe, &mut first, Transport::Stream, patience).await?;
        if !self.proxy_protocol {
            first.consume(length);
        }
        match self.dialer.dial(Speech::Other).await {
            Ok(origin) => {
                // Whoever comes and says nothing keeps no node from ending.
                pulse.down();
                copy(&mut pipe, origin, first, Deaf::HasFailed, pulse).await
            }
            Err(error) => {
                refuse(pipe, PipeStatus::TargetUnreachable, patience).await?;
                Err(PipeError::Target(error))
            }
        }
    }
}

/// Hands a visitor's connection to who ends its TLS in this process.
pub(super) async fn hand_over(
    mut pipe: impl Pipe,
    mut first: Chunk,
    terminal: &dyn Terminal,
    patience: Patience,
    pulse: &Pulse,
) -> Result<(), PipeError> {
    let (greeting, length) = greeted(&mut pipe, &mut first, Transport::Stream, patience).await?;
    first.consume(length);
    let Some(near) = terminal.connect(greeting.visitor) else {
        return refuse(pipe, PipeStatus::TargetUnreachable, patience).await;
    };
    // Requests in it are waited for by who reads them.
    pulse.down();
    copy(&mut pipe, Origin::Here(near), first, Deaf::MayAnswer, pulse).await
}

/// Waits until `first` holds the whole greeting, and says how long it is.
pub(super) async fn greeted(
    pipe: &mut impl Pipe,
    first: &mut Chunk,
    transport: Transport,
    patience: Patience,
) -> Result<(Greeting, usize), PipeError> {
    let reading = async {
        loop {
            if let Some((greeting, length)) = Greeting::decode(first.filled())? {
                if greeting.transport != transport {
                    return Err(mytunnel_carrier::greeting::NoGreeting.into());
                }
                tracing::debug!(visitor = %greeting.visitor, "visitor");
                return Ok((greeting, length));
            }
            debug_assert!(first.filled().len() < MAX, "a chunk has room for a greeting");
            if std::future::poll_fn(|cx| first.poll_fill(cx, pipe)).await? == 0 {
                return Err(PipeError::Pipe(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    };
    timeout(patience.preface, reading).await.map_err(|_| PipeError::Idle)?
}

#[cfg(test)]
mod tests;
