//! How long a visitor's connection may stay where it is: a pure function of its stage and times.

use std::time::Duration;

use super::limits::Limits;

/// What a connection is doing, in the order of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Nothing was received yet.
    Opened,
    /// Between two requests.
    Idle,
    /// A head has begun.
    Head,
    /// A request is with the service; no head of a response was sent.
    Waiting,
    /// A response is being sent.
    Responding,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] = [Self::Opened, Self::Idle, Self::Head, Self::Waiting, Self::Responding];
}

/// What happens when a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection is closed: nobody waits for an answer.
    Close,
    /// The service answers with a time-out page.
    Answer,
    /// The connection is aborted.
    Abort,
}

/// Why a visitor's connection, or an exchange on it, was cut short without a page that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its head did not come in time.
    Head,
    /// It took nothing of what waited for it.
    Stalled,
    /// It took what waited for it too slowly.
    Slow,
    /// It had closed its half, and nothing moved any more.
    HalfClosed,
    /// It answered no pings (HTTP/2).
    Silent,
}

impl Cut {
    pub(crate) const ALL: [Self; 5] = [Self::Head, Self::Stalled, Self::Slow, Self::HalfClosed, Self::Silent];

    /// As metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Stalled => "stalled",
            Self::Slow => "slow",
            Self::HalfClosed => "half_closed",
            Self::Silent => "silent",
        }
    }
}

/// Times of a connection in milliseconds since its start; zero stands for "not".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) stage: Stage,
    /// The stage's start, or its last progress.
    pub(crate) since: u64,
    /// Since when the visitor takes no bytes that wait for it, and when patience ends with its pace.
    pub(crate) stalled: u64,
    pub(crate) download: Option<u64>,
    /// When patience ends with a visitor that has closed its half.
    pub(crate) half: Option<u64>,
    /// When patience ends with an upload that the tunnel waits for.
    pub(crate) upload: Option<u64>,
}

impl Times {
    /// The next deadline and what it means; `None` while a response streams freely.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<(u64, Verdict)> {
        let after = |start: u64, patience: Duration| start.saturating_add(millis(patience));
        let stage = match self.stage {
            _ if self.stalled != 0 => {
                let stalled = after(self.stalled, limits.stall_timeout);
                Some((self.download.map_or(stalled, |download| stalled.min(download)), Verdict::Abort))
            }
            Stage::Opened | Stage::Head => Some((after(self.since, limits.head_timeout), Verdict::Close)),
            Stage::Idle => Some((after(self.since, limits.idle_timeout), Verdict::Close)),
            Stage::Waiting => Some((self.waiting(limits), Verdict::Answer)),
            Stage::Responding => None,
        };
        let half = self.half.map(|at| (at, Verdict::Abort));
        [stage, half].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What it is cut for if the next deadline passes; `None` where nobody loses anything, or is told so.
    pub(crate) fn cut(&self, limits: &Limits) -> Option<Cut> {
        let (at, verdict) = self.deadline(limits)?;
        match (verdict, self.stage) {
            (Verdict::Abort, _) if self.half == Some(at) => Some(Cut::HalfClosed),
            (Verdict::Abort, _) if self.download == Some(at) => Some(Cut::Slow),
            (Verdict::Abort, _) => Some(Cut::Stalled),
            (Verdict::Close, Stage::Head) => Some(Cut::Head),
            (Verdict::Close | Verdict::Answer, _) => None,
        }
    }

    fn waiting(&self, limits: &Limits) -> u64 {
        let silent = self.since.saturating_add(millis(limits.response_timeout));
        self.upload.map_or(silent, |upload| silent.min(upload))
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(stage: Stage) -> Times {
        Times { stage, since: 1_000, stalled: 0, download: None, half: None, upload: None }
    }

    #[test]
    fn each_stage_has_its_deadline() {
        let limits = Limits::default();
        let deadline = |stage| times(stage).deadline(&limits);
        assert_eq!(deadline(Stage::Opened), Some((11_000, Verdict::Close)));
        assert_eq!(deadline(Stage::Head), Some((11_000, Verdict::Close)));
        assert_eq!(deadline(Stage::Idle), Some((61_000, Verdict::Close)));
        assert_eq!(deadline(Stage::Waiting), Some((121_000, Verdict::Answer)));
        assert_eq!(deadline(Stage::Responding), None);
    }

    #[test]
    fn a_stall_and_a_closed_half_come_first() {
        let limits = Limits::default();
        let stalled = Times { stalled: 5_000, ..times(Stage::Idle) };
        assert_eq!(stalled.deadline(&limits), Some((305_000, Verdict::Abort)));
        let slow = Times { download: Some(7_000), ..stalled };
        assert_eq!(slow.deadline(&limits), Some((7_000, Verdict::Abort)));
        let quick = Times { download: Some(400_000), ..stalled };
        assert_eq!(quick.deadline(&limits), Some((305_000, Verdict::Abort)));
        let half = Times { half: Some(7_000), ..times(Stage::Responding) };
        assert_eq!(half.deadline(&limits), Some((7_000, Verdict::Abort)));
        // Who reads is told that its time is over.
        let waiting = Times { half: Some(121_000), ..times(Stage::Waiting) };
        assert_eq!(waiting.deadline(&limits), Some((121_000, Verdict::Answer)));
    }

    #[test]
    fn what_is_cut_short_says_why() {
        let limits = Limits::default();
        let stalled = Times { stalled: 5_000, ..times(Stage::Responding) };
        for (times, cut) in [
            (times(Stage::Opened), None),
            (times(Stage::Idle), None),
            (times(Stage::Head), Some(Cut::Head)),
            (times(Stage::Waiting), None),
            (times(Stage::Responding), None),
            (stalled, Some(Cut::Stalled)),
            (Times { download: Some(7_000), ..stalled }, Some(Cut::Slow)),
            (Times { download: Some(400_000), ..stalled }, Some(Cut::Stalled)),
            (Times { half: Some(6_000), download: Some(7_000), ..stalled }, Some(Cut::HalfClosed)),
        ] {
            assert_eq!(times.cut(&limits), cut, "{times:?}");
        }
    }

    #[test]
    fn an_upload_that_is_waited_for_has_its_own() {
        let limits = Limits::default();
        let deadline = |stage, upload| Times { upload: Some(upload), ..times(stage) }.deadline(&limits);
        assert_eq!(deadline(Stage::Waiting, 25_000), Some((25_000, Verdict::Answer)));
        assert_eq!(deadline(Stage::Waiting, 125_000), Some((121_000, Verdict::Answer)));
        assert_eq!(deadline(Stage::Responding, 25_000), None);
    }
}
