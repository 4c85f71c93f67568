//! The control stream of one node: a task that carries messages both ways, so that a slow node delays nobody else.
//!
//! Inbound, at most [`IN_FLIGHT`] messages of a node wait for the driver, so that no node crowds out the others.
//! Outbound there is a short queue; a node that lets it run full, or does not take what is written within
//! [`WRITE_PATIENCE`], is dropped.

use std::{error::Error, io, sync::Arc, time::Duration};

// A channel of these takes room for what is in it; one of tokio's for 32 messages from the start, for each node.
use futures::channel::mpsc as queue;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{Stream, swarm::ConnectionId};
use mytunnel_carrier::frame::{self, FrameError};
use mytunnel_keys::wire::{ToNode, ToRelay};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};

/// Messages of one node that the driver has not taken yet.
const IN_FLIGHT: usize = 4;

/// Answers to one node that wait for its writer: all of its tunnels may be closed at the same moment.
const QUEUE: usize = 128;

/// Time in which a node must take what is written to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Time between the last word to a node and the end of its connection. Ending streams and connections costs more than
/// telling, so that it waits until everybody is told.
const LINGER: Duration = Duration::from_millis(100);

/// What a node said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) connection: ConnectionId,
    pub(super) what: Utterance,
    _place: OwnedSemaphorePermit,
}

/// A message, or the proof that the node speaks another protocol.
#[derive(Debug)]
pub(super) enum Utterance {
    Message(ToRelay),
    Garbage,
}

/// What is written next.
#[derive(Debug)]
enum Outgoing {
    Message(ToNode),
    Last(Vec<ToNode>),
}

/// The driver's end of a node's control stream.
#[derive(Debug)]
pub(super) struct Control(queue::Sender<Outgoing>);

/// The node does not take what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stuck;

impl Control {
    /// Makes the driver's end, and the task that carries the messages; it returns when the connection is to be closed.
    pub(super) fn new(
        connection: ConnectionId,
        stream: Stream,
        said: mpsc::Sender<Said>,
    ) -> (Self, impl Future<Output = ConnectionId> + Send + 'static) {
        let (sender, outgoing) = queue::channel(QUEUE);
        (Self(sender), carry(connection, stream, outgoing, said))
    }

    /// Queues a message.
    pub(super) fn send(&mut self, message: ToNode) -> Result<(), Stuck> {
        self.0.try_send(Outgoing::Message(message)).map_err(|_| Stuck)
    }

    /// Queues the last messages; the task ends once they are written.
    pub(super) fn finish(mut self, messages: Vec<ToNode>) -> Result<(), Stuck> {
        self.0.try_send(Outgoing::Last(messages)).map_err(|_| Stuck)
    }
}

async fn carry(
    connection: ConnectionId,
    stream: Stream,
    outgoing: queue::Receiver<Outgoing>,
    said: mpsc::Sender<Said>,
) -> ConnectionId {
    let (reader, writer) = stream.split();
    let (reading, writing) = (read(connection, reader, said), write(writer, outgoing));
    tokio::pin!(reading, writing);
    let result = tokio::select! {
        written = &mut writing => written,
        read = &mut reading => match read {
            // The driver answers with a farewell.
            Ok(Heard::Garbage) => writing.await,
            Ok(Heard::End) => Ok(()),
            Err(error) => Err(error),
        },
    };
    if let Err(error) = result {
        tracing::debug!(%connection, error = &error as &dyn Error, "control stream failed");
    }
    connection
}

/// How a node's part of the conversation ended.
enum Heard {
    End,
    Garbage,
}

async fn read(
    connection: ConnectionId,
    mut reader: impl AsyncRead + Unpin,
    said: mpsc::Sender<Said>,
) -> Result<Heard, FrameError> {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        let what = match frame::read(&mut reader).await {
            Ok(Some(message)) => Utterance::Message(message),
            Ok(None) => return Ok(Heard::End),
            Err(FrameError::Message(error)) => {
                tracing::debug!(%connection, %error, "the node sent what is no message");
                Utterance::Garbage
            }
            Err(error) => return Err(error),
        };
        let garbage = matches!(what, Utterance::Garbage);
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes the semaphore");
        if said.send(Said { connection, what, _place: place }).await.is_err() {
            return Ok(Heard::End);
        }
        if garbage {
            return Ok(Heard::Garbage);
        }
    }
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: queue::Receiver<Outgoing>,
) -> Result<(), FrameError> {
    while let Some(next) = outgoing.next().await {
        let (bytes, last) = match next {
            Outgoing::Message(message) => (frame::encode(&message)?, false),
            Outgoing::Last(messages) => (frames(&messages)?, true),
        };
        let write = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(WRITE_PATIENCE, write).await {
            Ok(written) => written?,
            Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
        if last {
            sleep(LINGER).await;
            break;
        }
    }
    Ok(())
}

fn frames(messages: &[ToNode]) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend(frame::encode(message)?);
    }
    Ok(bytes)
}
