//! How a node ends that is given the time to.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Driver;
use crate::share::Closed;

/// How often a node that shuts down looks whether something is under way: what rests for as long has ended.
const REST: Duration = Duration::from_millis(200);

/// How often it looks whether private sessions are over.
const LOOK: Duration = Duration::from_millis(20);

/// Time for the last messages and the connection's end.
const FAREWELL: Duration = Duration::from_secs(1);

impl Driver {
    /// Lets what is under way end, in `grace` at most; then gives the tunnels back and closes the connection.
    pub(super) async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.tunnels.leave();
        self.obey();
        self.pulses.are_busy();
        loop {
            self.step_until(deadline.min(Instant::now() + REST)).await;
            if Instant::now() >= deadline || !self.pulses.are_busy() {
                break;
            }
        }
        self.await_sessions(deadline + FAREWELL + REST).await;
        for id in self.shares.ids() {
            self.tunnels.remove(id);
        }
        self.obey();
        let deadline = Instant::now() + FAREWELL;
        self.hang_up().await;
        while !self.connections.is_empty() && Instant::now() < deadline {
            self.step_until(deadline).await;
        }
        for id in self.shares.ids() {
            self.end_share(id, Closed::by_owner());
        }
        self.mapper.close().await;
    }

    /// Carries what private sessions have to say, until they are over: they are told to end at the same time.
    async fn await_sessions(&mut self, deadline: Instant) {
        while !self.line.is_over() && Instant::now() < deadline {
            self.step_until(deadline.min(Instant::now() + LOOK)).await;
        }
    }

    /// Ends the session once it has written what it was given, then the connections.
    async fn hang_up(&mut self) {
        let mut open = Vec::new();
        for (connection, entry) in &mut self.connections {
            open.push(*connection);
            entry.outgoing = None;
        }
        let written = async { while self.sessions.join_next().await.is_some() {} };
        if timeout(FAREWELL / 2, written).await.is_err() {
            tracing::debug!("the relay did not take the last messages in time");
        }
        for connection in open {
            self.swarm.close_connection(connection);
        }
    }

    /// Goes on until `deadline`, or until something has happened.
    async fn step_until(&mut self, deadline: Instant) {
        // A second shutdown changes nothing.
        let _ = timeout_at(deadline, self.step()).await;
    }
}
