//! Units, and what they cost.

use serde::{Deserialize, Serialize};

/// Micro-cents in a cent. Money is whole micro-cents everywhere inside.
pub const MICRO: u64 = 1_000_000;

/// What was used. Only ever growing, where it is a total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes from visitors to nodes.
    pub bytes_in: u64,
    /// Bytes from nodes to visitors.
    pub bytes_out: u64,
    /// Requests that were given to nodes.
    pub requests: u64,
    /// Seconds that tunnels were up, each counted by itself.
    pub tunnel_seconds: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            requests: self.requests.saturating_add(other.requests),
            tunnel_seconds: self.tunnel_seconds.saturating_add(other.tunnel_seconds),
        }
    }

    /// What this is more than an earlier total; nothing where it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            requests: self.requests.saturating_sub(earlier.requests),
            tunnel_seconds: self.tunnel_seconds.saturating_sub(earlier.tunnel_seconds),
        }
    }

    /// Whether nothing was used.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What each unit costs, in micro-cents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// A GiB, in either direction.
    pub gib: u64,
    /// A million requests.
    pub million_requests: u64,
    /// A tunnel that is up for an hour.
    pub tunnel_hour: u64,
}

impl Prices {
    /// The highest price of anything: $10,000.
    pub const MAX: u64 = 1_000_000 * MICRO;

    /// What a total has cost. The cost of what a total has grown by is the difference of two of these, so that nothing
    /// is lost by rounding however often it is told.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let bytes = u128::from(usage.bytes_in) + u128::from(usage.bytes_out);
        let of = |units: u128, price: u64, per: u128| units * u128::from(price) / per;
        let cost = of(bytes, self.gib, 1 << 30)
            + of(usage.requests.into(), self.million_requests, 1_000_000)
            + of(usage.tunnel_seconds.into(), self.tunnel_hour, 3600);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

impl Default for Prices {
    /// 5 cents a GiB, nothing for requests, 1 cent for a tunnel and hour: so that a budget means something on a server
    /// of one's own.
    fn default() -> Self {
        Self { gib: 5 * MICRO, million_requests: 0, tunnel_hour: MICRO }
    }
}

/// Prices with their number: what was counted under one list keeps its cost when there is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceList {
    /// The number; 0 of one that was never told.
    pub version: u64,
    /// The prices.
    pub prices: Prices,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_units_have_their_prices() {
        let prices = Prices { gib: 5 * MICRO, million_requests: 100 * MICRO, tunnel_hour: MICRO };
        let of = |usage| prices.cost(&usage);
        assert_eq!(of(Usage { bytes_in: 1 << 30, ..Usage::default() }), 5 * MICRO);
        assert_eq!(of(Usage { bytes_out: 1 << 29, ..Usage::default() }), 5 * MICRO / 2);
        assert_eq!(of(Usage { requests: 10, ..Usage::default() }), 1000);
        assert_eq!(of(Usage { tunnel_seconds: 7200, ..Usage::default() }), 2 * MICRO);
        assert_eq!(of(Usage { bytes_in: u64::MAX, ..Usage::default() }), 85_899_345_919_999_999);
        let dear = Prices { gib: Prices::MAX, ..prices };
        assert_eq!(
            dear.cost(&Usage { bytes_in: u64::MAX, bytes_out: u64::MAX, ..Usage::default() }),
            u64::MAX
        );
    }

    proptest! {
        /// However a total comes about, it costs the same.
        #[test]
        fn nothing_is_lost_by_rounding(steps in prop::collection::vec((0..5000_u64, 0..3_u64, 0..2_u64), 0..200)) {
            let prices = Prices { gib: 7_654_321, million_requests: 123_456_789, tunnel_hour: 1_000_001 };
            let (mut total, mut sum) = (Usage::default(), 0);
            for (bytes_in, requests, tunnel_seconds) in steps {
                let next = total.plus(Usage { bytes_in, bytes_out: bytes_in / 2, requests, tunnel_seconds });
                sum += prices.cost(&next) - prices.cost(&total);
                total = next;
            }
            prop_assert_eq!(sum, prices.cost(&total));
        }
    }
}
