//! The asynchronous part of a long-running command: its runtime, and how it is told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, chain};

/// How long a process may take to say goodbye.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Runs a command to its end on a multi-threaded runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::local(format!("cannot start: {}", chain(&error)), "Check the limits of this user (ulimit).")
    })?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(GRACE);
    outcome
}

/// Ctrl-C and SIGTERM.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From here on these signals no longer end the process by themselves.
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::local(format!("cannot watch signals: {error}"), "");
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Lets `goodbye` finish, but no longer than the grace time and only until a second signal.
    pub(crate) async fn while_leaving(&mut self, goodbye: impl Future<Output = ()>) {
        tokio::select! {
            () = goodbye => {}
            () = self.next() => {}
            () = tokio::time::sleep(GRACE) => tracing::warn!("left before everything was closed"),
        }
    }
}
