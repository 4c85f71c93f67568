//! How recent the relay's knowledge of revocations is, and whether its clock can be believed.

use std::time::{Duration, Instant};

use super::Now;

/// Offset of the wall clock against the coordinator's from which the relay believes no certificate's time.
const MAX_OFFSET: Duration = Duration::from_secs(60);

/// What the feed has said, and when.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    last: Option<Instant>,
    offset: Option<i64>,
}

/// Why the relay cannot vouch for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Blind {
    #[error("this relay has not heard from its coordinator yet")]
    Never,
    #[error("this relay has not heard from its coordinator for {} s", .0.as_secs())]
    Since(Duration),
    #[error("this relay's clock is {0} s off its coordinator's")]
    Clock(u64),
}

impl Freshness {
    /// The feed has spoken, and this is all that there was to know at this moment.
    pub(super) fn renew(&mut self, now: Now) {
        self.last = Some(now.instant);
    }

    /// The feed has told by how many seconds the coordinator's clock is ahead.
    pub(super) fn set_offset(&mut self, offset: i64) {
        self.offset = Some(offset);
    }

    pub(super) fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// When the feed spoke last.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// Whether the news is recent enough for someone who allows this much staleness.
    pub(super) fn vouches(&self, max: Duration, now: Now) -> Result<(), Blind> {
        if let Some(offset) =
            self.offset.map(i64::unsigned_abs).filter(|offset| *offset > MAX_OFFSET.as_secs())
        {
            return Err(Blind::Clock(offset));
        }
        let last = self.last.ok_or(Blind::Never)?;
        let silent = now.instant.saturating_duration_since(last);
        if silent > max { Err(Blind::Since(silent)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(start: Instant, seconds: u64) -> Now {
        Now { instant: start + Duration::from_secs(seconds), unix: Duration::from_secs(1000 + seconds) }
    }

    #[test]
    fn vouches_for_as_long_as_the_asker_allows() {
        let (start, mut freshness) = (Instant::now(), Freshness::default());
        assert_eq!(freshness.vouches(MINUTE, at(start, 0)), Err(Blind::Never));

        freshness.renew(at(start, 5));
        assert_eq!(freshness.vouches(MINUTE, at(start, 65)), Ok(()));
        assert_eq!(freshness.vouches(MINUTE, at(start, 66)), Err(Blind::Since(Duration::from_secs(61))));
        assert_eq!(freshness.vouches(MINUTE * 60, at(start, 66)), Ok(()));

        freshness.renew(at(start, 100));
        assert_eq!(freshness.vouches(MINUTE, at(start, 101)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_off_vouches_for_nothing_until_it_is_right() {
        let (start, mut freshness) = (Instant::now(), Freshness::default());
        freshness.renew(at(start, 0));
        freshness.set_offset(60);
        assert_eq!(freshness.vouches(MINUTE, at(start, 0)), Ok(()));
        freshness.set_offset(-61);
        assert_eq!(freshness.vouches(MINUTE, at(start, 0)), Err(Blind::Clock(61)));
        freshness.set_offset(i64::MIN);
        assert!(freshness.vouches(MINUTE, at(start, 0)).is_err());
        freshness.set_offset(1);
        assert_eq!(freshness.vouches(MINUTE, at(start, 0)), Ok(()));
    }
}
