//! How much of a file is asked for at once. The connection is shared with what is said, which must not wait behind a file:
//! what is on its way is as little as keeps the path busy, and one piece where that takes long.

use std::time::Duration;

/// Pieces asked for at once, at most.
const MOST: usize = 16;
/// A piece that comes sooner leaves room for one more,
const SHORT: Duration = Duration::from_millis(250);
/// and one that takes longer for half as many.
const LONG: Duration = Duration::from_millis(750);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    window: usize,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { window: 1 }
    }

    /// How many pieces may be under way.
    pub(crate) const fn window(&self) -> usize {
        self.window
    }

    /// A piece has come, this long after it was asked for.
    pub(crate) fn arrived(&mut self, took: Duration) {
        if took < SHORT {
            self.window = (self.window + 1).min(MOST);
        } else if took > LONG {
            self.window = (self.window / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_path_is_filled_and_a_slow_one_carries_one_piece_at_a_time() {
        let mut pace = Pace::new();
        assert_eq!(pace.window(), 1);
        (0..100).for_each(|_| pace.arrived(Duration::from_millis(3)));
        assert_eq!(pace.window(), MOST);
        (0..10).for_each(|_| pace.arrived(Duration::from_secs(2)));
        assert_eq!(pace.window(), 1);
        // A path of 1 Mbit/s: 2.1 s for each piece, however many are asked for.
        let mut longest = 0;
        for _ in 0..50 {
            pace.arrived(Duration::from_millis(2_100) * u32::try_from(pace.window()).unwrap());
            longest = longest.max(pace.window());
        }
        assert_eq!(longest, 1);
    }

    #[test]
    fn what_takes_neither_long_nor_short_changes_nothing() {
        let mut pace = Pace::new();
        (0..3).for_each(|_| pace.arrived(Duration::ZERO));
        (0..100).for_each(|_| pace.arrived(Duration::from_millis(500)));
        assert_eq!(pace.window(), 4);
    }
}
