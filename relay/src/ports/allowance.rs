//! What is sent to a UDP visitor who may not be the one that its datagrams say.
//!
//! Nothing in plain UDP proves that who is named as the sender receives what is sent there, so that each answer has to be paid for by what
//! came. Until a visitor goes on after an answer, that is three times the bytes, as in QUIC (RFC 9000, section 8.1), but at least what the answer
//! to one small question may have. From then on each datagram pays for as much as what is acknowledged by one: a download over QUIC or
//! WireGuard flows, and who makes up senders has to go on doing so, and gains a factor that is known.

/// The largest answer that is common to a question of one datagram: DNS with EDNS0 (RFC 6891), lists of game servers.
const LEAST: u64 = 4096;
const TIMES: u64 = 3;

/// What a datagram has beside its bytes: the heads of IPv4 and UDP.
const HEADS: u64 = 28;
/// One acknowledgement of 65 bytes, heads and all, pays for twelve full packets: QUIC's come for two, and for ten at most.
const TIMES_ON: u64 = 256;
/// What may be saved up, for an answer that comes in one go.
const SAVED: u64 = 1 << 20;

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) enum Allowance {
    /// Nothing has come after an answer.
    Asks { received: u64, sent: u64 },
    /// Something has.
    GoesOn { left: u64 },
}

impl Default for Allowance {
    fn default() -> Self {
        Self::Asks { received: 0, sent: 0 }
    }
}

impl Allowance {
    /// A datagram of so many bytes came.
    pub(super) fn hear(&mut self, bytes: usize) {
        let paid = wire(bytes).saturating_mul(TIMES_ON);
        match self {
            Self::Asks { received, sent: 0 } => *received = received.saturating_add(bytes as u64),
            Self::Asks { .. } => *self = Self::GoesOn { left: paid.min(SAVED) },
            Self::GoesOn { left } => *left = left.saturating_add(paid).min(SAVED),
        }
    }

    /// Whether an answer of so many bytes may be sent; if so, it counts as sent.
    pub(super) fn admit(&mut self, bytes: usize) -> bool {
        match self {
            Self::Asks { received, sent } => {
                let all = sent.saturating_add((bytes as u64).max(1));
                let admitted = all <= received.saturating_mul(TIMES).max(LEAST);
                if admitted {
                    *sent = all;
                }
                admitted
            }
            Self::GoesOn { left } => match left.checked_sub(wire(bytes)) {
                Some(rest) => {
                    *left = rest;
                    true
                }
                None => false,
            },
        }
    }
}

const fn wire(bytes: usize) -> u64 {
    (bytes as u64).saturating_add(HEADS)
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

    /// Bytes on the wire, of answers that are offered without end.
    fn flood(visitor: &mut Allowance) -> u64 {
        let answers = std::iter::repeat_with(|| visitor.admit(1200)).take(100_000);
        answers.take_while(|admitted| *admitted).map(|_| wire(1200)).sum()
    }

    #[test]
    fn who_makes_up_a_sender_again_and_again_gains_no_more_than_a_known_factor() {
        let mut visitor = Allowance::default();
        let (mut made_up, mut sent) = (0, 0);
        for _ in 0..1000 {
            visitor.hear(1);
            made_up += wire(1);
            sent += flood(&mut visitor);
        }
        assert!(sent <= 256 * made_up, "{sent} for {made_up}");
        // Nothing is saved up without end.
        (0..1000).for_each(|_| visitor.hear(60_000));
        assert!(flood(&mut visitor) <= 1 << 20);
    }

    #[test]
    fn a_download_flows_on_the_acknowledgements_that_quic_sends() {
        let mut visitor = Allowance::default();
        visitor.hear(1200);
        assert!((0..3).all(|_| visitor.admit(1200)), "the server's first flight");
        for packets in [2, 10] {
            for _ in 0..10_000 {
                visitor.hear(36);
                assert!((0..packets).all(|_| visitor.admit(1350)), "{packets} for each acknowledgement");
            }
        }
    }

    #[test]
    fn games_and_questions_that_follow_each_other_have_all() {
        let mut player = Allowance::default();
        let mut resolver = Allowance::default();
        player.hear(24);
        assert!(player.admit(1400));
        for _ in 0..10_000 {
            player.hear(24);
            assert!((0..4).all(|_| player.admit(1400)));
            resolver.hear(30);
            assert!(resolver.admit(4096));
        }
    }
}
