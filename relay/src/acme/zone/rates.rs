//! How often an address is answered over UDP, where anybody can ask in its name: pure bookkeeping.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::Length;
use crate::ingress::owner;

/// Questions of one address (IPv6: of one /64) that are answered in a second. An authority asks a few for an order.
const RATE: u32 = 20;

/// Addresses that are told apart in a second. Whoever comes beyond that is led to TCP.
const ADDRESSES: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Rates {
    since: Option<Instant>,
    asked: HashMap<IpAddr, u32>,
}

impl Rates {
    /// What a question from there is worth. Beyond the rate every second one is led to TCP, in as many bytes as it has
    /// itself, so that who is asked for by others still gets through; the rest is not answered.
    pub(super) fn ask(&mut self, from: IpAddr, now: Instant) -> Option<Length> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            self.since = Some(now);
            self.asked.clear();
        }
        let (from, full) = (owner(from), self.asked.len() >= ADDRESSES);
        if full && !self.asked.contains_key(&from) {
            return Some(Length::Nothing);
        }
        let asked = self.asked.entry(from).or_default();
        *asked = asked.saturating_add(1);
        match *asked {
            ..=RATE => Some(Length::Whole),
            beyond => beyond.is_multiple_of(2).then_some(Length::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn beyond_its_rate_an_address_is_led_to_tcp_half_of_the_time_until_the_second_is_over() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for _ in 0..RATE {
            assert_eq!(rates.ask(address(1), now), Some(Length::Whole));
        }
        let beyond: Vec<_> = (0..100).filter_map(|_| rates.ask(address(1), now)).collect();
        assert_eq!(beyond, [Length::Nothing; 50]);
        assert_eq!(rates.ask(address(2), now), Some(Length::Whole));
        assert_eq!(rates.ask(address(1), now + Duration::from_secs(1)), Some(Length::Whole));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        for _ in 0..RATE {
            rates.ask("2001:db8::1".parse().unwrap(), now);
        }
        assert_ne!(rates.ask("2001:db8::2".parse().unwrap(), now), Some(Length::Whole));
        assert_eq!(rates.ask("2001:db8:0:1::2".parse().unwrap(), now), Some(Length::Whole));
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_room() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let asked: Vec<_> = (0..10_000).map(|number| rates.ask(address(number), now)).collect();
        assert!(asked[..ADDRESSES].iter().all(|asked| *asked == Some(Length::Whole)));
        assert!(asked[ADDRESSES..].iter().all(|asked| *asked == Some(Length::Nothing)));
        assert_eq!(rates.asked.len(), ADDRESSES);
        assert_eq!(rates.ask(address(0), now), Some(Length::Whole), "who was there before goes on");
    }
}
