//! When to try again.

use std::time::Duration;

/// First pause. The first try after a loss comes without one.
const FIRST: Duration = Duration::from_millis(100);

/// Longest pause while a loss is young. A relay that restarts has its nodes back within a second of listening.
const SHORT_CAP: Duration = Duration::from_millis(800);

/// Longest pause at all: an hour after a loss, nobody counts seconds.
const LONG_CAP: Duration = Duration::from_secs(15);

/// The longest pause grows with the time of the loss, divided by this: above [`SHORT_CAP`] from the third minute on,
/// [`LONG_CAP`] after 50 minutes.
const AGE: u32 = 200;

/// How long to wait before try `attempt`, counted from 0, of something that has been down for `down`.
///
/// `jitter` is random over its whole range and takes away up to half, so that nodes which lost the same relay do not
/// come back in step.
pub(crate) fn delay(attempt: u32, down: Duration, jitter: u32) -> Duration {
    let Some(doublings) = attempt.checked_sub(1) else {
        return Duration::ZERO;
    };
    let cap = (down / AGE).clamp(SHORT_CAP, LONG_CAP);
    let longest = FIRST.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(cap);
    longest - (longest / 2).mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_try_is_at_once() {
        assert_eq!(delay(0, Duration::ZERO, u32::MAX), Duration::ZERO);
        assert_eq!(delay(0, 60 * MINUTE, 0), Duration::ZERO);
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        let pauses: Vec<_> = (1..7).map(|attempt| delay(attempt, Duration::ZERO, 0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 800, 800]);
    }

    #[test]
    fn an_old_loss_is_tried_less_often() {
        assert_eq!(delay(99, 2 * MINUTE, 0), SHORT_CAP);
        assert_eq!(delay(99, 10 * MINUTE, 0), Duration::from_secs(3));
        assert_eq!(delay(99, 24 * 60 * MINUTE, 0), LONG_CAP);
    }

    #[test]
    fn jitter_takes_at_most_half() {
        assert_eq!(delay(4, Duration::ZERO, u32::MAX), SHORT_CAP / 2);
    }

    proptest! {
        #[test]
        fn always_between_half_and_all_of_the_cap(attempt in 1u32.., down in 0u64..1 << 40, jitter: u32) {
            let down = Duration::from_secs(down);
            let pause = delay(attempt, down, jitter);
            prop_assert!(pause >= FIRST / 2 && pause <= LONG_CAP);
            if down < 2 * MINUTE {
                prop_assert!(pause <= SHORT_CAP);
            }
        }

        #[test]
        fn never_shorter_for_a_later_try(attempt in 0u32..1000, down in 0u64..100_000, jitter: u32) {
            let down = Duration::from_secs(down);
            prop_assert!(delay(attempt, down, jitter) <= delay(attempt + 1, down, jitter));
        }
    }
}
