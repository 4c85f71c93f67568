//! What is sent to a UDP visitor who may not be the one that its datagrams say: three times what came from it, as in QUIC
//! (RFC 9000, section 8.1), but at least what the answer to one small question may have, until it goes on after an answer.

/// The largest answer that is common to a question of one datagram: DNS with EDNS0 (RFC 6891), lists of game servers.
const LEAST: u64 = 4096;
const TIMES: u64 = 3;

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Allowance {
    received: u64,
    sent: u64,
    proven: bool,
}

impl Allowance {
    /// A datagram of so many bytes came.
    pub(super) fn hear(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        self.proven |= self.sent > 0;
    }

    /// Whether an answer of so many bytes may be sent; if so, it counts as sent.
    pub(super) fn admit(&mut self, bytes: usize) -> bool {
        let sent = self.sent.saturating_add((bytes as u64).max(1));
        let admitted = self.proven || sent <= self.received.saturating_mul(TIMES).max(LEAST);
        if admitted {
            self.sent = sent;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_question_has_a_large_answer_and_no_flood() {
        let mut visitor = Allowance::default();
        visitor.hear(40);
        assert!(visitor.admit(512) && visitor.admit(1232) && visitor.admit(1400));
        assert!(!visitor.admit(1400), "no more than 4 KiB");
        assert!(visitor.admit(900), "a smaller one has room");
        let mut visitor = Allowance::default();
        visitor.hear(1400);
        visitor.hear(1400);
        let answers = (0..100).filter(|_| visitor.admit(1400)).count();
        assert_eq!(answers, 6, "three times what came");
    }

    #[test]
    fn who_goes_on_after_an_answer_has_all() {
        let mut visitor = Allowance::default();
        visitor.hear(40);
        visitor.hear(40);
        assert!(!visitor.admit(5000), "two datagrams without an answer between them prove nothing");
        assert!(visitor.admit(0));
        visitor.hear(40);
        assert!((0..1000).all(|_| visitor.admit(60_000)));
    }
}
