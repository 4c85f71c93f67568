//! What is known of how a tunnel's node stands, where others stand beside it.

use std::{
    pin::pin,
    sync::{Arc, PoisonError},
};

use tokio::time::Instant;

use super::{
    Tunnel,
    backends::{Life, asking},
};

impl Tunnel {
    /// Whether other nodes serve the name beside this one.
    pub(crate) fn is_accompanied(&self) -> bool {
        self.health.is_accompanied()
    }

    /// Whether nothing bad is known of it, and nobody asks.
    pub(crate) fn is_well(&self) -> bool {
        self.health.is_well(Instant::now())
    }

    /// Its server takes no connections: others of the name are asked first for a while.
    pub(crate) fn note_refused(&self) {
        self.health.rest(Instant::now());
    }

    /// Its node's connection is gone: nobody is led there any more.
    pub(crate) fn note_lost(&self) {
        self.health.lose();
    }

    /// Its node is about to end: others of the name are asked as long as there are any.
    pub(crate) fn note_leaving(&self) {
        self.health.leave();
    }

    /// Its server has answered.
    pub(crate) fn note_answered(&self) {
        self.health.recover();
    }

    /// What is heard of its node, on this tunnel and the others of its connection.
    pub(crate) fn life(&self) -> &Arc<Life> {
        self.health.life()
    }

    /// Has its node asked whether it is there, unless that is being done, and waits for what comes of it. Who waits no longer does not
    /// end it.
    pub(crate) async fn ask(&self) {
        let mut told = pin!(self.health.told());
        told.as_mut().enable();
        if let Some(probe) = self.health.ask() {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(ended) = asking.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            asking.spawn(asking::ask(Arc::clone(&self.source), Arc::clone(&self.health), probe));
        }
        told.await;
    }

    /// Whether it has not said so, when it was asked last.
    pub(crate) fn is_silent(&self) -> bool {
        self.health.is_silent()
    }
}
