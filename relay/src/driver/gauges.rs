//! Reads what went through the tunnels, and fills the purses of the keys that pay for them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use mytunnel_keys::{
    id::Serial,
    usage::{Prices, Usage},
};
use tokio::sync::Notify;

use crate::{
    admit::Used,
    circuits::Pass,
    ingress::Crowd,
    registry::{Place, Registration},
    traffic::{Fill, Purse, Traffic},
};

/// How often the time of a tunnel without traffic is told: each time costs its coordinator a row.
const IDLE: Duration = Duration::from_secs(4);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Gauges {
    live: HashMap<Place, Gauge>,
    /// Of peers that may have circuits.
    circuits: HashMap<PeerId, Gauge>,
    /// Of tunnels that are over, for as long as streams of theirs may still count.
    over: Vec<Gauge>,
    purses: HashMap<Serial, Weak<Purse>>,
    crowds: HashMap<Serial, Weak<Crowd>>,
    alarm: Arc<Notify>,
}

#[derive(Debug)]
struct Gauge {
    serial: Serial,
    parent: Option<Serial>,
    traffic: Arc<Traffic>,
    read: Usage,
    /// Until when its time was read; none where time costs nothing.
    until: Option<Instant>,
}

/// What purses had given when the counts were not read yet.
#[derive(Debug)]
pub(super) struct Spent(Vec<(Serial, Arc<Purse>, u64)>);

impl Gauges {
    /// Completes when a purse is low or empty. Safe to cancel.
    pub(super) fn alarm(&self) -> Arc<Notify> {
        Arc::clone(&self.alarm)
    }

    /// Begins to count a tunnel, whose keys may spend what `fill` says.
    pub(super) fn open(
        &mut self,
        tunnel: &Registration,
        prices: &Prices,
        fill: impl Fn(&Serial) -> Fill,
        now: Instant,
    ) -> Arc<Traffic> {
        self.close(&tunnel.place(), now);
        let gauge = self.gauge((tunnel.serial, tunnel.parent), prices, fill, Some(now));
        let traffic = Arc::clone(&gauge.traffic);
        self.live.insert(tunnel.place(), gauge);
        traffic
    }

    /// Begins to count the circuits of a peer, or goes on.
    pub(super) fn open_circuits(
        &mut self,
        peer: PeerId,
        pass: &Pass,
        prices: &Prices,
        fill: impl Fn(&Serial) -> Fill,
    ) -> Arc<Traffic> {
        if let Some(gauge) = self.circuits.get(&peer).filter(|gauge| gauge.serial == pass.serial) {
            return Arc::clone(&gauge.traffic);
        }
        self.close_circuits(&peer);
        let gauge = self.gauge((pass.serial, pass.parent), prices, fill, None);
        let traffic = Arc::clone(&gauge.traffic);
        self.circuits.insert(peer, gauge);
        traffic
    }

    /// A peer may have circuits no longer. What of them is in flight still counts.
    pub(super) fn close_circuits(&mut self, peer: &PeerId) {
        self.over.extend(self.circuits.remove(peer));
    }

    fn gauge(
        &mut self,
        (serial, parent): (Serial, Option<Serial>),
        prices: &Prices,
        fill: impl Fn(&Serial) -> Fill,
        until: Option<Instant>,
    ) -> Gauge {
        let purses = [Some(serial), parent].map(|key| key.map(|key| self.purse(key, prices, &fill)));
        Gauge { serial, parent, traffic: Arc::new(Traffic::paid_by(purses)), read: Usage::default(), until }
    }

    /// A tunnel is over. What of it is in flight still counts, its time no longer.
    pub(super) fn close(&mut self, place: &Place, now: Instant) {
        if let Some(mut gauge) = self.live.remove(place) {
            gauge.read.tunnel_seconds += gauge.seconds(now);
            self.over.push(gauge);
        }
    }

    /// What every tunnel has used since the last call.
    pub(super) fn read(&mut self, now: Instant) -> (Spent, Vec<Used>) {
        self.purses.retain(|_, purse| purse.strong_count() > 0);
        self.crowds.retain(|_, crowd| crowd.strong_count() > 0);
        let purses = self.purses.iter().filter_map(|(key, purse)| Some((*key, purse.upgrade()?)));
        let spent = Spent(
            purses
                .map(|(key, purse)| {
                    let spent = purse.spent();
                    (key, purse, spent)
                })
                .collect(),
        );
        let mut used = Vec::new();
        for gauge in self.live.values_mut().chain(self.circuits.values_mut()) {
            used.extend(gauge.read(now));
        }
        self.over.retain_mut(|gauge| {
            used.extend(gauge.rest());
            Arc::strong_count(&gauge.traffic) > 1
        });
        (spent, used)
    }

    /// The requests in flight of a key, shared by its tunnels.
    pub(super) fn crowd(&mut self, key: Serial) -> Arc<Crowd> {
        if let Some(crowd) = self.crowds.get(&key).and_then(Weak::upgrade) {
            return crowd;
        }
        let crowd = Arc::default();
        self.crowds.insert(key, Arc::downgrade(&crowd));
        crowd
    }

    /// The purse of a key, shared by its tunnels.
    fn purse(&mut self, key: Serial, prices: &Prices, fill: impl Fn(&Serial) -> Fill) -> Arc<Purse> {
        if let Some(purse) = self.purses.get(&key).and_then(Weak::upgrade) {
            return purse;
        }
        let purse = Arc::new(Purse::new(Arc::clone(&self.alarm)));
        purse.fill(0, fill(&key), prices);
        self.purses.insert(key, Arc::downgrade(&purse));
        purse
    }
}

impl Spent {
    /// Sets every purse right.
    pub(super) fn fill(self, prices: &Prices, fill: impl Fn(&Serial) -> Fill) {
        for (key, purse, spent) in self.0 {
            purse.fill(spent, fill(&key), prices);
        }
    }
}

impl Gauge {
    fn read(&mut self, now: Instant) -> Option<Used> {
        let total = self.traffic.usage();
        let mut usage = total.since(self.read);
        usage.tunnel_seconds = 0;
        let idle = |until: Instant| now.saturating_duration_since(until) < IDLE;
        if usage.is_nothing() && self.until.is_none_or(idle) {
            return None;
        }
        usage.tunnel_seconds = self.seconds(now);
        self.until = self.until.map(|until| until + Duration::from_secs(usage.tunnel_seconds));
        self.read = Usage { tunnel_seconds: 0, ..total };
        (!usage.is_nothing()).then_some(Used { serial: self.serial, parent: self.parent, usage })
    }

    /// The rest of one that is over: its last seconds stand in what was read.
    fn rest(&mut self) -> Option<Used> {
        let total = self.traffic.usage();
        let usage = Usage { tunnel_seconds: self.read.tunnel_seconds, ..total.since(self.read) };
        self.read = Usage { tunnel_seconds: 0, ..total };
        (!usage.is_nothing()).then_some(Used { serial: self.serial, parent: self.parent, usage })
    }

    /// Whole seconds that were not read yet.
    fn seconds(&self, now: Instant) -> u64 {
        self.until.map_or(0, |until| now.saturating_duration_since(until).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;
    use mytunnel_keys::id::{TunnelId, TunnelKind};

    use super::*;
    use crate::testing::{project, serial};

    fn registration(name: &str, number: u8) -> Registration {
        Registration {
            id: TunnelId::from_bytes([number; 16]),
            name: name.parse().unwrap(),
            kind: TunnelKind::Http,
            project: project("a"),
            tenant: crate::testing::tenant(),
            serial: serial(number),
            parent: Some(serial(100)),
            account: None,
            connection: ConnectionId::new_unchecked(1),
            instance: [1; 16],
            alone: false,
            since: (1, 0),
        }
    }

    fn open(gauges: &mut Gauges, name: &str, number: u8, now: Instant) -> Arc<Traffic> {
        gauges.open(&registration(name, number), &Prices::default(), |_| Fill::Free, now)
    }

    fn only(used: &[Used]) -> Usage {
        let [Used { usage, .. }] = used else { panic!("{used:?}") };
        *usage
    }

    #[test]
    fn requests_in_flight_are_those_of_a_key_while_it_has_a_tunnel() {
        let mut gauges = Gauges::default();
        let held = gauges.crowd(serial(1));
        let _place = gauges.crowd(serial(1)).enter(1).unwrap();
        assert!(gauges.crowd(serial(1)).enter(1).is_none() && gauges.crowd(serial(2)).enter(1).is_some());
        gauges.read(Instant::now());
        assert_eq!(gauges.crowds.len(), 1, "the other key has no tunnel");
        drop(held);
        gauges.read(Instant::now());
        assert!(gauges.crowds.is_empty());
    }

    #[test]
    fn what_went_through_is_read_once_and_time_with_it() {
        let (mut gauges, start) = (Gauges::default(), Instant::now());
        let at = |seconds| start + Duration::from_millis(seconds);
        let traffic = open(&mut gauges, "web", 1, start);
        traffic.count_out(7);
        assert_eq!(
            only(&gauges.read(at(2500)).1),
            Usage { bytes_out: 7, tunnel_seconds: 2, ..Usage::default() }
        );
        assert_eq!(gauges.read(at(3100)).1, []);
        traffic.count_in(1);
        assert_eq!(
            only(&gauges.read(at(3200)).1),
            Usage { bytes_in: 1, tunnel_seconds: 1, ..Usage::default() }
        );
        assert_eq!(gauges.read(at(6000)).1, [], "a tunnel without traffic is told of every few seconds");
        assert_eq!(only(&gauges.read(at(7000)).1), Usage { tunnel_seconds: 4, ..Usage::default() });
    }

    #[test]
    fn what_is_in_flight_when_a_tunnel_ends_counts() {
        let (mut gauges, start) = (Gauges::default(), Instant::now());
        let traffic = open(&mut gauges, "web", 1, start);
        gauges.close(&registration("web", 1).place(), start + Duration::from_secs(3));
        let later = start + Duration::from_secs(60);
        assert_eq!(only(&gauges.read(later).1), Usage { tunnel_seconds: 3, ..Usage::default() });
        traffic.count_out(5);
        drop(traffic);
        assert_eq!(only(&gauges.read(later).1), Usage { bytes_out: 5, ..Usage::default() });
        assert_eq!((gauges.read(later).1, gauges.over.len()), (Vec::new(), 0));
    }

    #[test]
    fn a_tunnel_has_its_limit_from_the_beginning() {
        let (mut gauges, now) = (Gauges::default(), Instant::now());
        let limit = |key: &Serial| if *key == serial(100) { Fill::Left(1) } else { Fill::Free };
        let traffic = gauges.open(&registration("web", 1), &Prices::default(), limit, now);
        assert!(!traffic.is_dry());
        traffic.count_out(1 << 20);
        assert!(traffic.is_dry());
    }

    #[test]
    fn tunnels_of_one_parent_share_its_purse() {
        let (mut gauges, now) = (Gauges::default(), Instant::now());
        let (one, two) = (open(&mut gauges, "one", 1, now), open(&mut gauges, "two", 2, now));
        let (spent, _) = gauges.read(now);
        spent.fill(&Prices::default(), |key| if *key == serial(100) { Fill::Left(0) } else { Fill::Free });
        assert!(one.is_dry() && two.is_dry());
    }
}
