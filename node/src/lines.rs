//! Lines to relays: a driver for each, two where there are two relays, so that one may die and no visitor of the other
//! notices. Whatever is shared is shared through all of them, and its owner hears of one share. Above them stands one owner of
//! [private sessions](crate::meeting).
//!
//! The relays of a cluster are dealt out in turn, so that two lines are never at the same one.

use std::{future::pending, sync::Arc, time::Duration};

use futures::future::select_all;
use mytunnel_keys::id::{TunnelKind, TunnelName};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    driver::{self, Driver},
    meeting::{self, Meeting, line::LineEnd},
    node::REQUESTS,
    relays::RelayAddress,
    serve::table::Kept,
    share::{EVENTS, Share, ShareError, ShareEvent, TunnelSpec},
    state::merge::{Merge, Side},
    status::{PeerStatus, Status},
    tasks::resume,
};

/// What the owner asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Share(Box<TunnelSpec>, oneshot::Sender<Result<Share, ShareError>>),
    Access(TunnelName, oneshot::Sender<Result<Access, ShareError>>),
    /// Finish what is under way, in this time at most.
    Shutdown(Duration),
}

/// What the lines' owner keeps.
pub(crate) struct Ends {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) status: watch::Sender<Status>,
}

/// See the [module documentation](self).
pub(crate) struct Lines {
    lines: Vec<Line>,
    sessions: mpsc::Sender<meeting::Request>,
    peers: watch::Receiver<Vec<PeerStatus>>,
    ends: Ends,
    /// The drivers, and the owner of private sessions.
    owners: JoinSet<()>,
    merging: JoinSet<()>,
}

/// How to speak to a driver.
struct Line {
    requests: mpsc::Sender<driver::Request>,
    status: watch::Receiver<Status>,
}

/// Deals relays out to two lines; the second may be left with none, and is none then.
pub(crate) fn deal(relays: Vec<RelayAddress>) -> Vec<Vec<RelayAddress>> {
    let mut hands = vec![Vec::new(), Vec::new()];
    for (number, relay) in relays.into_iter().enumerate() {
        hands[number % 2].push(relay);
    }
    hands.retain(|hand| !hand.is_empty());
    hands
}

impl Lines {
    /// Starts a driver for each line, and the owner of private sessions.
    pub(crate) fn start(drivers: Vec<driver::Parts>, sessions: meeting::Parts, ends: Ends) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (telling, peers) = watch::channel(Vec::new());
        let (meeting, line_ends) = Meeting::new(sessions, drivers.len(), receiver, telling);
        let mut owners = JoinSet::new();
        owners.spawn(meeting.run());
        let start = |(parts, end)| Line::start(parts, end, &mut owners);
        let lines = drivers.into_iter().zip(line_ends).map(start).collect();
        Self { lines, sessions: requests, peers, ends, owners, merging: JoinSet::new() }
    }

    /// Runs until the owner shuts them down or is gone.
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
                    Some(Request::Access(name, reply)) => {
                        if self.sessions.send(meeting::Request::Access(name, reply)).await.is_err() {
                            return;
                        }
                    }
                    Some(Request::Shutdown(grace)) => return self.finish(grace).await,
                    None => return,
                },
                Some(ended) = self.merging.join_next() => if let Err(error) = ended { resume(error) },
                Some(ended) = self.owners.join_next() => if let Err(error) = ended { resume(error) },
                () = any_changed(&mut self.lines) => {}
                Ok(()) = self.peers.changed() => {}
            }
            self.publish();
        }
    }

    async fn share(&mut self, spec: TunnelSpec) -> Result<Share, ShareError> {
        let name = spec.name.clone();
        let [first, rest @ ..] = &self.lines[..] else { return Err(ShareError::Stopped) };
        let kept = Kept::new(&spec)?;
        let shared = first.share(spec.clone(), Arc::clone(&kept)).await?;
        let [second] = rest else { return Ok(shared) };
        // Only streams of private shares go from one line to the other.
        let kept = if spec.kind == TunnelKind::Private { kept } else { Kept::new(&spec)? };
        let other = second.share(spec, kept).await?;
        let (events, receiver) = broadcast::channel(EVENTS);
        let wanted = CancellationToken::new();
        self.merging.spawn(merge(shared, other, events, wanted.clone()));
        Ok(Share::new(name, receiver, wanted.drop_guard()))
    }

    fn publish(&mut self) {
        let all: Vec<_> = self.lines.iter_mut().map(|line| line.status.borrow_and_update()).collect();
        let mut status = match &all[..] {
            [first, second] => Status::of_both(first, second),
            [first, ..] => Status::clone(first),
            [] => Status::default(),
        };
        drop(all);
        status.peers.clone_from(&self.peers.borrow_and_update());
        self.ends.status.send_if_modified(|held| {
            let is_news = *held != status;
            *held = status;
            is_news
        });
    }

    /// All finish at the same time, the drivers last. Shares hear of their end before the tasks that tell it are gone.
    async fn finish(mut self, grace: Duration) {
        // Whoever is gone has finished.
        let _ = self.sessions.send(meeting::Request::Finish(grace)).await;
        for line in &self.lines {
            let _ = line.requests.send(driver::Request::Shutdown(grace)).await;
        }
        for tasks in [&mut self.owners, &mut self.merging] {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    resume(error);
                }
            }
        }
    }
}

impl Line {
    fn start(parts: driver::Parts, end: LineEnd, owners: &mut JoinSet<()>) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let (sender, status) = watch::channel(Status::default());
        owners.spawn(Driver::new(parts, end, receiver, sender).run());
        Self { requests, status }
    }

    async fn share(&self, spec: TunnelSpec, kept: Arc<Kept>) -> Result<Share, ShareError> {
        let (reply, answer) = oneshot::channel();
        let request = driver::Request::Share(Box::new(spec), kept, reply);
        self.requests.send(request).await.map_err(|_| ShareError::Stopped)?;
        answer.await.map_err(|_| ShareError::Stopped)?
    }
}

/// Returns when the status of one has changed. Safe to cancel.
async fn any_changed(lines: &mut [Line]) {
    let changes = lines.iter_mut().map(|line| Box::pin(line.status.changed()));
    let (changed, ..) = select_all(changes).await;
    if changed.is_err() {
        // A driver is gone, which is noticed by its task.
        pending().await
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
