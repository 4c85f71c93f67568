//! Who may hold a connection to the API: bookkeeping without a socket.
//!
//! A connection is a stranger's until a relay's feed runs on it: the feed's own authority bounds those, one for each
//! relay, and they take no place from anybody. Of the strangers' places one address, one IPv6 /64 and one IPv6 /48 have
//! a share each. Where a relay's feed came from there are places in reserve, so that a relay that lost its connection
//! finds its way back through a crowd. A proxy that the operator trusts stands for many: the shares are those of the
//! requests that it brings, by their senders.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use mytunnel_relay::ingress::{AddressSeat, Addresses};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses of relays that are remembered: as many as may follow at a time.
const RELAYS: usize = 256;

/// How many connections there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Of strangers, in all.
    pub(crate) total: usize,
    /// Of one IPv4 address or one IPv6 /64.
    pub(crate) per_address: u32,
    /// Of one IPv6 /48, which is what a provider gives to one customer at the most.
    pub(crate) per_network: u32,
    /// Beside those, for addresses from which a relay has followed the feed.
    pub(crate) reserve: usize,
    /// Of the reserve, for one of those addresses: a relay has two connections.
    pub(crate) reserve_per_address: u32,
}

impl Default for Shares {
    fn default() -> Self {
        Self { total: 1024, per_address: 256, per_network: 512, reserve: 256, reserve_per_address: 16 }
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    shares: Shares,
    strangers: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    addresses: Addresses,
    networks: Addresses,
    reserved: Addresses,
    /// The latest last.
    relays: Mutex<VecDeque<IpAddr>>,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    share: Option<Share>,
}

/// A part of what one address may have; given back on drop.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop")]
pub(super) struct Share(AddressSeat, Option<AddressSeat>);

impl Places {
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            shares,
            strangers: Arc::new(Semaphore::new(shares.total)),
            reserve: Arc::new(Semaphore::new(shares.reserve)),
            addresses: Addresses::default(),
            networks: Addresses::default(),
            reserved: Addresses::default(),
            relays: Mutex::default(),
        }
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn connect(&self, from: IpAddr) -> Option<Place> {
        self.as_stranger(from).or_else(|| self.as_relay(from))
    }

    /// A place for a connection of a trusted proxy.
    pub(super) fn connect_proxy(&self) -> Option<Place> {
        let permit = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        Some(Place { permit, share: None })
    }

    /// The sender's share, for the time of one request that a proxy brings.
    pub(super) fn share(&self, from: IpAddr) -> Option<Share> {
        let address = self.addresses.connect(from, self.shares.per_address)?;
        let network = match from.to_canonical() {
            IpAddr::V4(_) => None,
            IpAddr::V6(from) => Some(self.networks.connect(network(from), self.shares.per_network)?),
        };
        Some(Share(address, network))
    }

    /// A relay follows the feed from this address.
    pub(super) fn remember_relay(&self, from: IpAddr) {
        let from = from.to_canonical();
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        relays.retain(|known| *known != from);
        relays.push_back(from);
        if relays.len() > RELAYS {
            relays.pop_front();
        }
    }

    fn as_stranger(&self, from: IpAddr) -> Option<Place> {
        let permit = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        Some(Place { permit, share: Some(self.share(from)?) })
    }

    fn as_relay(&self, from: IpAddr) -> Option<Place> {
        if !self.relays.lock().unwrap_or_else(PoisonError::into_inner).contains(&from.to_canonical()) {
            return None;
        }
        let permit = Arc::clone(&self.reserve).try_acquire_owned().ok()?;
        let seat = self.reserved.connect(from, self.shares.reserve_per_address)?;
        Some(Place { permit, share: Some(Share(seat, None)) })
    }
}

/// The /48 of an address.
fn network(address: Ipv6Addr) -> IpAddr {
    Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Shares =
        Shares { total: 6, per_address: 2, per_network: 3, reserve: 2, reserve_per_address: 1 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_room_for_the_others_and_gets_its_share_back() {
        let places = Places::new(FEW);
        let connect = |from: &str| places.connect(address(from));
        let first = connect("192.0.2.1").unwrap();
        let _second = connect("::ffff:192.0.2.1").unwrap();
        assert!(connect("192.0.2.1").is_none());
        let _other = connect("192.0.2.2").unwrap();
        drop(first);
        assert!(connect("192.0.2.1").is_some());
    }

    #[test]
    fn an_ipv6_customer_has_one_share_however_many_networks_it_has() {
        let places = Places::new(FEW);
        let connect = |from: &str| places.connect(address(from));
        let _one = connect("2001:db8:0:1::1").unwrap();
        let _two = connect("2001:db8:0:1::2").unwrap();
        assert!(connect("2001:db8:0:1::3").is_none(), "of one /64");
        let three = connect("2001:db8:0:2::1").unwrap();
        assert!(connect("2001:db8:0:3::1").is_none(), "of one /48");
        let _neighbour = connect("2001:db8:1::1").unwrap();
        drop(three);
        assert!(connect("2001:db8:0:3::1").is_some());
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let places = Places::new(FEW);
        let held: Vec<_> =
            ["192.0.2.1", "192.0.2.1"].map(|from| places.connect(address(from)).unwrap()).into();
        for _ in 0..20 {
            assert!(places.connect(address("192.0.2.1")).is_none());
        }
        let _others: Vec<_> =
            (2..6).map(|last| places.connect(IpAddr::from([192, 0, 2, last])).unwrap()).collect();
        assert!(places.connect(address("192.0.2.9")).is_none(), "all are taken");
        drop(held);
        assert!(places.connect(address("192.0.2.9")).is_some());
    }

    #[test]
    fn a_known_relay_comes_back_through_a_crowd() {
        let places = Places::new(FEW);
        let (relay, stranger) = (address("198.51.100.1"), address("198.51.100.2"));
        places.remember_relay(relay);
        let crowd: Vec<_> =
            (1..=6).map(|last| places.connect(IpAddr::from([192, 0, 2, last])).unwrap()).collect();
        assert!(places.connect(stranger).is_none());
        let back = places.connect(relay).unwrap();
        assert!(places.connect(relay).is_none(), "it has a share of the reserve only");
        drop(back);
        drop(crowd);
        assert!(places.connect(stranger).is_some());
    }

    #[test]
    fn only_the_latest_relays_are_remembered() {
        let places = Places::new(Shares { total: 0, ..FEW });
        let relay = |number: u16| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        for number in 0..=RELAYS as u16 {
            places.remember_relay(relay(number));
            places.remember_relay(relay(number));
        }
        assert!(places.connect(relay(0)).is_none());
        assert!(places.connect(relay(1)).is_some());
    }

    #[test]
    fn a_proxy_has_no_share_of_its_own_but_its_senders_have() {
        let places = Places::new(FEW);
        let _lines: Vec<_> = (0..6).map(|_| places.connect_proxy().unwrap()).collect();
        assert!(places.connect_proxy().is_none());
        let sender = address("192.0.2.1");
        let _under_way = [places.share(sender).unwrap(), places.share(sender).unwrap()];
        assert!(places.share(sender).is_none());
        assert!(places.share(address("192.0.2.2")).is_some());
    }
}
