//! Somebody who asks for a file: of this machine, or of a member that only the host reaches.

use std::sync::Arc;

use libp2p::PeerId;
use mytunnel_keys::id::PublicKey;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{links, wire::WireError},
    Event, blocking,
    line::{Allowance, Line, Way},
};
use crate::{
    files::{
        source::{PieceError, Source},
        talk::{No, ToSource, ToTaker},
        tree::Digest,
    },
    hello::SeatId,
    limits,
};

/// Who asks: it has proved that it belongs to this seat.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Asker {
    pub(in crate::daemon) seat: SeatId,
    pub(in crate::daemon) peer: PeerId,
    /// What signs what it says in the session.
    pub(in crate::daemon) key: PublicKey,
}

/// What it is given.
pub(in crate::daemon) enum Given {
    /// A file of this machine.
    Own(Arc<Source>, Place),
    /// One of another member, who is asked on this way.
    Others(Box<Way>, u64, Place),
}

/// A place among those who are given files, for as long as it is held.
pub(in crate::daemon) struct Place {
    pub(super) _held: Arc<()>,
    pub(super) ended: CancellationToken,
}

/// Hears what is asked for, and gives it.
pub(in crate::daemon) async fn answer(asker: Asker, mut line: Line, events: mpsc::Sender<links::Event>) {
    let Ok(Ok(asked)) = timeout(limits::PROOF, line.hear()).await else { return };
    let Some(ToSource::Ask { offer, root }) = ToSource::parse(&asked) else { return };
    let (reply, given) = oneshot::channel();
    let event = Event::Asked { asker, offer, root, reply };
    if events.send(links::Event::Files(event)).await.is_err() {
        return;
    }
    match given.await {
        Ok(Ok(Given::Own(source, place))) => {
            tokio::select! {
                () = place.ended.cancelled() => {}
                () = give(&source, line) => {}
            }
        }
        Ok(Ok(Given::Others(way, size, place))) => {
            tokio::select! {
                () = place.ended.cancelled() => {}
                () = pass_on(&way, offer, root, size, line) => {}
            }
        }
        Ok(Err(why)) => line.part(Some(ToTaker::No { why })).await,
        Err(_) => {}
    }
}

/// Gives pieces of a file of this machine until no more are wanted.
pub(super) async fn give<S: AsyncRead + AsyncWrite + Unpin>(source: &Arc<Source>, mut line: Line<S>) {
    match pieces(source, &mut line).await {
        Ok(why) => line.part(Some(ToTaker::No { why })).await,
        // Who has all of it ends the stream.
        Err(error) => tracing::debug!(%error, "a file was given as far as it was wanted"),
    }
}

async fn pieces<S>(source: &Arc<Source>, line: &mut Line<S>) -> Result<No, WireError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for message in ToTaker::leaves(source.tree.leaves()) {
        line.say(&message.to_bytes()).await?;
    }
    let mut allowance = Allowance::of(source.tree.size());
    loop {
        let (first, count) = allowance.wanted(&line.hear().await?)?;
        for number in first..first.saturating_add(count.get()) {
            let source = Arc::clone(source);
            match blocking(move || source.piece(number)).await {
                Ok(content) => line.say(&ToTaker::Piece { number, content }.to_bytes()).await?,
                Err(PieceError::Changed) => return Ok(No::Changed),
                Err(PieceError::Unreadable) => return Ok(No::Unreadable),
            }
        }
    }
}

/// Asks who has the file, and passes on what that says. Each end checks what it gets: this one is only on the way.
async fn pass_on(way: &Way, offer: u64, root: Digest, size: u64, taker: Line) {
    let asked = async {
        let mut source = way.open().await?;
        source.say(&ToSource::Ask { offer, root }.to_bytes()).await?;
        Ok::<_, WireError>(source)
    };
    match asked.await {
        Ok(source) => Line::join(taker, source, Allowance::of(size)).await,
        Err(error) => {
            tracing::debug!(%error, "who has a file was not reached");
            taker.part(Some(ToTaker::No { why: No::Away })).await;
        }
    }
}
