//! The pipes that are open: owned, bounded, and waited for when the node shuts down.

use std::{collections::HashMap, error::Error, panic, sync::Arc};

use tokio::{
    sync::Semaphore,
    task::{Id, JoinError, JoinSet},
};

use crate::serve::{
    self, Patience, Pipe, PipeError,
    pulse::{Pulse, Sample},
    table::Table,
};

type Served = Result<(), PipeError>;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Pipes {
    tasks: JoinSet<Served>,
    places: Arc<Semaphore>,
    pulses: HashMap<Id, (Arc<Pulse>, Sample)>,
    table: Table,
    patience: Patience,
}

impl Pipes {
    /// None yet, and `most` at once.
    pub(super) fn new(most: usize, table: Table) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self {
            tasks: JoinSet::new(),
            places: Arc::new(Semaphore::new(most)),
            pulses: HashMap::new(),
            table,
            patience: Patience::default(),
        }
    }

    /// Serves a pipe, or drops it, which resets it, when there are too many.
    pub(super) fn open(&mut self, pipe: impl Pipe + 'static) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::debug!("pipe reset: too many are open");
            return;
        };
        let pulse = Arc::new(Pulse::default());
        let served = serve::serve(pipe, self.table.clone(), self.patience, Arc::clone(&pulse));
        let task = self.tasks.spawn(async move {
            let _place = place;
            served.await
        });
        let sample = pulse.sample();
        self.pulses.insert(task.id(), (pulse, sample));
    }

    /// Puts away a pipe that has ended. Pending for ever while there is none. Safe to cancel.
    pub(super) async fn reap(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(done) => self.ended(done),
            None => std::future::pending().await,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Whether a request is under way, judged by what has passed since this was asked the last time.
    pub(super) fn are_busy(&mut self) -> bool {
        let mut busy = false;
        for (pulse, before) in self.pulses.values_mut() {
            busy |= pulse.is_busy_since(*before);
            *before = pulse.sample();
        }
        busy
    }

    fn ended(&mut self, done: Result<(Id, Served), JoinError>) {
        match done {
            Ok((id, served)) => {
                self.pulses.remove(&id);
                if let Err(error) = served {
                    tracing::debug!(error = &error as &dyn Error, "pipe ended early");
                }
            }
            Err(error) => {
                self.pulses.remove(&error.id());
                if let Ok(panic) = error.try_into_panic() {
                    panic::resume_unwind(panic);
                }
            }
        }
    }
}
