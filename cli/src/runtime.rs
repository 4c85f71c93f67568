//! The asynchronous part of a long-running command: its runtime, and how it is told to stop.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Failure, chain};
use crate::report::Report;

/// How long requests under way may take to end when a process is told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A goodbye that takes longer than this is explained.
const REMINDER: Duration = Duration::from_secs(1);

/// Runs a command to its end on a multi-threaded runtime.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run(Builder::new_multi_thread(), work, |runtime| runtime.shutdown_timeout(GRACE))
}

/// As [`block_on_and_leave`], on this thread alone, beside those of what blocks: what comes at a time is taken together.
pub(crate) fn block_on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run(Builder::new_current_thread(), work, Runtime::shutdown_background)
}

/// As [`block_on`], but waits at the end for no thread that is blocked.
pub(crate) fn block_on_and_leave<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run(Builder::new_multi_thread(), work, Runtime::shutdown_background)
}

fn run<T>(
    mut builder: Builder,
    work: impl Future<Output = Result<T, Failure>>,
    leave: impl FnOnce(Runtime),
) -> Result<T, Failure> {
    let runtime = builder.enable_all().build().map_err(|error| {
        Failure::local(format!("cannot start: {}", chain(&error)), "Check the limits of this user (ulimit).")
    })?;
    let outcome = runtime.block_on(work);
    leave(runtime);
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

    /// Lets `goodbye` finish, but no longer than `limit` and only until a second signal.
    pub(crate) async fn leave(&mut self, limit: Duration, report: Report, goodbye: impl Future<Output = ()>) {
        let reminded = async {
            tokio::time::sleep(REMINDER).await;
            report.note("Waiting for requests under way to end; Ctrl-C again ends at once.");
            tokio::time::sleep(limit.saturating_sub(REMINDER)).await;
            tracing::warn!("left before everything was closed");
        };
        tokio::select! {
            () = goodbye => {}
            () = self.next() => {}
            () = reminded => {}
        }
    }
}
