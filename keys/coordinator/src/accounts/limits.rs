//! How often a sign-in may be tried, in memory that does not grow.
//!
//! Attempts are counted before the password is hashed, by account with address, by account and by address.

use std::net::IpAddr;

use crate::sketch::{Limit, RetryAfter, Sketch};

/// Tries for one account from one address, and for how long they count, in seconds.
const PAIR: Limit = Limit { tries: 5, window: 300 };
/// Tries for one account from anywhere: higher, so that a stranger does not easily lock its owner out.
const ACCOUNT: Limit = Limit { tries: 50, window: 900 };
/// Tries from one address for any account.
const ADDRESS: Limit = Limit { tries: 30, window: 900 };

/// Codes and links that fit nothing, from one address.
const WRONG_CODES: Limit = Limit { tries: 30, window: 900 };
/// Sign-ins at a provider that one address may begin: each is a row until it ends.
const START: Limit = Limit { tries: 60, window: 300 };

/// The counters of all sign-ins.
#[derive(Debug)]
pub(crate) struct Attempts {
    by_pair: Sketch,
    by_account: Sketch,
    by_address: Sketch,
    wrong_codes: Sketch,
    starts: Sketch,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            by_pair: Sketch::new(PAIR),
            by_account: Sketch::new(ACCOUNT),
            by_address: Sketch::new(ADDRESS),
            wrong_codes: Sketch::new(WRONG_CODES),
            starts: Sketch::new(START),
        }
    }

    /// Counts one try, unless it is one too many.
    pub(crate) fn admit(
        &mut self,
        account: &str,
        address: Option<IpAddr>,
        now: u64,
    ) -> Result<(), RetryAfter> {
        let address = network(address);
        self.by_pair.check(&(account, address), now)?;
        self.by_account.check(&account, now)?;
        self.by_address.check(&address, now)?;
        self.by_pair.add(&(account, address), now, 1);
        self.by_account.add(&account, now, 1);
        self.by_address.add(&address, now, 1);
        Ok(())
    }

    /// Counts a code that fits nothing, unless its address has shown too many. A code is looked up before it is counted:
    /// nobody guesses 60 random bits, so that whoever has the right one need not be kept out by what others tried.
    pub(crate) fn wrong_code(&mut self, address: Option<IpAddr>, now: u64) -> Result<(), RetryAfter> {
        self.wrong_codes.admit(&network(address), now)
    }

    /// Counts one more sign-in that begins at a provider.
    pub(crate) fn admit_start(&mut self, address: Option<IpAddr>, now: u64) -> Result<(), RetryAfter> {
        self.starts.admit(&network(address), now)
    }

    /// Takes the counted try back: the password was right.
    pub(crate) fn succeed(&mut self, account: &str, address: Option<IpAddr>, now: u64) {
        let address = network(address);
        self.by_pair.add(&(account, address), now, -1);
        self.by_account.add(&account, now, -1);
        self.by_address.add(&address, now, -1);
    }
}

/// Somebody with IPv6 usually has a whole /64 to try from.
fn network(address: Option<IpAddr>) -> u128 {
    match address.map(|address| address.to_canonical()) {
        None => 0,
        Some(IpAddr::V4(address)) => u128::from(u32::from(address)) | 1 << 64,
        Some(IpAddr::V6(address)) => u128::from(address) >> 64 | 1 << 65,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn address(last: u8) -> Option<IpAddr> {
        format!("192.0.2.{last}").parse().ok()
    }

    fn fail(attempts: &mut Attempts, account: &str, from: Option<IpAddr>, times: u32, now: u64) -> u32 {
        (0..times).filter(|_| attempts.admit(account, from, now).is_ok()).count() as u32
    }

    #[test]
    fn five_tries_then_a_wait_then_five_more() {
        let mut attempts = Attempts::new();
        assert_eq!(fail(&mut attempts, "a@b", address(1), 20, NOW), PAIR.tries);
        assert_eq!(attempts.admit("a@b", address(1), NOW + 100), Err(RetryAfter(200)));
        assert_eq!(fail(&mut attempts, "a@b", address(1), 20, NOW + PAIR.window), PAIR.tries);
    }

    #[test]
    fn a_stranger_does_not_lock_out_the_owner_at_another_address() {
        let mut attempts = Attempts::new();
        fail(&mut attempts, "a@b", address(1), 100, NOW);
        assert_eq!(attempts.admit("a@b", address(2), NOW), Ok(()));
    }

    #[test]
    fn many_addresses_share_the_limit_of_the_account() {
        let mut attempts = Attempts::new();
        let let_in: u32 = (0..40).map(|last| fail(&mut attempts, "a@b", address(last), 3, NOW)).sum();
        assert_eq!(let_in, ACCOUNT.tries);
    }

    #[test]
    fn one_address_cannot_try_every_account() {
        let mut attempts = Attempts::new();
        let names: Vec<String> = (0..100).map(|number| format!("{number}@b")).collect();
        let let_in = names.iter().filter(|name| attempts.admit(name, address(1), NOW).is_ok()).count();
        assert_eq!(let_in, ADDRESS.tries as usize);
    }

    #[test]
    fn the_neighbours_in_a_64_are_one_address() {
        let mut attempts = Attempts::new();
        for host in 0..PAIR.tries {
            let from = format!("2001:db8::{host:x}").parse().ok();
            assert_eq!(attempts.admit("a@b", from, NOW), Ok(()));
        }
        assert!(attempts.admit("a@b", "2001:db8::ffff".parse().ok(), NOW).is_err());
        assert!(attempts.admit("a@b", "2001:db8:0:1::1".parse().ok(), NOW).is_ok());
        // The same IPv4 address, written both ways.
        fail(&mut attempts, "c@d", "192.0.2.9".parse().ok(), PAIR.tries, NOW);
        assert!(attempts.admit("c@d", "::ffff:192.0.2.9".parse().ok(), NOW).is_err());
    }

    #[test]
    fn success_costs_nothing() {
        let mut attempts = Attempts::new();
        for _ in 0..1000 {
            attempts.admit("a@b", address(1), NOW).unwrap();
            attempts.succeed("a@b", address(1), NOW);
        }
    }

    #[test]
    fn a_clock_set_back_frees_rather_than_locks() {
        let mut attempts = Attempts::new();
        fail(&mut attempts, "a@b", address(1), 20, NOW);
        assert_eq!(attempts.admit("a@b", address(1), NOW - 3600), Ok(()));
    }
}
