//! Tells nodes where the relay sees them, so that two of them can find a path without it.

use std::{future::pending, net::SocketAddr, time::Duration};

use futures::AsyncWriteExt as _;
use libp2p::{Stream, swarm::ConnectionId};
use mytunnel_carrier::frame::{self, FrameError};
use mytunnel_keys::wire::direct::Seen;
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::Driver;

/// Nodes that are told at once. Whoever comes then is told nothing, and asks again later.
const MOST: usize = 256;

/// Time in which a node must take what it asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that are under way: one for each connection at most.
#[derive(Debug, Default)]
pub(super) struct WhereAmI(JoinSet<(ConnectionId, SocketAddr)>);

impl WhereAmI {
    /// Whose answer is done next. Pending for ever while there is none. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<(ConnectionId, SocketAddr), JoinError> {
        match self.0.join_next().await {
            Some(told) => told,
            None => pending().await,
        }
    }
}

impl Driver {
    /// A peer asks where it is seen. Only those are told that have shown a certificate, on this connection or another.
    pub(super) fn tell_where(&mut self, connection: ConnectionId, stream: Stream) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        if !self.around.admitted.has(&known.peer) || self.whereami.0.len() >= MOST {
            tracing::debug!(%connection, "not told where it is seen");
            return;
        }
        if let Some(from) = known.from.take() {
            self.whereami.0.spawn(async move {
                if !matches!(timeout(PATIENCE, tell(stream, from)).await, Ok(Ok(()))) {
                    tracing::debug!(%connection, "does not take the answer where it is seen");
                }
                (connection, from)
            });
        }
    }

    /// It has been told, and may ask again.
    pub(super) fn on_told_where(&mut self, told: Result<(ConnectionId, SocketAddr), JoinError>) {
        match told {
            Ok((connection, from)) => {
                if let Some(known) = self.connections.get_mut(&connection) {
                    known.from = Some(from);
                }
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
}

async fn tell(mut stream: Stream, address: SocketAddr) -> Result<(), FrameError> {
    frame::write(&mut stream, &Seen { address }).await?;
    stream.close().await?;
    Ok(())
}
