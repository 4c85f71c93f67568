//! The stream of one file, from either end: proved like every stream between two members, and sealed with keys of its own.

use std::{num::NonZeroU32, sync::Mutex};

use libp2p::PeerId;
use mytunnel_carrier::stream::Opener;
use mytunnel_keys::secret::Seed;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::super::{
    net::PROTOCOL,
    wire::{self, Wire, WireError},
};
use crate::{
    files::{
        talk::{ToSource, ToTaker},
        tree,
    },
    frame::Channel,
    handshake::{Ends, Signer},
    hello::Hello,
    limits,
    secret::Psk,
};

/// How another member is asked, on the connection that there is.
pub(in crate::daemon) struct Way {
    pub(in crate::daemon) opener: Opener,
    pub(in crate::daemon) hello: Hello,
    pub(in crate::daemon) psk: Psk,
    pub(in crate::daemon) own: PeerId,
    pub(in crate::daemon) name: String,
    pub(in crate::daemon) seed: Seed,
    pub(in crate::daemon) begun: Instant,
}

/// See the module.
pub(in crate::daemon) struct Line<S = Wire> {
    wire: S,
    channel: Mutex<Channel>,
    begun: Instant,
}

/// What the stream of one file may carry: whoever says more wants something else.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    /// Pieces that may be asked for: each once, and once more what its machine has lost.
    pieces: u64,
    /// Bytes of them, with all that is said besides.
    bytes: u64,
}

impl Allowance {
    /// Of a file of this size.
    pub(super) fn of(size: u64) -> Self {
        let pieces = u64::from(tree::pieces(size).unwrap_or_default());
        let besides = pieces.saturating_add(64).saturating_mul(256);
        Self { pieces: pieces.saturating_mul(2), bytes: size.saturating_mul(2).saturating_add(besides) }
    }

    /// Reads which pieces are asked for. Each message asks for one at least, so that there is an end of them.
    pub(super) fn wanted(&mut self, message: &[u8]) -> Result<(u32, NonZeroU32), WireError> {
        let Some(ToSource::Want { first, count }) = ToSource::parse(message) else {
            return Err(WireError::Garbage);
        };
        self.pieces = self.pieces.checked_sub(u64::from(count.get())).ok_or(WireError::Garbage)?;
        Ok((first, count))
    }

    /// Counts what is given.
    fn given(&mut self, message: &[u8]) -> Result<(), WireError> {
        self.bytes = self.bytes.checked_sub(message.len() as u64).ok_or(WireError::Garbage)?;
        Ok(())
    }
}

impl Way {
    /// Opens a stream and proves that this is who it says.
    pub(super) async fn open(&self) -> Result<Line, WireError> {
        let opened = async {
            let stream = self.opener.open(PROTOCOL).await.map_err(|_| WireError::Refused)?;
            let mut wire = wire::wire(stream);
            let ends = Ends { host: self.opener.peer(), guest: self.own };
            let signer = Signer { name: &self.name, agent: "", seed: &self.seed };
            let approach = wire::Approach::Psk(self.hello, self.psk.clone());
            let established = wire::prove(&mut wire, &approach, &ends, &signer, &mut false).await?;
            Ok(Line::new(wire, Channel::new(established, self.begun.elapsed()), self.begun))
        };
        timeout(limits::PROOF, opened).await.unwrap_or(Err(WireError::Refused))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(in crate::daemon) fn new(wire: S, channel: Channel, begun: Instant) -> Self {
        Self { wire, channel: Mutex::new(channel), begun }
    }

    /// The next message; nothing comes from who is silent for too long.
    pub(super) async fn hear(&mut self) -> Result<Vec<u8>, WireError> {
        hear(&mut self.wire, &self.channel).await
    }

    /// Says something, and waits until it is out.
    pub(super) async fn say(&mut self, message: &[u8]) -> Result<(), WireError> {
        say(&mut self.wire, &self.channel, message, self.begun).await
    }

    /// Says the last, and lets that be read.
    pub(super) async fn part(mut self, last: Option<ToTaker>) {
        let said = match last {
            Some(message) => self.say(&message.to_bytes()).await,
            None => Ok(()),
        };
        if said.is_ok() && self.wire.shutdown().await.is_ok() {
            wire::drain(&mut self.wire).await;
        }
    }

    /// Passes on what each end says to the other until one of them ends, or says what is not allowed.
    pub(super) async fn join<T>(taker: Self, source: Line<T>, allowance: Allowance)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut from_taker, mut to_taker) = tokio::io::split(taker.wire);
        let (mut from_source, mut to_source) = tokio::io::split(source.wire);
        // Each counts what is said in its own direction.
        let (mut asked, mut given) = (allowance.clone(), allowance);
        let asking = async {
            loop {
                let (first, count) = asked.wanted(&hear(&mut from_taker, &taker.channel).await?)?;
                // Written anew: there are long ways to write the same.
                let message = ToSource::Want { first, count }.to_bytes();
                say(&mut to_source, &source.channel, &message, source.begun).await?;
            }
        };
        let giving = async {
            loop {
                let message = hear(&mut from_source, &source.channel).await?;
                given.given(&message)?;
                say(&mut to_taker, &taker.channel, &message, taker.begun).await?;
            }
        };
        let ended: Result<(), WireError> = tokio::select! {
            ended = asking => ended,
            ended = giving => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a file is passed on no more");
        }
        // What was on its way is read before the streams are gone.
        if to_taker.shutdown().await.is_ok() {
            wire::drain(&mut from_taker).await;
        }
    }
}

async fn hear(reader: &mut (impl AsyncRead + Unpin), channel: &Mutex<Channel>) -> Result<Vec<u8>, WireError> {
    timeout(limits::FILE_SILENCE, wire::read_message(reader, channel)).await.map_err(std::io::Error::from)?
}

async fn say(
    writer: &mut (impl AsyncWrite + Unpin),
    channel: &Mutex<Channel>,
    message: &[u8],
    begun: Instant,
) -> Result<(), WireError> {
    let said = wire::write_message(writer, channel, message, begun);
    timeout(limits::FILE_SILENCE, said).await.map_err(std::io::Error::from)?
}
