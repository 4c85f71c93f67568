//! What waits to be told to the coordinator.

use std::{collections::VecDeque, future::pending};

use mytunnel_keys::feed::Report;

use crate::feed::Link;

/// Reports that may wait: twice what a full account of as many nodes as there can be tells, each with a tunnel. When there
/// are more, the subscription is renewed, and begins with such an account.
const MAX: usize = 4 * 65_536;

/// Reports for the subscription that stands. Without one there is nobody to tell: the next begins with a full account.
#[derive(Debug, Default)]
pub(super) struct Reports {
    link: Option<Link>,
    /// What has been applied: somebody may be waiting for it.
    applied: VecDeque<Report>,
    others: VecDeque<Report>,
}

impl Reports {
    /// A subscription stands.
    pub(super) fn begin(&mut self, link: Link) {
        self.end();
        self.link = Some(link);
    }

    /// The subscription is over.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn push(&mut self, report: Report) {
        if self.link.is_none() {
            return;
        }
        if self.applied.len() + self.others.len() >= MAX {
            tracing::warn!("the coordinator does not take reports; subscribing again");
            return self.end();
        }
        match report {
            Report::Applied { .. } => self.applied.push_back(report),
            Report::TunnelUp { .. }
            | Report::TunnelDown { .. }
            | Report::Present { .. }
            | Report::Refused { .. } => {
                self.others.push_back(report);
            }
        }
    }

    /// Hands over one report; completes when that is done. Safe to cancel.
    pub(super) async fn deliver(&mut self) {
        let Some(link) = self.link.as_ref().filter(|_| !(self.applied.is_empty() && self.others.is_empty()))
        else {
            return pending().await;
        };
        let Ok(place) = link.reports.reserve().await else {
            return self.end();
        };
        if let Some(report) = self.applied.pop_front().or_else(|| self.others.pop_front()) {
            place.send(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::error::Code;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn refused(at: u64) -> Report {
        Report::Refused { serial: None, code: Code::InvalidKey, at }
    }

    fn applied(epoch: u64) -> Report {
        Report::Applied { epoch, closed: 0 }
    }

    fn linked() -> (Reports, mpsc::Receiver<Report>, CancellationToken) {
        let ((sender, receiver), held) = (mpsc::channel(16), CancellationToken::new());
        let mut reports = Reports::default();
        reports.begin(Link { reports: sender, _held: held.clone().drop_guard() });
        (reports, receiver, held)
    }

    #[tokio::test]
    async fn what_is_applied_goes_first_and_in_order() {
        let (mut reports, mut receiver, _held) = linked();
        for report in [refused(1), applied(1), refused(2), applied(2)] {
            reports.push(report);
        }
        for expected in [applied(1), applied(2), refused(1), refused(2)] {
            reports.deliver().await;
            assert_eq!(receiver.try_recv(), Ok(expected));
        }
    }

    #[tokio::test]
    async fn a_coordinator_that_does_not_listen_costs_its_subscription() {
        let (mut reports, _receiver, held) = linked();
        for at in 0..MAX as u64 {
            reports.push(refused(at));
        }
        assert!(!held.is_cancelled());
        reports.push(refused(0));
        assert!(held.is_cancelled());
        assert!(reports.others.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_kept_for_nobody() {
        let mut reports = Reports::default();
        reports.push(refused(1));
        assert!(reports.others.is_empty());
        let (mut reports, receiver, _held) = linked();
        reports.push(refused(1));
        drop(receiver);
        reports.deliver().await;
        assert!(reports.link.is_none() && reports.others.is_empty());
    }
}
