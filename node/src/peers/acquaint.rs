//! Two nodes show each other their certificates, on a stream of the connection that they are for.

use std::{io, time::Duration};

use futures::AsyncWriteExt as _;
use libp2p::{Stream, StreamProtocol};
use mytunnel_carrier::{
    frame::{self, FrameError},
    stream::{OpenError, Opener},
};
use mytunnel_keys::wire::peer::{Answer, Hello, PEER_PROTOCOL};
use tokio::time::timeout;

/// Time for either message.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Says who we are and whom we look for, and answers with what the other end says.
pub(crate) async fn greet(opener: &Opener, hello: &Hello) -> Result<Answer, NoAnswer> {
    let meeting = async {
        let mut stream = opener.open(StreamProtocol::new(PEER_PROTOCOL)).await?;
        frame::write(&mut stream, hello).await?;
        let answer = frame::read(&mut stream).await?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof));
        let answer = answer.map_err(FrameError::from)?;
        // That it was read is no secret, and its end no news.
        let _ = stream.close().await;
        Ok(answer)
    };
    timeout(PATIENCE, meeting).await.map_err(|_| NoAnswer::Late)?
}

/// What a node says that wants to reach something here; none when it says nothing in time.
pub(crate) async fn hear(stream: &mut Stream) -> Option<Hello> {
    match timeout(PATIENCE, frame::read(stream)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a peer does not say who it is");
            None
        }
        Err(_) => None,
    }
}

/// Answers it.
pub(crate) async fn answer(mut stream: Stream, answer: Answer) {
    let answering = async {
        frame::write(&mut stream, &answer).await?;
        stream.close().await?;
        Ok::<_, FrameError>(())
    };
    if !matches!(timeout(PATIENCE, answering).await, Ok(Ok(()))) {
        tracing::debug!("a peer does not take its answer");
    }
}

/// Why a peer was not met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the other node cannot be asked: {0}")]
    Open(#[from] OpenError),
    #[error("the connection to the other node broke")]
    Frame(#[from] FrameError),
    #[error("the other node does not answer")]
    Late,
}
