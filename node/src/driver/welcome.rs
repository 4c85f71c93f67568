//! Is this a relay of our cluster? What it answers to a greeting, checked against what the token pinned.

use mytunnel_keys::{
    certificate::{self, Kind, VerifyError},
    error::Code,
    id::{Cluster, PublicKey},
    trust::{RootFingerprint, Trust, TrustError},
    wire::{ToNode, VERSION},
};

use crate::state::link::Refusal;

/// A difference between two clocks that is worth a word, in seconds: beyond what certificates tolerate.
const CLOCK_OFF: u64 = 60;

/// What a relay has to show.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) root: RootFingerprint,
    pub(super) cluster: Cluster,
    /// The newest bundle seen so far.
    pub(super) held: Option<Trust>,
}

/// A relay of the cluster has welcomed us.
#[derive(Debug, Clone)]
pub(super) struct Welcome {
    /// The bundle it showed, or a newer one that we held.
    pub(super) trust: Trust,
    /// When the relay's certificate ends, in Unix seconds.
    pub(super) not_after: u64,
    /// Port of the fast lane, when there is one.
    pub(super) lane_port: Option<u16>,
    /// Seconds by which the relay's clock is ahead of ours.
    pub(super) clock_offset: i64,
}

/// Why a greeting did not end in a welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// The relay does not want us.
    Refused(Refusal),
    /// It is no relay that we want.
    FalseRelay(FalseRelay),
}

/// Why a relay is not trusted. Nothing was registered there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FalseRelay {
    #[error("the relay's trust bundle is refused: {0}")]
    Trust(#[from] TrustError),
    #[error("the relay belongs to cluster {0}")]
    Cluster(Cluster),
    #[error("the relay's certificate is refused: {0}")]
    Certificate(#[from] VerifyError),
    #[error("this machine's clock is {0} s off: {1}")]
    Clock(u64, VerifyError),
    #[error("the other end's certificate is not that of a relay")]
    Kind,
    #[error("the relay speaks version {0} of the protocol, this node version {VERSION}")]
    Version(u16),
    #[error("the relay did not answer the greeting")]
    Nonsense,
}

/// Judges a relay's first message, and later ones in which it shows a renewed certificate. `relay` is the key that the connection's handshake proved, `now` our Unix time.
pub(super) fn judge(
    answer: ToNode,
    relay: &PublicKey,
    expected: Expected,
    now: u64,
) -> Result<Welcome, Unwelcome> {
    match answer {
        ToNode::Welcome { version, certificate, trust, lane_port, time, .. } => {
            let shown = Shown { version, certificate, trust, time };
            let (trust, not_after) = shown.check(relay, expected, now).map_err(Unwelcome::FalseRelay)?;
            Ok(Welcome { trust, not_after, lane_port, clock_offset: offset(time, now) })
        }
        ToNode::Refused { code, message, help, .. } => {
            Err(Unwelcome::Refused(Refusal { code, message: plain(&message), help: plain(&help) }))
        }
        ToNode::Goodbye { code, message } => {
            let help = code.help().to_owned();
            Err(Unwelcome::Refused(Refusal { code, message: plain(&message), help }))
        }
        ToNode::Registered { .. }
        | ToNode::Backends { .. }
        | ToNode::Found { .. }
        | ToNode::Revoked { .. }
        | ToNode::Unwatched { .. }
        | ToNode::NotFound { .. }
        | ToNode::Closed { .. } => Err(Unwelcome::FalseRelay(FalseRelay::Nonsense)),
    }
}

struct Shown {
    version: u16,
    certificate: Vec<u8>,
    trust: Vec<u8>,
    time: u64,
}

impl Shown {
    fn check(&self, relay: &PublicKey, expected: Expected, now: u64) -> Result<(Trust, u64), FalseRelay> {
        if self.version != VERSION {
            return Err(FalseRelay::Version(self.version));
        }
        let trust = match expected.held {
            // A relay that has not heard of the newest bundle is late, not false.
            Some(mut held) => match held.update(&self.trust) {
                Ok(_) | Err(TrustError::Rollback { .. }) => held,
                Err(error) => return Err(error.into()),
            },
            None => Trust::open(&self.trust, &expected.root)?,
        };
        if *trust.cluster() != expected.cluster {
            return Err(FalseRelay::Cluster(trust.cluster().clone()));
        }
        let claims = certificate::verify(&self.certificate, &trust, relay, now).map_err(|error| {
            let off = self.time.abs_diff(now);
            // With a clock that is far off, what is right looks early or late.
            if error.code() == Code::KeyExpired && off > CLOCK_OFF {
                FalseRelay::Clock(off, error)
            } else {
                FalseRelay::Certificate(error)
            }
        })?;
        if claims.kind == Kind::Relay { Ok((trust, claims.not_after)) } else { Err(FalseRelay::Kind) }
    }
}

fn offset(theirs: u64, ours: u64) -> i64 {
    let clamped = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    clamped(theirs) - clamped(ours)
}

/// A relay's words as they may reach a terminal: one line of ordinary characters.
pub(crate) fn plain(text: &str) -> String {
    const MOST: usize = 500;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, NOW};

    fn expected() -> Expected {
        Expected { root: testing::root().fingerprint(), cluster: testing::cluster(), held: None }
    }

    fn welcome() -> ToNode {
        testing::welcome(&testing::relay_claims(), &testing::bundle(1))
    }

    fn judged(answer: ToNode) -> Result<Welcome, Unwelcome> {
        judge(answer, &testing::relay_seed().public(), expected(), NOW)
    }

    #[track_caller]
    fn false_relay(result: Result<Welcome, Unwelcome>) -> FalseRelay {
        match result {
            Err(Unwelcome::FalseRelay(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_relay_of_the_cluster_is_welcome() {
        let welcome = judged(welcome()).unwrap();
        assert_eq!(welcome.clock_offset, 0);
        assert_eq!(welcome.trust.bundle().version, 1);
        assert_eq!(welcome.not_after, testing::relay_claims().not_after);
    }

    #[test]
    fn a_bundle_of_another_root_is_refused() {
        let other = Expected { root: RootFingerprint::from_bytes([9; 16]), ..expected() };
        let result = judge(welcome(), &testing::relay_seed().public(), other, NOW);
        assert!(matches!(false_relay(result), FalseRelay::Trust(TrustError::Root { .. })));
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let result = judge(welcome(), &testing::node().public(), expected(), NOW);
        assert_eq!(false_relay(result), FalseRelay::Certificate(VerifyError::Holder));
    }

    #[test]
    fn a_node_is_no_relay() {
        let mut claims = testing::node_claims();
        claims.subject = testing::relay_seed().public();
        let result = judged(testing::welcome(&claims, &testing::bundle(1)));
        assert_eq!(false_relay(result), FalseRelay::Kind);
    }

    #[test]
    fn another_cluster_is_refused() {
        let other = Expected { cluster: "other.example".parse().unwrap(), ..expected() };
        let result = judge(welcome(), &testing::relay_seed().public(), other, NOW);
        assert_eq!(false_relay(result), FalseRelay::Cluster(testing::cluster()));
    }

    #[test]
    fn an_expired_relay_is_refused_and_a_wrong_clock_is_named() {
        let end = testing::relay_claims().not_after;
        let late = |time: u64| {
            let mut answer = welcome();
            if let ToNode::Welcome { time: told, .. } = &mut answer {
                *told = time;
            }
            false_relay(judge(answer, &testing::relay_seed().public(), expected(), end + 100))
        };
        assert!(matches!(late(end + 100), FalseRelay::Certificate(VerifyError::Expired { .. })));
        assert!(matches!(late(NOW), FalseRelay::Clock(_, VerifyError::Expired { .. })));
    }

    #[test]
    fn an_older_bundle_does_not_replace_the_one_held() {
        let held = Trust::open(&testing::bundle(3), &testing::root().fingerprint()).unwrap();
        let again = Expected { held: Some(held), ..expected() };
        let welcome = judge(welcome(), &testing::relay_seed().public(), again, NOW).unwrap();
        assert_eq!(welcome.trust.bundle().version, 3);
    }

    #[test]
    fn a_refusal_comes_through_in_plain_characters() {
        let refused = ToNode::Refused {
            request: None,
            code: Code::KeyRevoked,
            message: "revoked\x1b[2J\nnow".to_owned(),
            help: "x".repeat(10_000),
        };
        let Err(Unwelcome::Refused(refusal)) = judged(refused) else { panic!() };
        assert_eq!((refusal.code, refusal.message.as_str()), (Code::KeyRevoked, "revoked [2J now"));
        assert_eq!(refusal.help.len(), 500);
    }

    #[test]
    fn another_version_or_another_message_is_no_welcome() {
        let mut answer = welcome();
        if let ToNode::Welcome { version, .. } = &mut answer {
            *version = VERSION + 1;
        }
        assert_eq!(false_relay(judged(answer)), FalseRelay::Version(VERSION + 1));
        let closed = ToNode::Closed {
            tunnel: mytunnel_keys::id::TunnelId::from_bytes([0; 16]),
            code: Code::Internal,
            message: String::new(),
        };
        assert_eq!(false_relay(judged(closed)), FalseRelay::Nonsense);
    }
}
