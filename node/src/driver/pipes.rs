//! The pipes that the relay opened: owned and bounded.

use std::{error::Error, panic, sync::Arc};

use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

use crate::serve::{self, Patience, Pipe, PipeError, pulse::Pulses, table::Table};

type Served = Result<(), PipeError>;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Pipes {
    tasks: JoinSet<Served>,
    places: Arc<Semaphore>,
    pulses: Pulses,
    table: Table,
}

impl Pipes {
    /// None yet, and `most` at once.
    pub(super) fn new(most: usize, table: Table, pulses: Pulses) -> Self {
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { tasks: JoinSet::new(), places, pulses, table }
    }

    /// Serves a pipe, or drops it, which resets it, when there are too many.
    pub(super) fn open(&mut self, pipe: impl Pipe + 'static) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!("pipe reset: too many are open");
            return;
        };
        let served = serve::serve(pipe, self.table.clone(), Patience::default(), self.pulses.begin());
        self.tasks.spawn(async move {
            let _place = place;
            served.await
        });
    }

    /// Puts away a pipe that has ended. Pending for ever while there is none. Safe to cancel.
    pub(super) async fn reap(&mut self) {
        match self.tasks.join_next().await {
            Some(done) => ended(done),
            None => std::future::pending().await,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }
}

fn ended(done: Result<Served, JoinError>) {
    match done.map_err(JoinError::try_into_panic) {
        Ok(Ok(())) | Err(Err(_)) => {}
        Ok(Err(error)) => tracing::debug!(error = &error as &dyn Error, "pipe ended early"),
        Err(Ok(panic)) => panic::resume_unwind(panic),
    }
}
