//! Is the other end still there? Asks over libp2p's ping protocol, on one stream of the connection in question.
//!
//! Differs from libp2p's own behaviour in what a node needs: the first answer that is late counts (there, a first
//! failure passes in silence), it is known that an answer came after all, and the interval fits the carrier.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::Stream;
use mytunnel_carrier::{
    pong::{LENGTH, PROTOCOL},
    stream::{OpenError, Opener},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    carrier::Carrier,
    tasks::{Mailbox, OwnerGone},
};

/// How often to ask, and when an answer is late. A path with a long round trip has four of them.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    interval: Duration,
    late: Duration,
}

/// Over QUIC, a relay that is killed says nothing, and started again it throws our packets away. Interval and patience
/// together are the time in which its node notices. That it asks too soon costs nothing: a connection that answers
/// after all is kept.
const QUIC: Rhythm = Rhythm { interval: Duration::from_millis(1000), late: Duration::from_millis(600) };

/// Over TCP the system says at once when the relay's process ends; what is left is the path that died without a word: a
/// router that started anew, another network, another address.
const TCP: Rhythm = Rhythm { interval: Duration::from_millis(2000), late: Duration::from_millis(1000) };

/// What a ping found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// An answer, after this time.
    Alive(Duration),
    /// No answer, and it is late. Said again for as long as none comes.
    Silent,
}

/// Pings until the connection ends, or until the other end says that it does not speak the protocol. What fails is tried again: a path
/// that begins in a congested moment is to be known all the same, and its silence later.
pub(crate) async fn run<E>(opener: &Opener, carrier: Carrier, mailbox: &Mailbox<E>) -> Result<(), OwnerGone>
where
    E: From<Finding>,
{
    let rhythm = match carrier {
        Carrier::Quic => QUIC,
        Carrier::Tcp | Carrier::WebSocket => TCP,
    };
    let mut pinger = Pinger { opener, rhythm, mailbox, late: rhythm.late };
    loop {
        match pinger.ping_on_one_stream().await {
            Ok(never) => match never {},
            Err(PingError::Owner(gone)) => return Err(gone),
            Err(PingError::Open(OpenError::Unsupported(_))) => return Ok(()),
            Err(error) => tracing::debug!(%error, "ping stream ended"),
        }
        if opener.is_closed() {
            return Ok(());
        }
        sleep(rhythm.interval).await;
    }
}

struct Pinger<'a, E> {
    opener: &'a Opener,
    rhythm: Rhythm,
    mailbox: &'a Mailbox<E>,
    /// When an answer is late, by the last round trip.
    late: Duration,
}

impl<E: From<Finding>> Pinger<'_, E> {
    async fn ping_on_one_stream(&mut self) -> Result<Infallible, PingError> {
        let mut stream = self.waiting(self.opener.open(PROTOCOL)).await??;
        loop {
            let trip = self.ping(&mut stream).await?;
            self.late = self.rhythm.late.max(trip * 4);
            self.mailbox.tell(Finding::Alive(trip).into()).await?;
            sleep(self.rhythm.interval).await;
        }
    }

    async fn ping(&self, stream: &mut Stream) -> Result<Duration, PingError> {
        let mut question = [0; LENGTH];
        getrandom::fill(&mut question).map_err(|_| PingError::Random)?;
        let asked = Instant::now();
        stream.write_all(&question).await?;
        stream.flush().await?;
        let mut answer = [0; LENGTH];
        self.waiting(stream.read_exact(&mut answer)).await??;
        if answer == question { Ok(asked.elapsed()) } else { Err(PingError::Mismatch) }
    }

    /// What the other end does, and silence for as long as it does not.
    async fn waiting<T>(&self, answer: impl Future<Output = T>) -> Result<T, OwnerGone> {
        let mut answer = pin!(answer);
        loop {
            match timeout(self.late, &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) => self.mailbox.tell(Finding::Silent.into()).await?,
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PingError {
    #[error("no stream for pings")]
    Open(#[from] OpenError),
    #[error("the ping stream failed")]
    Io(#[from] io::Error),
    #[error("the answer is not what was asked")]
    Mismatch,
    #[error("the system has no random bytes")]
    Random,
    #[error("{0}")]
    Owner(#[from] OwnerGone),
}

#[cfg(test)]
mod tests;
