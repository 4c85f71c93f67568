//! Two relays at once: a driver for each, so that one may die and no visitor of the other notices. Whatever is shared is
//! shared through both, and its owner hears of one share.
//!
//! The relays of a cluster are dealt out in turn, so that the two are never at the same one.

use std::{panic, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{Driver, Parts, Request},
    node::REQUESTS,
    relays::RelayAddress,
    share::{EVENTS, Share, ShareError, ShareEvent, TunnelSpec},
    state::merge::{Merge, Side},
    status::Status,
};

/// What a pair's owner keeps: as with a driver alone.
pub(crate) struct Ends {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) status: watch::Sender<Status>,
}

/// See the [module documentation](self).
pub(crate) struct Pair {
    first: Line,
    second: Line,
    ends: Ends,
    merging: JoinSet<()>,
}

/// A driver and how to speak to it.
struct Line {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
    driver: JoinSet<()>,
}

/// Deals relays out to two lines; the second may be left with none.
pub(crate) fn deal(relays: Vec<RelayAddress>) -> [Vec<RelayAddress>; 2] {
    let mut hands = [Vec::new(), Vec::new()];
    for (number, relay) in relays.into_iter().enumerate() {
        hands[number % 2].push(relay);
    }
    hands
}

impl Pair {
    /// Starts both drivers. Their own requests and status are the pair's affair.
    pub(crate) fn start(parts: [Parts; 2], ends: Ends) -> Self {
        let [first, second] = parts.map(Line::start);
        Self { first, second, ends, merging: JoinSet::new() }
    }

    /// Runs until the owner shuts it down or is gone.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                request = self.ends.requests.recv() => match request {
                    Some(Request::Share(spec, reply)) => {
                        let shared = self.share(*spec).await;
                        // Whoever asked may have left; dropping the handle then gives the share up.
                        drop(reply.send(shared));
                    }
                    Some(access @ Request::Access(..)) => {
                        // Both ends of a private share are at the same relay: the first of all, at both.
                        if self.first.requests.send(access).await.is_err() {
                            return;
                        }
                    }
                    Some(Request::Shutdown(grace)) => return self.finish(grace).await,
                    None => return,
                },
                Some(ended) = self.merging.join_next() => resume(ended),
                Some(ended) = self.first.driver.join_next() => resume(ended),
                Some(ended) = self.second.driver.join_next() => resume(ended),
                Ok(()) = self.first.status.changed() => {}
                Ok(()) = self.second.status.changed() => {}
            }
            self.publish();
        }
    }

    async fn share(&mut self, spec: TunnelSpec) -> Result<Share, ShareError> {
        let name = spec.name.clone();
        let first = self.first.share(spec.clone()).await?;
        let second = self.second.share(spec).await?;
        let (events, receiver) = broadcast::channel(EVENTS);
        let wanted = CancellationToken::new();
        self.merging.spawn(merge(first, second, events, wanted.clone()));
        Ok(Share::new(name, receiver, wanted.drop_guard()))
    }

    fn publish(&mut self) {
        let (first, second) = (self.first.status.borrow_and_update(), self.second.status.borrow_and_update());
        let status = Status::of_both(&first, &second);
        self.ends.status.send_if_modified(|held| {
            let is_news = *held != status;
            *held = status;
            is_news
        });
    }

    /// Both finish at the same time. Shares hear of their end before the tasks that tell it are gone.
    async fn finish(mut self, grace: Duration) {
        tokio::join!(self.first.finish(grace), self.second.finish(grace));
        while let Some(ended) = self.merging.join_next().await {
            resume(ended);
        }
    }
}

impl Line {
    fn start(parts: Parts) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (sender, status) = watch::channel(Status::default());
        let mut driver = JoinSet::new();
        driver.spawn(Driver::new(parts, receiver, sender).run());
        Self { requests, status, driver }
    }

    async fn share(&self, spec: TunnelSpec) -> Result<Share, ShareError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Share(Box::new(spec), reply);
        self.requests.send(request).await.map_err(|_| ShareError::Stopped)?;
        answer.await.map_err(|_| ShareError::Stopped)?
    }

    async fn finish(&mut self, grace: Duration) {
        if self.requests.send(Request::Shutdown(grace)).await.is_ok() {
            while let Some(ended) = self.driver.join_next().await {
                resume(ended);
            }
        }
    }
}

/// Tells the owner of a share what is to be told of both, until it is over or given up.
async fn merge(
    mut first: Share,
    mut second: Share,
    events: broadcast::Sender<ShareEvent>,
    wanted: CancellationToken,
) {
    let mut merged = Merge::new();
    loop {
        let (side, event) = tokio::select! {
            biased;
            () = wanted.cancelled() => return,
            Some(event) = first.next() => (Side::First, event),
            Some(event) = second.next() => (Side::Second, event),
            else => return,
        };
        let Some(event) = merged.on(side, event) else { continue };
        let is_end = matches!(event, ShareEvent::Closed(_));
        // The owner may have left, upon which `wanted` is cancelled.
        let _ = events.send(event);
        if is_end {
            return;
        }
    }
}

/// A task of ours never ends by anything but its own panic.
fn resume(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(reason) = error.try_into_panic()
    {
        panic::resume_unwind(reason);
    }
}
