//! Amounts as people read them.

/// Whole cents as dollars.
pub(crate) fn dollars(cents: u64) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// Cents with their fractions, as dollars; what is less than a cent with as many digits as it needs.
pub(crate) fn exact(cents: f64) -> String {
    let dollars = cents / 100.0;
    match cents.abs() {
        0.0 => "$0.00".to_owned(),
        small if small < 1.0 => format!("${dollars:.6}"),
        _ => format!("${dollars:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_dollars() {
        assert_eq!([0, 5, 5000, 123_456].map(dollars), ["$0.00", "$0.05", "$50.00", "$1234.56"]);
        assert_eq!([0.0, 0.305_176, 250.4].map(exact), ["$0.00", "$0.003052", "$2.50"]);
    }
}
