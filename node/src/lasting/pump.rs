//! The task of one lasting stream: gives it legs, and ends it.

use std::{future::pending, sync::Arc, time::Duration};

use libp2p::{PeerId, StreamProtocol, swarm::ConnectionId};
use mytunnel_carrier::{frame, stream::Opener};
use mytunnel_keys::{
    id::TunnelId,
    wire::{
        PipeStatus,
        peer::{LEG_PROTOCOL, Opening},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{compat::FuturesAsyncReadCompatExt as _, sync::CancellationToken};

use super::{
    exchange::{Exchange, Io, LegIo, Status, Turn, Verdict, now},
    flow::{Attempt, Beginning, Flow, Limits, Standing},
};

/// Time in which a leg must stand.
const OPENING: Duration = Duration::from_secs(10);

/// Pause before a connection is tried again that has just lost a leg, and the longest; another one is tried at once.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A leg that lasted this long was a good one.
const LASTED: Duration = Duration::from_secs(5);

/// The best way to a peer at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) opener: Opener,
}

/// A leg that the other end has begun.
pub(crate) struct Arrival {
    pub(crate) leg: LegIo,
    pub(crate) attempt: Attempt,
    pub(crate) received: u64,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Outcome {
    /// Both ends closed it.
    #[error("closed")]
    Done,
    /// One end has broken it off.
    #[error("the other end has broken it off")]
    Broken,
    /// The server behind the share takes no connections.
    #[error("the target of the share does not accept connections")]
    TargetUnreachable,
    /// There was no path to the other end for too long.
    #[error("there was no path to the other end for too long")]
    Lost,
    /// Another node serves the name now, which knows nothing of it.
    #[error("another node serves the name now")]
    Moved,
}

/// Where legs come from.
enum Source {
    /// We open them, on the way that is best at the moment.
    Routes(Routes),
    /// The other end does.
    Arrivals(mpsc::Receiver<Arrival>),
}

struct Routes {
    tunnel: TunnelId,
    stream: [u8; 16],
    routes: watch::Receiver<Option<Arc<Route>>>,
    /// Seconds without a path.
    patience: u32,
    /// Whom the stream leads to.
    peer: Option<PeerId>,
    /// What carries the newest leg.
    used: Option<ConnectionId>,
    /// What has lost a leg last, which is not tried again at once.
    lost: Option<ConnectionId>,
    /// Legs lost in a row, none of which has lasted.
    losses: u32,
    /// When the newest leg was opened.
    since: Instant,
}

/// What comes from a source.
enum Next {
    Arrival(Arrival),
    /// One of our own, to be begun.
    Opened(LegIo),
    Moved,
    /// No more legs will come.
    None,
}

/// A stream that is to be opened.
pub(crate) struct Purpose {
    /// Where it leads.
    pub(crate) tunnel: TunnelId,
    /// Its name, random.
    pub(crate) stream: [u8; 16],
    pub(crate) limits: Limits,
}

/// A stream that leads to a tunnel; `ending` breaks it off. `local` is the owner's end; `first` is sent before what it writes, and the status of
/// the target is taken off what comes.
pub(crate) async fn open<L: Io>(
    local: L,
    first: &[u8],
    Purpose { tunnel, stream, limits }: Purpose,
    routes: watch::Receiver<Option<Arc<Route>>>,
    ending: &CancellationToken,
) -> (Outcome, L) {
    let mut flow = Flow::new(limits, now());
    flow.write(first);
    let patience = u32::try_from(limits.patience.as_secs()).unwrap_or(u32::MAX);
    let source = Routes {
        tunnel,
        stream,
        routes,
        patience,
        peer: None,
        used: None,
        lost: None,
        losses: 0,
        since: Instant::now(),
    };
    let exchange = Exchange::new(flow, local, Status::Awaited, Verdict::default());
    run(exchange, Source::Routes(source), ending).await
}

/// A stream that a peer has opened; `ending` breaks it off. `local` gets a pipe's payload; `verdict` is told when what it answers is not whole.
pub(crate) async fn accept<L: Io>(
    local: L,
    verdict: Verdict,
    arrivals: mpsc::Receiver<Arrival>,
    limits: Limits,
    ending: &CancellationToken,
) -> (Outcome, L) {
    let exchange = Exchange::new(Flow::new(limits, now()), local, Status::Past, verdict);
    run(exchange, Source::Arrivals(arrivals), ending).await
}

async fn run<L: Io>(
    mut exchange: Exchange<L>,
    mut source: Source,
    ending: &CancellationToken,
) -> (Outcome, L) {
    let outcome = loop {
        let deadline = exchange.flow.poll_timeout().map(Instant::from_std);
        tokio::select! {
            turn = exchange.run() => match turn {
                Turn::Over => break outcome(&exchange),
                Turn::Legless => source.note_loss(),
                // There is less to wait for.
                Turn::Said => {}
            },
            next = source.next() => match next {
                Next::Arrival(Arrival { leg, attempt, received }) => {
                    match exchange.flow.attach(attempt, received, now()) {
                        Ok(true) => exchange.take(leg, attempt, Vec::new()),
                        Ok(false) => tracing::debug!("an older leg came late"),
                        Err(violation) => {
                            tracing::debug!(%violation, "leg refused");
                            exchange.flow.break_off();
                        }
                    }
                }
                Next::Opened(leg) => {
                    let beginning = exchange.flow.begin(now());
                    let attempt = beginning.attempt;
                    match source.opening(beginning) {
                        Some(opening) => exchange.take(leg, attempt, opening),
                        None => exchange.flow.break_off(),
                    }
                }
                Next::Moved => break Outcome::Moved,
                Next::None => break Outcome::Lost,
            },
            () = ending.cancelled() => {
                exchange.flow.break_off();
                break outcome(&exchange);
            }
            () = until(deadline) => {
                if exchange.flow.is_lost(now()) {
                    break Outcome::Lost;
                }
                if exchange.leave_late() {
                    tracing::debug!("no answer on a leg in time");
                    source.note_loss();
                }
            }
        }
    };
    (outcome, exchange.finish().await)
}

fn outcome<L: Io>(exchange: &Exchange<L>) -> Outcome {
    match (exchange.status(), exchange.flow.standing()) {
        (Status::Refused(PipeStatus::TargetUnreachable), _) => Outcome::TargetUnreachable,
        (_, Standing::Done) => Outcome::Done,
        (_, Standing::Broken | Standing::Open) => Outcome::Broken,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

impl Source {
    /// The next leg. Safe to cancel: what was not begun is dropped.
    async fn next(&mut self) -> Next {
        match self {
            Self::Routes(routes) => routes.next().await,
            Self::Arrivals(arrivals) => match arrivals.recv().await {
                Some(arrival) => Next::Arrival(arrival),
                None => Next::None,
            },
        }
    }

    /// The newest leg is lost.
    fn note_loss(&mut self) {
        if let Self::Routes(routes) = self {
            routes.lost = routes.used.take();
            routes.losses = if routes.since.elapsed() > LASTED { 1 } else { routes.losses.saturating_add(1) };
        }
    }

    fn opening(&self, beginning: Beginning) -> Option<Vec<u8>> {
        let Self::Routes(Routes { tunnel, stream, patience, .. }) = self else { return None };
        let Beginning { attempt, received, fresh } = beginning;
        let (tunnel, stream, patience) = (*tunnel, *stream, *patience);
        frame::encode(&Opening { tunnel, stream, attempt, received, fresh, patience }).ok()
    }
}

impl Routes {
    /// A stream on the best way there is, if it is another one than that of the newest leg.
    async fn next(&mut self) -> Next {
        loop {
            let best = self.routes.borrow_and_update().clone();
            match best {
                Some(best) if self.peer.is_some_and(|peer| peer != best.peer) => return Next::Moved,
                Some(best) if self.lost == Some(best.connection) => {
                    let doublings = self.losses.clamp(1, 8) - 1;
                    tokio::select! {
                        () = sleep((PAUSE * (1 << doublings)).min(LONGEST_PAUSE)) => self.lost = None,
                        changed = self.routes.changed() => if changed.is_err() { return Next::None },
                    }
                }
                Some(best) if self.used != Some(best.connection) => {
                    match timeout(OPENING, best.opener.open(StreamProtocol::new(LEG_PROTOCOL))).await {
                        Ok(Ok(leg)) => {
                            (self.peer, self.used) = (Some(best.peer), Some(best.connection));
                            self.since = Instant::now();
                            return Next::Opened(Box::new(leg.compat()));
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "no leg"),
                        Err(_) => tracing::debug!("no leg in time"),
                    }
                    self.lost = Some(best.connection);
                    self.losses = self.losses.saturating_add(1);
                }
                Some(_) | None => {
                    if self.routes.changed().await.is_err() {
                        return Next::None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
