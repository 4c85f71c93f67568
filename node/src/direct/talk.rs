//! Conversations about direct paths, each on a task of its own, and questions to the relay: words go in and out, and nothing
//! is decided.

use std::{future::pending, net::SocketAddr, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Stream, StreamProtocol, swarm::ConnectionId};
use mytunnel_carrier::{
    frame::{self, FrameError},
    stream::{OpenError, Opener},
};
use mytunnel_keys::wire::direct::{DIRECT_PROTOCOL, Seen, WHEREAMI_PROTOCOL, Word};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::timeout,
};

/// Conversations at once. More than one for each connection there are not.
const MOST: usize = 256;

/// The longest conversation: its rounds take less than half a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// Words that the other end may say in one.
const MOST_WORDS: usize = 32;

/// Words that wait for either end.
const WAITING: usize = 8;

/// Time for the relay to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Numbers a conversation.
pub(crate) type TalkId = u64;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Talks {
    next: TalkId,
    tasks: JoinSet<TalkId>,
    questions: JoinSet<(ConnectionId, Option<SocketAddr>)>,
    teller: mpsc::Sender<(TalkId, Word)>,
    heard: mpsc::Receiver<(TalkId, Word)>,
}

/// This end of a conversation. It ends when this is dropped, once everything is said.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) id: TalkId,
    words: mpsc::Sender<Word>,
}

impl Talk {
    /// Says something. Whoever does not read loses the conversation, and learns it by that.
    pub(super) fn say(&self, word: Word) {
        let _ = self.words.try_send(word);
    }
}

/// What comes out of them.
#[derive(Debug)]
pub(crate) enum Heard {
    Word(TalkId, Word),
    End(TalkId),
    /// Where a relay sees a connection with it, if it says so.
    Seen(ConnectionId, Option<SocketAddr>),
}

impl Default for Talks {
    fn default() -> Self {
        let (teller, heard) = mpsc::channel(WAITING);
        Self { next: 0, tasks: JoinSet::new(), questions: JoinSet::new(), teller, heard }
    }
}

impl Talks {
    /// Begins a conversation; none when there are too many.
    pub(super) fn open(&mut self, opener: Opener) -> Option<Talk> {
        self.begin(async move { opener.open(StreamProtocol::new(DIRECT_PROTOCOL)).await })
    }

    /// Goes into one that the other end has begun.
    pub(super) fn accept(&mut self, stream: Stream) -> Option<Talk> {
        self.begin(async move { Ok(stream) })
    }

    /// Asks a relay where it sees this connection.
    pub(super) fn ask(&mut self, opener: Opener) {
        self.questions.spawn(async move {
            let connection = opener.connection();
            match timeout(PATIENCE, whereami(&opener)).await {
                Ok(Ok(seen)) => (connection, seen.map(|seen| seen.address)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the relay does not say where it sees us");
                    (connection, None)
                }
                Err(_) => (connection, None),
            }
        });
    }

    /// What comes next. Pending for ever while there is nothing. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Heard, JoinError> {
        tokio::select! {
            // What was said comes before the end.
            biased;
            Some((id, word)) = self.heard.recv() => Ok(Heard::Word(id, word)),
            Some(ended) = self.tasks.join_next() => ended.map(Heard::End),
            Some(answer) = self.questions.join_next() => {
                answer.map(|(connection, seen)| Heard::Seen(connection, seen))
            }
            else => pending().await,
        }
    }

    fn begin(
        &mut self,
        stream: impl Future<Output = Result<Stream, OpenError>> + Send + 'static,
    ) -> Option<Talk> {
        if self.tasks.len() >= MOST {
            return None;
        }
        let id = self.next;
        self.next += 1;
        let (words, outgoing) = mpsc::channel(WAITING);
        let heard = self.teller.clone();
        self.tasks.spawn(async move {
            match timeout(LONGEST, converse(id, stream, outgoing, heard)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a conversation about direct paths broke"),
                Err(_) => tracing::debug!("a conversation about direct paths took too long"),
            }
            id
        });
        Some(Talk { id, words })
    }
}

async fn converse(
    id: TalkId,
    stream: impl Future<Output = Result<Stream, OpenError>>,
    mut outgoing: mpsc::Receiver<Word>,
    heard: mpsc::Sender<(TalkId, Word)>,
) -> Result<(), TalkError> {
    let (mut reader, mut writer) = stream.await?.split();
    let reading = async {
        for _ in 0..MOST_WORDS {
            let Some(word) = frame::read(&mut reader).await? else { return Ok(()) };
            if heard.send((id, word)).await.is_err() {
                return Ok(());
            }
        }
        Err(TalkError::Talkative)
    };
    let writing = async {
        while let Some(word) = outgoing.recv().await {
            frame::write(&mut writer, &word).await?;
        }
        writer.close().await.map_err(FrameError::from)?;
        Ok(())
    };
    tokio::select! {
        read = reading => read,
        written = writing => written,
    }
}

async fn whereami(opener: &Opener) -> Result<Option<Seen>, TalkError> {
    let mut stream = opener.open(StreamProtocol::new(WHEREAMI_PROTOCOL)).await?;
    Ok(frame::read(&mut stream).await?)
}

#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("the stream broke")]
    Frame(#[from] FrameError),
    #[error("the other end says too much")]
    Talkative,
}
