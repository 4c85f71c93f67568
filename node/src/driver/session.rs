//! A conversation with a relay on one connection: greeting, messages both ways, pings.
//!
//! Runs as a task of its own, so that a relay which does not read delays nobody. Everything that comes out of it goes
//! to the driver in order; it ends with [`Event::Ended`].

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::StreamProtocol;
use mytunnel_carrier::{
    frame::{self, FrameError},
    stream::{OpenError, Opener},
};
use mytunnel_keys::{
    id::{Cluster, PublicKey, Serial},
    presence,
    secret::Seed,
    wire::{AUTH_PROTOCOL, ToNode, ToRelay, VERSION},
};
use tokio::{sync::mpsc, time::timeout};

use super::welcome::{self, Expected, Unwelcome, Welcome};
use crate::{
    carrier::Carrier,
    clock::unix_now,
    ping::{self, Finding},
    tasks::{Mailbox, OwnerGone},
};

const PROTOCOL: StreamProtocol = StreamProtocol::new(AUTH_PROTOCOL);

/// Time in which a relay must take what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// What a session tells the driver.
#[derive(Debug)]
pub(super) enum Event {
    Welcomed(Box<Welcome>),
    Unwelcome(Unwelcome),
    Message(ToNode),
    Ping(Finding),
    Ended(String),
}

impl From<Finding> for Event {
    fn from(finding: Finding) -> Self {
        Self::Ping(finding)
    }
}

/// What the node says of itself in every greeting.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) certificate: Vec<u8>,
    /// Serial of the certificate, and its key.
    pub(crate) serial: Serial,
    pub(crate) seed: Seed,
    pub(crate) agent: String,
}

impl Introduction {
    /// The greeting of one relay.
    fn hello(&self, cluster: &Cluster, relay: &PublicKey, now: u64) -> ToRelay {
        ToRelay::Hello {
            version: VERSION,
            certificate: self.certificate.clone(),
            presence: presence::sign(&self.seed, &self.serial, cluster, relay, now),
            agent: self.agent.clone(),
            clock: now,
        }
    }
}

/// A session to be had.
pub(super) struct Session {
    pub(super) opener: Opener,
    pub(super) carrier: Carrier,
    pub(super) introduction: Arc<Introduction>,
    pub(super) expected: Expected,
    /// The key that the connection's handshake proved.
    pub(super) relay: PublicKey,
    pub(super) mailbox: Mailbox<Event>,
}

impl Session {
    /// Greets, then carries what `outgoing` gives until the session ends.
    pub(super) async fn run(self, outgoing: mpsc::Receiver<ToRelay>) {
        let mailbox = self.mailbox.clone();
        let ended = match self.converse(outgoing).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        if let Some(event) = ended.event() {
            // Without a driver there is nobody to tell.
            let _ = mailbox.tell(event).await;
        }
    }

    async fn converse(self, outgoing: mpsc::Receiver<ToRelay>) -> Result<Infallible, Ended> {
        let mut stream = self.opener.open(PROTOCOL).await?;
        let hello = self.introduction.hello(&self.expected.cluster, &self.relay, unix_now());
        frame::write(&mut stream, &hello).await?;
        let answer = frame::read(&mut stream).await?.ok_or(Ended::Closed)?;
        let welcome = welcome::judge(answer, &self.relay, self.expected.clone(), unix_now())
            .map_err(Ended::Unwelcome)?;
        self.mailbox.tell(Event::Welcomed(Box::new(welcome))).await?;
        let (reader, writer) = stream.split();
        let mut listening = pin!(self.listen(reader));
        tokio::select! {
            read = &mut listening => return read,
            written = speak(writer, outgoing) => written?,
            never = self.ping() => return never,
        }
        // All is said. The relay closes its half when it has read that; ending the connection first could lose it.
        listening.await
    }

    async fn listen(&self, mut reader: impl AsyncRead + Unpin) -> Result<Infallible, Ended> {
        loop {
            let message = frame::read(&mut reader).await?.ok_or(Ended::Closed)?;
            self.mailbox.tell(Event::Message(message)).await?;
        }
    }

    async fn ping(&self) -> Result<Infallible, Ended> {
        ping::run(&self.opener, self.carrier, &self.mailbox).await?;
        // The relay answers no pings: its connection's own time-outs have to do.
        std::future::pending().await
    }
}

/// Writes what the driver gives, then closes our half.
async fn speak(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<ToRelay>,
) -> Result<(), Ended> {
    while let Some(message) = outgoing.recv().await {
        timeout(WRITE_PATIENCE, frame::write(&mut writer, &message)).await.map_err(|_| Ended::Stuck)??;
    }
    writer.close().await.map_err(FrameError::from)?;
    Ok(())
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the relay closed the session")]
    Closed,
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("the connection to the relay broke")]
    Frame(#[from] FrameError),
    #[error("the relay does not take messages")]
    Stuck,
    #[error("the relay is not welcome")]
    Unwelcome(Unwelcome),
    #[error("{0}")]
    Gone(#[from] OwnerGone),
}

impl Ended {
    fn event(self) -> Option<Event> {
        match self {
            Self::Gone(_) => None,
            Self::Unwelcome(unwelcome) => Some(Event::Unwelcome(unwelcome)),
            Self::Closed | Self::Open(_) | Self::Frame(_) | Self::Stuck => {
                Some(Event::Ended(self.to_string()))
            }
        }
    }
}
