//! Tasks and those who own them.

use std::panic;

use libp2p::swarm::ConnectionId;
use tokio::{sync::mpsc, task::JoinError};

/// Where a task of one connection tells its owner what happens.
#[derive(Debug)]
pub(crate) struct Mailbox<E> {
    pub(crate) connection: ConnectionId,
    pub(crate) owner: mpsc::Sender<(ConnectionId, E)>,
}

impl<E> Clone for Mailbox<E> {
    fn clone(&self) -> Self {
        Self { connection: self.connection, owner: self.owner.clone() }
    }
}

impl<E> Mailbox<E> {
    pub(crate) async fn tell(&self, event: E) -> Result<(), OwnerGone> {
        self.owner.send((self.connection, event)).await.map_err(|_| OwnerGone)
    }
}

/// There is nobody to tell.
#[derive(Debug, thiserror::Error)]
#[error("the owner is gone")]
pub(crate) struct OwnerGone;

/// A task of ours never ends by anything but its own panic.
pub(crate) fn resume(error: JoinError) {
    if let Ok(reason) = error.try_into_panic() {
        panic::resume_unwind(reason);
    }
}
