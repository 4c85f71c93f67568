//! The streams that other nodes have opened to what is shared here. A stream belongs to its peer, not to a connection: the
//! same peer goes on with it over another one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use mytunnel_keys::{id::TunnelId, wire::peer::Opening};
use tokio::{
    io::duplex,
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::whole::until_both;
use crate::{
    lasting::{
        exchange::Verdict,
        flow::Limits,
        frames::{ALL, NOTHING},
        pump::{self, Arrival, Outcome},
    },
    serve::{self, Patience, PipeError, pulse::Pulses, table::Service},
};

/// Streams of one peer.
const MOST_STREAMS_OF_PEER: usize = 256;

/// Streams that have ended are remembered, so that a leg of theirs that comes late does not begin them anew.
const REMEMBERED: usize = 4096;

/// Bytes under way between a stream and what serves it, in each direction.
const BUFFER: usize = 64 * 1024;

/// Names a stream.
pub(super) type Key = (PeerId, [u8; 16]);

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Streams {
    live: HashMap<Key, Live>,
    most: usize,
    limits: Limits,
    /// Streams that have ended, and whether they are done.
    ended: HashMap<Key, bool>,
    ended_in_order: VecDeque<Key>,
    tasks: JoinSet<(Key, Outcome)>,
    pulses: Pulses,
    ending: CancellationToken,
}

#[derive(Debug)]
struct Live {
    tunnel: TunnelId,
    arrivals: mpsc::Sender<Arrival>,
    task: AbortHandle,
}

/// What becomes of a leg.
pub(super) enum Taken {
    /// It belongs to a stream.
    Yes,
    /// It does not, and this is to be said on it.
    No([u8; 1], Arrival),
}

impl Streams {
    pub(super) fn new(most: usize, limits: Limits, pulses: Pulses) -> Self {
        Self {
            live: HashMap::new(),
            most,
            limits,
            ended: HashMap::new(),
            ended_in_order: VecDeque::new(),
            tasks: JoinSet::new(),
            pulses,
            ending: CancellationToken::new(),
        }
    }

    /// Puts ended streams away, and never returns unless one has panicked. Safe to cancel.
    pub(super) async fn reap(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((key, outcome))) => self.bury(key, outcome),
                Some(Err(error)) if error.is_panic() => return error,
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }

    /// A peer has begun a leg of a stream that may lead to its tunnel. `find` says what is shared there now.
    pub(super) fn take(
        &mut self,
        peer: PeerId,
        opening: &Opening,
        arrival: Arrival,
        find: impl FnOnce() -> Option<Arc<Service>>,
    ) -> Taken {
        let key = (peer, opening.stream);
        match self.live.get(&key) {
            Some(live) if live.tunnel == opening.tunnel => {
                // One that is about to end takes no more; whoever sees the leg end without a word comes again.
                let _ = live.arrivals.try_send(arrival);
                Taken::Yes
            }
            Some(_) => Taken::No(NOTHING, arrival),
            None if self.ended.get(&key).is_some_and(|is_done| *is_done) => Taken::No(ALL, arrival),
            None if opening.fresh && self.has_place(&key) => match find() {
                Some(service) => {
                    self.begin(key, service, opening, arrival);
                    Taken::Yes
                }
                None => Taken::No(NOTHING, arrival),
            },
            None => Taken::No(NOTHING, arrival),
        }
    }

    fn has_place(&self, key: &Key) -> bool {
        let of_peer = self.live.keys().filter(|(peer, _)| *peer == key.0).count();
        !self.ending.is_cancelled()
            && !self.ended.contains_key(key)
            && self.live.len() < self.most
            && of_peer < MOST_STREAMS_OF_PEER
    }

    fn begin(&mut self, key: Key, service: Arc<Service>, opening: &Opening, first: Arrival) {
        let (arrivals, receiver) = mpsc::channel(4);
        // It has room for the first.
        let _ = arrivals.try_send(first);
        let (near, far) = duplex(BUFFER);
        let asked = Duration::from_secs(opening.patience.into());
        let limits = Limits { patience: self.limits.patience.min(asked), ..self.limits };
        let (pulse, ending) = (self.pulses.begin(), self.ending.clone());
        let verdict = Verdict::default();
        let told = verdict.clone();
        let task = self.tasks.spawn(async move {
            let served = async {
                let served = serve::serve_lane(far, &service, Patience::default(), pulse, || ()).await;
                if let Err(error) = &served {
                    // That the target is not there was said in its status.
                    if !matches!(error, PipeError::Target(_)) {
                        verdict.set_broken();
                    }
                    tracing::debug!(error = error as &dyn std::error::Error, "stream ended early");
                }
                served.is_ok()
            };
            (key, until_both(served, pump::accept(near, told, receiver, limits, &ending)).await)
        });
        self.live.insert(key, Live { tunnel: opening.tunnel, arrivals, task });
    }

    /// Cuts what these peers have open.
    pub(super) fn cut(&mut self, peers: &HashSet<PeerId>) {
        let keys: Vec<Key> = self.live.keys().filter(|(peer, _)| peers.contains(peer)).copied().collect();
        for key in keys {
            if let Some(live) = self.live.remove(&key) {
                live.task.abort();
            }
            self.remember(key, false);
        }
    }

    /// Breaks off what is open, which the other ends are told where there is a way, and takes nothing more.
    pub(super) fn break_off(&self) {
        self.ending.cancel();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    fn bury(&mut self, key: Key, outcome: Outcome) {
        tracing::debug!(peer = %key.0, %outcome, "stream ended");
        self.live.remove(&key);
        self.remember(key, outcome == Outcome::Done);
    }

    fn remember(&mut self, key: Key, is_done: bool) {
        if self.ended.insert(key, is_done).is_none() {
            self.ended_in_order.push_back(key);
        }
        if self.ended_in_order.len() > REMEMBERED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}
