//! From the gauges to the state, from the state to the coordinator, and the answers back into the purses.

use std::{sync::Arc, time::Duration};

use mytunnel_keys::usage::Tell;
use tokio::{
    task::JoinError,
    time::{Instant, timeout},
};

use super::{Driver, Told, now};
use crate::authority::Authority;

/// Time between two readings: what a crash loses at most.
const READING: Duration = Duration::from_secs(1);

/// Time that the coordinator has to take a message.
const PATIENCE: Duration = Duration::from_secs(10);

impl Driver {
    /// Carries out what is due.
    pub(super) fn on_timeout(&mut self) {
        if self.next_reading <= Instant::now() {
            self.next_reading = Instant::now() + READING;
            self.read_gauges();
            self.tell();
            self.ports.sweep(now().instant);
        }
        self.admission.handle_timeout(now());
    }

    /// Counts what went through, and sets the purses right.
    pub(super) fn read_gauges(&mut self) {
        let now = now();
        let (spent, used) = self.gauges.read(now.instant);
        self.around.tally.used(&used);
        self.admission.handle_usage(&used, now);
        spent.fill(&self.admission.prices().prices, |key| self.admission.fill(key, now));
    }

    /// Sends the next message, unless one is on its way.
    fn tell(&mut self) {
        if !self.telling.is_empty() {
            return;
        }
        if let Some(tell) = self.admission.poll_tell(now()) {
            self.telling.spawn(told(Arc::clone(&self.around.authority), tell));
        }
    }

    /// Asks for what somebody waits for, and goes on with what takes more than one message. After a failure the next reading
    /// is waited for.
    pub(super) fn tell_what_is_urgent(&mut self) {
        if self.is_heard && self.admission.is_urgent(now()) {
            self.tell();
        }
    }

    pub(super) fn on_told(&mut self, told: Result<Option<Told>, JoinError>) {
        let told = match told {
            Ok(told) => told,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        };
        self.is_heard = told.is_some();
        self.admission.handle_told(told.as_ref(), now());
        self.read_gauges();
    }

    /// Tells all that is left, and gives every lease back.
    pub(super) async fn tell_the_rest(&mut self) {
        if let Some(last) = self.telling.join_next().await {
            self.admission.handle_told(last.unwrap_or_default().as_ref(), now());
        }
        self.read_gauges();
        self.admission.give_leases_back();
        while let Some(tell) = self.admission.poll_tell(now()) {
            let Some(answer) = told(Arc::clone(&self.around.authority), tell).await else { return };
            self.admission.handle_told(Some(&answer), now());
        }
    }
}

async fn told(authority: Arc<dyn Authority>, tell: Tell) -> Option<Told> {
    match timeout(PATIENCE, authority.tell(tell)).await {
        Ok(Ok(told)) => Some(told),
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "usage is told again");
            None
        }
        Err(_) => {
            tracing::debug!("the coordinator does not answer; usage is told again");
            None
        }
    }
}
