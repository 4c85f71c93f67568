//! How often passwords may be guessed, in memory that does not grow.
//!
//! Counted before a password is hashed: by tunnel with address, by address, and by tunnel, so that neither a few nor
//! many addresses get far with one password, nor one address with many. A right password is not counted. What was right
//! before is let through without being counted, where nobody of the same network guesses without end.

mod known;

use std::net::IpAddr;

use mytunnel_keys::{
    id::TunnelId,
    sketch::{Limit, RetryAfter, Sketch},
};

use self::known::Known;

/// How many guesses there are at secrets of one kind.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// At one tunnel from one address, and for how many seconds they count.
    pair: Limit,
    /// From one address at any tunnel.
    address: Limit,
    /// The same over a longer time.
    long_pair: Limit,
    /// Refused ones at one tunnel from one address where something was right, from which on that is refused, too.
    refused: Limit,
    /// At one tunnel from anywhere. It keeps out whoever comes for the first time.
    tunnel: Limit,
}

/// Passwords and tokens are long: the last of these is high, and only bounds the work that one tunnel can make to a small
/// part of one core.
const LONG: Limits = Limits {
    pair: Limit { tries: 10, window: 300 },
    long_pair: Limit { tries: 120, window: 3600 },
    refused: Limit { tries: 100, window: 300 },
    address: Limit { tries: 60, window: 300 },
    tunnel: Limit { tries: 600, window: 300 },
};
/// Numbers of six digits are few. A thousand addresses, too, have a chance of one in 800 in a day; meanwhile nobody gets in
/// who has not been in before. It takes five networks to bring that about, and another number ends it.
const SHORT: Limits = Limits {
    pair: Limit { tries: 5, window: 60 },
    long_pair: Limit { tries: 10, window: 3600 },
    refused: Limit { tries: 100, window: 300 },
    address: Limit { tries: 30, window: 300 },
    tunnel: Limit { tries: 50, window: 3600 },
};

/// Too many guesses; come back after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) u64);

impl From<RetryAfter> for TooMany {
    fn from(RetryAfter(seconds): RetryAfter) -> Self {
        Self(seconds)
    }
}

/// A tunnel, and which setting of its gate: guesses at an earlier one are no guesses at this.
pub(super) type At = (TunnelId, u64);

/// The counters of all tunnels.
#[derive(Debug)]
pub(super) struct Guesses {
    by_pair: Sketch,
    by_long_pair: Sketch,
    known: Known,
    by_address: Sketch,
    by_tunnel: Sketch,
}

impl Guesses {
    /// At passwords and tokens.
    pub(super) fn long() -> Self {
        Self::new(LONG)
    }

    /// At numbers of few digits.
    pub(super) fn short() -> Self {
        Self::new(SHORT)
    }

    fn new(limits: Limits) -> Self {
        Self {
            by_pair: Sketch::new(limits.pair),
            by_long_pair: Sketch::new(limits.long_pair),
            known: Known::new(limits.refused),
            by_address: Sketch::new(limits.address),
            by_tunnel: Sketch::new(limits.tunnel),
        }
    }

    /// Counts one guess, unless it is one too many.
    pub(super) fn count(&mut self, at: At, address: IpAddr, now: u64) -> Result<(), TooMany> {
        let address = network(address);
        let own = self.by_pair.check(&(at, address), now).and(self.by_long_pair.check(&(at, address), now));
        let checked = own.and(self.by_address.check(&address, now)).and(self.by_tunnel.check(&at, now));
        match checked {
            Ok(()) => self.add(at, address, now, 1),
            // Whichever limit it was: the next answer must not tell a right one from a wrong one for ever.
            Err(_) => self.known.refuse(&(at, address), now),
        }
        Ok(checked?)
    }

    /// Whether what was right before counts from this address; `false` if nothing is known to have been, and it is to be
    /// checked again. Beside somebody who guesses without end it does not count: the one that is let through would be the
    /// right one.
    pub(super) fn recall(&self, at: At, address: IpAddr, now: u64) -> Result<bool, TooMany> {
        Ok(self.known.recall(&(at, network(address)), now)?)
    }

    /// Something was right from this address, and is about to be kept.
    pub(super) fn note_right(&mut self, at: At, address: IpAddr) {
        self.known.note((at, network(address)));
    }

    /// Takes a counted guess back: it was right.
    pub(super) fn forgive(&mut self, at: At, address: IpAddr, now: u64) {
        self.add(at, network(address), now, -1);
    }

    fn add(&mut self, at: At, address: IpAddr, now: u64, change: i32) {
        self.by_pair.add(&(at, address), now, change);
        self.by_long_pair.add(&(at, address), now, change);
        self.by_address.add(&address, now, change);
        self.by_tunnel.add(&at, now, change);
    }
}

/// Somebody with IPv6 usually has a whole /64 to guess from.
fn network(address: IpAddr) -> IpAddr {
    crate::ingress::owner(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(number: u8) -> At {
        (TunnelId::from_bytes([number; 16]), 1)
    }

    fn address(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        [192, 0, high, low].into()
    }

    fn guess(guesses: &mut Guesses, at: u8, from: IpAddr, times: u32, now: u64) -> u32 {
        (0..times).filter(|_| guesses.count(tunnel(at), from, now).is_ok()).count() as u32
    }

    #[test]
    fn an_address_has_ten_guesses_at_a_tunnel_and_then_waits() {
        let mut guesses = Guesses::long();
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1000), LONG.pair.tries);
        assert_eq!(guesses.count(tunnel(1), address(1), 1100), Err(TooMany(200)));
        assert_eq!(guess(&mut guesses, 1, address(2), 1, 1100), 1, "another address is not kept out");
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1300), LONG.pair.tries);
    }

    #[test]
    fn one_address_cannot_try_every_tunnel_nor_every_address_one_tunnel() {
        let mut guesses = Guesses::long();
        let one: u32 = (0..100).map(|at| guess(&mut guesses, at, address(1), 1, 1000)).sum();
        assert_eq!(one, LONG.address.tries);
        let mut guesses = Guesses::long();
        let many: u32 = (0..1000).map(|from| guess(&mut guesses, 1, address(from), 1, 1000)).sum();
        assert_eq!(many, LONG.tunnel.tries);
    }

    #[test]
    fn the_neighbours_in_a_64_are_one_address() {
        let mut guesses = Guesses::long();
        let from = |host: u32| format!("2001:db8::{host:x}").parse().unwrap();
        let let_in: u32 = (1..100).map(|host| guess(&mut guesses, 1, from(host), 1, 1000)).sum();
        assert_eq!(let_in, LONG.pair.tries);
        assert_eq!(guess(&mut guesses, 1, "2001:db8:0:1::1".parse().unwrap(), 1, 1000), 1);
    }

    #[test]
    fn what_was_right_is_not_told_to_who_guesses_without_end() {
        let mut guesses = Guesses::long();
        for (at, from) in [(1, 1), (1, 2), (2, 1)] {
            guesses.note_right(tunnel(at), address(from));
        }
        guess(&mut guesses, 1, address(1), LONG.pair.tries + LONG.refused.tries - 1, 1000);
        assert_eq!(guesses.recall(tunnel(1), address(1), 1000), Ok(true));
        guess(&mut guesses, 1, address(1), 1, 1000);
        assert_eq!(guesses.recall(tunnel(1), address(1), 1100), Err(TooMany(200)));
        assert_eq!(guesses.recall(tunnel(1), address(2), 1100), Ok(true));
        assert_eq!(guesses.recall(tunnel(2), address(1), 1100), Ok(true));
        assert_eq!(guesses.recall(tunnel(1), address(1), 1300), Ok(true));
        assert_eq!(guesses.recall(tunnel(1), address(3), 1100), Ok(false), "nothing was right there");
    }

    #[test]
    fn whatever_limit_refuses_is_counted() {
        // One address that has spent its guesses elsewhere.
        let mut guesses = Guesses::long();
        guesses.note_right(tunnel(1), address(1));
        let spent: u32 = (2..8).map(|at| guess(&mut guesses, at, address(1), LONG.pair.tries, 1000)).sum();
        assert_eq!(spent, LONG.address.tries);
        assert_eq!(guess(&mut guesses, 1, address(1), LONG.refused.tries, 1000), 0);
        assert!(guesses.recall(tunnel(1), address(1), 1000).is_err());
        // A tunnel at which others have spent all.
        let mut guesses = Guesses::long();
        guesses.note_right(tunnel(1), address(1));
        let spent: u32 = (10..100).map(|from| guess(&mut guesses, 1, address(from), 10, 1000)).sum();
        assert_eq!(spent, LONG.tunnel.tries);
        assert_eq!(guess(&mut guesses, 1, address(1), LONG.refused.tries, 1000), 0);
        assert!(guesses.recall(tunnel(1), address(1), 1000).is_err());
    }

    #[test]
    fn a_flood_from_many_networks_shuts_out_nobody_who_was_right_elsewhere_or_there() {
        let mut guesses = Guesses::long();
        for from in 0..500 {
            guesses.note_right(tunnel(1), address(from));
            guesses.note_right(tunnel(2), address(from));
        }
        let each = LONG.pair.tries + LONG.refused.tries;
        for from in 1000..13_000 {
            guess(&mut guesses, 1, address(from), each, 1000);
        }
        let refused =
            |at| (0..500).filter(|from| guesses.recall(tunnel(at), address(*from), 1000) != Ok(true)).count();
        assert_eq!((refused(1), refused(2)), (0, 0));
    }

    #[test]
    fn right_ones_cost_nothing() {
        let mut guesses = Guesses::long();
        for _ in 0..1000 {
            guesses.count(tunnel(1), address(1), 1000).unwrap();
            guesses.forgive(tunnel(1), address(1), 1000);
        }
    }

    #[test]
    fn of_short_numbers_few_are_tried_from_anywhere() {
        let mut guesses = Guesses::short();
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1000), 5);
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1060), 5, "a minute later");
        assert_eq!(guess(&mut guesses, 1, address(1), 50, 1200), 0, "and no more in that hour");
        let newer = (tunnel(1).0, 2);
        assert!(guesses.count(newer, address(1), 1200).is_ok(), "another number is another matter");
        let mut guesses = Guesses::short();
        let many: u32 = (0..1000).map(|from| guess(&mut guesses, 1, address(from), 5, 1000)).sum();
        assert_eq!(many, SHORT.tunnel.tries);
        assert_eq!(guess(&mut guesses, 2, address(2000), 5, 1000), 5, "another tunnel is another matter");
        let a_day = f64::from(SHORT.tunnel.tries) * 24.0 / 1e6;
        assert!(a_day < 1.0 / 800.0, "{a_day}");
    }
}
