//! What an operator charges for use, which budgets of keys are made of.

use std::fmt;
use std::str::FromStr;

use mytunnel_keys::usage::{MICRO, Prices};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// `[prices]` of `relay.toml`, in US cents. What is left out has its default.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PricesFile {
    /// A GiB, in either direction: 5.
    pub(crate) gib: Option<Cents>,
    /// A million requests: 0.
    pub(crate) million_requests: Option<Cents>,
    /// A tunnel that is up for an hour: 1.
    pub(crate) tunnel_hour: Option<Cents>,
}

impl PricesFile {
    /// The prices, with what is set here.
    pub(crate) fn prices(&self) -> Prices {
        let mut prices = Prices::default();
        for (price, set) in [
            (&mut prices.gib, self.gib),
            (&mut prices.million_requests, self.million_requests),
            (&mut prices.tunnel_hour, self.tunnel_hour),
        ] {
            if let Some(Cents(micro)) = set {
                *price = micro;
            }
        }
        prices
    }
}

/// Cents with up to six decimals, as micro-cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cents(u64);

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Cents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a price of 0 to {} cents", Prices::MAX / MICRO)
            }

            fn visit_i64<E: Error>(self, cents: i64) -> Result<Cents, E> {
                let micro = u64::try_from(cents).ok().and_then(|cents| cents.checked_mul(MICRO));
                micro.and_then(within).ok_or_else(|| E::custom(TOO_MUCH))
            }

            fn visit_f64<E: Error>(self, cents: f64) -> Result<Cents, E> {
                fraction(cents).ok_or_else(|| E::custom(TOO_MUCH))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl FromStr for Cents {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(fraction).ok_or(TOO_MUCH)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "it is looked at before that it is a small number"
)]
fn fraction(cents: f64) -> Option<Cents> {
    let micro = (cents * MICRO as f64).round();
    (0.0..=Prices::MAX as f64).contains(&micro).then_some(Cents(micro as u64))
}

const TOO_MUCH: &str = "a price is 0 to 1000000 cents";

fn within(micro: u64) -> Option<Cents> {
    (micro <= Prices::MAX).then_some(Cents(micro))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Prices, String> {
        toml::from_str::<PricesFile>(text).map(|file| file.prices()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_set_replaces_the_default_and_the_rest_stays() {
        assert_eq!(of(""), Ok(Prices::default()));
        assert_eq!(
            of("gib = 8.5\ntunnel_hour = 0"),
            Ok(Prices { gib: 8_500_000, million_requests: 0, tunnel_hour: 0 })
        );
        assert_eq!(of("million_requests = 0.000001").unwrap().million_requests, 1);
        assert_eq!(of("gib = 1000000").unwrap().gib, Prices::MAX);
    }

    #[test]
    fn what_is_no_price_is_refused() {
        assert_eq!("0.5".parse(), Ok(Cents(MICRO / 2)));
        assert!(
            "-1".parse::<Cents>().is_err()
                && "x".parse::<Cents>().is_err()
                && "NaN".parse::<Cents>().is_err()
        );
        for bad in
            ["gib = -1", "gib = 1000001", "gib = inf", "gib = nan", "gib = '5'", "gb = 5", "gib = -0.1"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
