//! Ports that are kept at a router while they are wanted.
//!
//! Whatever the router grants is given back: when it is wanted no longer, when the node shuts down, and also when the answer comes only
//! after that. A port that it does not renew counts until its time is over, since the router keeps it that long.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mytunnel_keys::wire::direct::Over;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Mapped, Ports};

/// The shortest time after which a port is asked for again, whatever the router says.
const SOONEST: Duration = Duration::from_secs(60);

/// How long a router that gave none is left alone.
const PAUSE: Duration = Duration::from_secs(600);

/// Ports that a router is asked for.
const MOST: usize = 4;

/// One port inside.
pub(super) type Port = (Over, SocketAddrV4);

/// What a router is asked, and how.
pub(super) trait Lead: Clone + Send + Sync + 'static {
    /// What a router has granted.
    type Lease: Clone + Send + 'static;

    /// The router that leads out of the network of this address.
    fn gateway(&self, local: Ipv4Addr) -> Option<Ipv4Addr>;

    /// Asks for a port, or for one more life of a lease; why there is none.
    fn ask(
        self,
        port: Port,
        gateway: Ipv4Addr,
        before: Option<Self::Lease>,
    ) -> impl Future<Output = Result<Lent<Self::Lease>, String>> + Send;

    fn give_back(self, lease: Self::Lease) -> impl Future<Output = ()> + Send;
}

/// A lease as it was granted.
pub(super) struct Lent<L> {
    pub(super) lease: L,
    pub(super) outside: SocketAddr,
    pub(super) life: Duration,
}

impl<L> Lent<L> {
    /// The same as another kind of lease.
    pub(super) fn map<M>(self, kind: impl FnOnce(L) -> M) -> Lent<M> {
        Lent { lease: kind(self.lease), outside: self.outside, life: self.life }
    }
}

/// A port of the router.
struct Held<L> {
    port: Port,
    lease: L,
    outside: SocketAddr,
    /// When it is asked for again.
    due: Instant,
    ends: Instant,
}

/// Keeps what is wanted and tells what is mapped, until nobody listens any more.
pub(super) async fn keep<L: Lead>(lead: L, mut wanted: watch::Receiver<Ports>, told: mpsc::Sender<Mapped>) {
    let mut keeper = Keeper { lead: lead.clone(), held: Vec::new(), returning: FuturesUnordered::new() };
    let mut last = Mapped::new();
    loop {
        let ports = wanted.borrow_and_update().clone();
        keeper.leave(&ports);
        let due = keeper.due(&ports, Instant::now());
        let mut asking: FuturesUnordered<_> = due
            .into_iter()
            .map(|(port, gateway, before)| {
                let asked = lead.clone().ask(port, gateway, before);
                async move { (port, gateway, asked.await) }
            })
            .collect();
        while !asking.is_empty() {
            tokio::select! {
                () = told.closed() => {
                    let granted = asking.filter_map(|(_, _, answer)| async { answer.ok() });
                    let late = granted.for_each_concurrent(None, |lent| lead.clone().give_back(lent.lease));
                    tokio::join!(late, keeper.close());
                    return;
                }
                Some((port, gateway, answer)) = asking.next() => {
                    if let Err(why) = &answer {
                        tracing::debug!(%gateway, why, "the router leads no port here");
                    }
                    keeper.note(port, answer, Instant::now());
                }
                Some(()) = keeper.returning.next() => {}
            }
        }
        drop(asking);
        let mapped = keeper.mapped();
        if mapped != last {
            last.clone_from(&mapped);
            if told.send(mapped).await.is_err() {
                break;
            }
        }
        let next = keeper.next(ports.len(), Instant::now());
        loop {
            tokio::select! {
                () = told.closed() => return keeper.close().await,
                changed = wanted.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return keeper.close().await,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => break,
                Some(()) = keeper.returning.next() => {}
            }
        }
    }
    keeper.close().await;
}

struct Keeper<L: Lead> {
    lead: L,
    held: Vec<Held<L::Lease>>,
    /// What is on its way back.
    returning: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl<L: Lead> Keeper<L> {
    /// Gives back what is not among these. The router of a network that we have left is out of reach.
    fn leave(&mut self, ports: &Ports) {
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| ports.contains(&held.port));
        self.held = kept;
        for held in gone {
            if self.lead.gateway(*held.port.1.ip()).is_some() {
                self.give_back(held.lease);
            }
        }
    }

    /// What is to be asked for, of which router, and the lease that there is.
    fn due(&self, ports: &Ports, now: Instant) -> Vec<(Port, Ipv4Addr, Option<L::Lease>)> {
        let led = ports.iter().filter_map(|port| Some((*port, self.lead.gateway(*port.1.ip())?)));
        led.take(MOST)
            .filter_map(|(port, gateway)| match self.held.iter().find(|held| held.port == port) {
                Some(held) if held.due > now => None,
                Some(held) => Some((port, gateway, Some(held.lease.clone()))),
                None => Some((port, gateway, None)),
            })
            .collect()
    }

    /// The router's answer.
    fn note(&mut self, port: Port, answer: Result<Lent<L::Lease>, String>, now: Instant) {
        let before = self.held.iter().position(|held| held.port == port);
        match (answer, before) {
            (Ok(Lent { lease, outside, life }), before) => {
                let held =
                    Held { port, lease, outside, due: now + (life / 2).max(SOONEST), ends: now + life };
                match before {
                    Some(before) => self.held[before] = held,
                    None => self.held.push(held),
                }
            }
            (Err(_), Some(before)) => {
                let held = &mut self.held[before];
                held.due = now + (held.ends.saturating_duration_since(now) / 2).max(SOONEST);
                if held.due > held.ends {
                    self.held.swap_remove(before);
                }
            }
            (Err(_), None) => {}
        }
    }

    fn mapped(&self) -> Mapped {
        let mut mapped: Mapped = self.held.iter().map(|held| (held.port.0, held.outside)).collect();
        mapped.sort_unstable();
        mapped
    }

    /// When there is something to ask for again, of so many that are wanted.
    fn next(&self, wanted: usize, now: Instant) -> Option<Instant> {
        let missing = (self.held.len() < wanted.min(MOST)).then(|| now + PAUSE);
        self.held.iter().map(|held| held.due).chain(missing).min()
    }

    fn give_back(&self, lease: L::Lease) {
        let lead = self.lead.clone();
        self.returning.push(async move { lead.give_back(lease).await }.boxed());
    }

    /// Gives everything back.
    async fn close(mut self) {
        for held in std::mem::take(&mut self.held) {
            self.give_back(held.lease);
        }
        while self.returning.next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
