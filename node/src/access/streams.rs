//! Connections to a port of this machine, each of which is led to a share.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{Door, Outcome};

/// Connections at once; further ones wait in the system's queue.
const MOST: usize = 256;

/// How long taking connections rests when the system fails.
const EXHAUSTED: Duration = Duration::from_millis(100);

impl Door {
    /// Takes connections until the access is [broken off](super::Access::break_off). Dropping the future resets those that
    /// are open.
    pub async fn serve(self, listener: TcpListener) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = self.ending.cancelled() => break,
                Some(ended) = open.join_next(), if !open.is_empty() => {
                    if let Err(error) = ended
                        && let Ok(reason) = error.try_into_panic()
                    {
                        std::panic::resume_unwind(reason);
                    }
                }
                accepted = listener.accept(), if open.len() < MOST => match accepted {
                    Ok((connection, _)) => {
                        let door = self.clone();
                        open.spawn(async move { door.lead(connection).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot take connections");
                        sleep(EXHAUSTED).await;
                    }
                },
            }
        }
        while open.join_next().await.is_some() {}
    }

    async fn lead(&self, connection: TcpStream) {
        let (Ok(visitor), Ok(here)) = (connection.peer_addr(), connection.local_addr()) else { return };
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "small writes may be delayed");
        }
        // What is cut is not to look whole.
        if let Err(error) = connection.set_zero_linger() {
            tracing::debug!(%error, "a connection that is cut will look whole");
        }
        let (outcome, connection) = self.carry(connection, visitor, here).await;
        if outcome == Outcome::Done {
            let _ = SockRef::from(&connection).set_linger(None);
        } else {
            tracing::debug!(%outcome, "a connection ended early");
        }
    }
}
