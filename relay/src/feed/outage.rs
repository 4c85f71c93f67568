//! What an operator is told while the coordinator is away: each condition once, not each attempt.

use std::time::{Duration, Instant};

use mytunnel_keys::{error::Code, feed::FeedError};

use super::Broken;
use crate::AuthorityError;

/// Silence after which a relay takes no new registration, for certificates with the usual patience.
const SOFT_STALENESS: Duration = Duration::from_secs(60);

/// The time without news, and what was said of it.
#[derive(Debug)]
pub(super) struct Outage {
    hard_staleness: Duration,
    /// When the coordinator was heard last, or the start.
    heard: Instant,
    trouble: Option<Trouble>,
    staleness: Staleness,
}

/// What is wrong, as far as it makes a difference to an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no connection, or nothing comes on it.
    Away,
    /// The coordinator refuses.
    Refused(Code),
    /// What answers is no coordinator.
    NotACoordinator,
    /// The coordinator knows less than this relay.
    Behind,
    /// The clocks do not agree.
    Clock,
    /// A frame is not valid.
    Frame,
    /// The relay cannot go on.
    Internal,
}

/// How much the relay still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Staleness {
    /// All of it.
    Fresh,
    /// It takes no new registration.
    Soft,
    /// It ends what it serves.
    Hard,
}

/// What is new, and worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) trouble: Option<Trouble>,
    pub(super) staleness: Option<Staleness>,
}

impl Outage {
    pub(super) fn new(hard_staleness: Duration, now: Instant) -> Self {
        Self { hard_staleness, heard: now, trouble: None, staleness: Staleness::Fresh }
    }

    /// The coordinator was heard. When it had been away, for how long.
    pub(super) fn heard(&mut self, now: Instant) -> Option<Duration> {
        let away = self.trouble.take().map(|_| now.saturating_duration_since(self.heard));
        self.staleness = Staleness::Fresh;
        self.heard = now;
        away
    }

    /// A subscription ended, or there was none.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Instant) -> Change {
        let staleness = self.staleness_at(now);
        let change = Change {
            trouble: (self.trouble != Some(trouble)).then_some(trouble),
            staleness: (self.staleness < staleness).then_some(staleness),
        };
        self.trouble = Some(trouble);
        self.staleness = staleness;
        change
    }

    fn staleness_at(&self, now: Instant) -> Staleness {
        let silent = now.saturating_duration_since(self.heard);
        match silent {
            _ if silent >= self.hard_staleness => Staleness::Hard,
            _ if silent >= SOFT_STALENESS => Staleness::Soft,
            _ => Staleness::Fresh,
        }
    }
}

impl Trouble {
    pub(super) fn of(broken: &Broken) -> Self {
        match broken {
            Broken::Authority(AuthorityError::Refused { code: Code::CoordinatorUnreachable, .. })
            | Broken::Authority(AuthorityError::Unreachable(_))
            | Broken::Silent(_)
            | Broken::Closed
            | Broken::Unheard => Self::Away,
            Broken::Authority(AuthorityError::Refused { code, .. }) => Self::Refused(*code),
            Broken::Authority(AuthorityError::Protocol(_)) => Self::NotACoordinator,
            Broken::Frame(FeedError::Rollback { .. } | FeedError::Fork(_) | FeedError::UnknownEra(_)) => {
                Self::Behind
            }
            Broken::Frame(FeedError::Clock(_)) => Self::Clock,
            Broken::Frame(_) => Self::Frame,
            Broken::NoListener | Broken::Random(_) => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARD: Duration = Duration::from_secs(900);

    #[test]
    fn each_condition_is_told_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::new(HARD, start);
        assert_eq!(outage.heard(at(100)), None);
        let mut told = Vec::new();
        for seconds in (100..2000).step_by(5) {
            let change = outage.failed(Trouble::Away, at(seconds));
            told.extend(change.trouble.map(|trouble| (seconds, format!("{trouble:?}"))));
            told.extend(change.staleness.map(|staleness| (seconds, format!("{staleness:?}"))));
        }
        let expected = [(100, "Away"), (160, "Soft"), (1000, "Hard")];
        assert_eq!(told, expected.map(|(seconds, what)| (seconds, what.to_owned())));
        assert_eq!(outage.heard(at(2000)), Some(Duration::from_secs(1900)));
        assert_eq!(outage.heard(at(2001)), None);
    }

    #[test]
    fn another_trouble_is_told_and_the_way_back_too() {
        let start = Instant::now();
        let mut outage = Outage::new(HARD, start);
        let mut told = |trouble| outage.failed(trouble, start).trouble;
        let refused = Trouble::Refused(Code::KeyRevoked);
        assert_eq!(told(Trouble::Away), Some(Trouble::Away));
        assert_eq!(told(refused), Some(refused));
        assert_eq!(told(refused), None);
        assert_eq!(told(Trouble::Away), Some(Trouble::Away));
        assert!(outage.heard(start).is_some());
        assert_eq!(outage.failed(Trouble::Away, start).trouble, Some(Trouble::Away));
    }

    #[test]
    fn what_looks_like_a_coordinator_that_is_down_is_one_trouble() {
        for broken in [
            Broken::Closed,
            Broken::Unheard,
            AuthorityError::Unreachable("refused".into()).into(),
            AuthorityError::Refused { code: Code::CoordinatorUnreachable, message: "502".into() }.into(),
        ] {
            assert_eq!(Trouble::of(&broken), Trouble::Away, "{broken}");
        }
        let revoked = AuthorityError::Refused { code: Code::KeyRevoked, message: "revoked".into() };
        assert_eq!(Trouble::of(&revoked.into()), Trouble::Refused(Code::KeyRevoked));
    }
}
