//! How often passwords may be guessed, in memory that does not grow.
//!
//! Counted before a password is hashed: by tunnel with address, by address, and by tunnel, so that neither a few nor
//! many addresses get far with one password, nor one address with many. A right password is not counted.

use std::net::IpAddr;

use mytunnel_keys::{
    id::TunnelId,
    sketch::{Limit, RetryAfter, Sketch},
};

/// Guesses at one tunnel from one address, and for how many seconds they count.
const PAIR: Limit = Limit { tries: 10, window: 300 };
/// Guesses from one address at any tunnel.
const ADDRESS: Limit = Limit { tries: 60, window: 300 };
/// Guesses at one tunnel from anywhere. High, because it keeps out whoever comes for the first time; it bounds the
/// work that one tunnel can make to a small part of one core.
const TUNNEL: Limit = Limit { tries: 600, window: 300 };

/// Too many guesses; come back after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) u64);

impl From<RetryAfter> for TooMany {
    fn from(RetryAfter(seconds): RetryAfter) -> Self {
        Self(seconds)
    }
}

/// The counters of all tunnels.
#[derive(Debug)]
pub(super) struct Guesses {
    by_pair: Sketch,
    by_address: Sketch,
    by_tunnel: Sketch,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { by_pair: Sketch::new(PAIR), by_address: Sketch::new(ADDRESS), by_tunnel: Sketch::new(TUNNEL) }
    }
}

impl Guesses {
    /// Counts one guess, unless it is one too many.
    pub(super) fn count(&mut self, tunnel: &TunnelId, address: IpAddr, now: u64) -> Result<(), TooMany> {
        let address = network(address);
        self.by_pair.check(&(tunnel, address), now)?;
        self.by_address.check(&address, now)?;
        self.by_tunnel.check(tunnel, now)?;
        self.add(tunnel, address, now, 1);
        Ok(())
    }

    /// Takes a counted guess back: it was right.
    pub(super) fn forgive(&mut self, tunnel: &TunnelId, address: IpAddr, now: u64) {
        self.add(tunnel, network(address), now, -1);
    }

    fn add(&mut self, tunnel: &TunnelId, address: IpAddr, now: u64, change: i32) {
        self.by_pair.add(&(tunnel, address), now, change);
        self.by_address.add(&address, now, change);
        self.by_tunnel.add(tunnel, now, change);
    }
}

/// Somebody with IPv6 usually has a whole /64 to guess from.
fn network(address: IpAddr) -> IpAddr {
    crate::ingress::owner(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(number: u8) -> TunnelId {
        TunnelId::from_bytes([number; 16])
    }

    fn address(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        [192, 0, high, low].into()
    }

    fn guess(guesses: &mut Guesses, at: u8, from: IpAddr, times: u32, now: u64) -> u32 {
        (0..times).filter(|_| guesses.count(&tunnel(at), from, now).is_ok()).count() as u32
    }

    #[test]
    fn an_address_has_ten_guesses_at_a_tunnel_and_then_waits() {
        let mut guesses = Guesses::default();
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1000), PAIR.tries);
        assert_eq!(guesses.count(&tunnel(1), address(1), 1100), Err(TooMany(200)));
        assert_eq!(guess(&mut guesses, 1, address(2), 1, 1100), 1, "another address is not kept out");
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1300), PAIR.tries);
    }

    #[test]
    fn one_address_cannot_try_every_tunnel_nor_every_address_one_tunnel() {
        let mut guesses = Guesses::default();
        let one: u32 = (0..100).map(|at| guess(&mut guesses, at, address(1), 1, 1000)).sum();
        assert_eq!(one, ADDRESS.tries);
        let mut guesses = Guesses::default();
        let many: u32 = (0..1000).map(|from| guess(&mut guesses, 1, address(from), 1, 1000)).sum();
        assert_eq!(many, TUNNEL.tries);
    }

    #[test]
    fn the_neighbours_in_a_64_are_one_address() {
        let mut guesses = Guesses::default();
        let from = |host: u32| format!("2001:db8::{host:x}").parse().unwrap();
        let let_in: u32 = (1..100).map(|host| guess(&mut guesses, 1, from(host), 1, 1000)).sum();
        assert_eq!(let_in, PAIR.tries);
        assert_eq!(guess(&mut guesses, 1, "2001:db8:0:1::1".parse().unwrap(), 1, 1000), 1);
    }

    #[test]
    fn right_ones_cost_nothing() {
        let mut guesses = Guesses::default();
        for _ in 0..1000 {
            guesses.count(&tunnel(1), address(1), 1000).unwrap();
            guesses.forgive(&tunnel(1), address(1), 1000);
        }
    }
}
