//! An invite as it is on disk: as in memory, what a guest with the link can prove, and never the link.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Invite, State, Verifier};
use crate::{bytes, era::Shift, limits, secret::Psk, spoken::Spoken};

#[derive(Serialize, Deserialize)]
pub(crate) struct KeptInvite {
    verifier: Option<KeptVerifier>,
    guesses: u8,
    state: State,
    wall_end: u64,
    end: Duration,
}

#[derive(Serialize, Deserialize)]
enum KeptVerifier {
    Psk(#[serde(with = "bytes")] [u8; 32]),
    Spoken(String),
}

impl Invite {
    pub(crate) fn kept(&self) -> KeptInvite {
        let verifier = match self.verifier() {
            // Of a link it is a hash, by which who comes late is told why; a code would be there in clear.
            Some(Verifier::Psk(psk)) => Some(KeptVerifier::Psk(**psk)),
            Some(Verifier::Spoken(code)) if self.state() == State::Open => {
                Some(KeptVerifier::Spoken(code.text().to_string()))
            }
            Some(Verifier::Spoken(_)) | None => None,
        };
        let Self { guesses, state, wall_end, end, .. } = *self;
        KeptInvite { verifier, guesses, state, wall_end, end }
    }
}

impl KeptInvite {
    /// Nothing where it is none. One that nobody has used is taken back where the machine may have been started anew: how old
    /// it is only a clock could say that people can set.
    pub(crate) fn restored(self, at: &Shift) -> Option<Invite> {
        let verifier = match self.verifier {
            Some(KeptVerifier::Psk(psk)) => Some(Verifier::Psk(Psk::new(psk))),
            Some(KeptVerifier::Spoken(text)) => Some(Verifier::Spoken(Spoken::parse(&Zeroizing::new(text))?)),
            None => None,
        };
        let Self { guesses, state, wall_end, end, .. } = self;
        let mut invite = Invite { verifier, guesses, state, wall_end, end: at.future(end, limits::TTL_MAX) };
        if !at.is_same_boot {
            invite.revoke();
        }
        Some(invite)
    }
}

#[cfg(test)]
mod tests {
    use mytunnel_keys::error::Code;

    use super::*;
    use crate::{
        clock::Now,
        era::{BEGIN, Era},
    };

    const BEGUN: Now = Now { wall: 1_800_000_000, steady: BEGIN };

    fn shift(seconds: u64, boot: &str) -> (Shift, Now) {
        let now = Now { wall: BEGUN.wall + seconds, steady: BEGIN };
        let first = Era::of_boot(0, BEGUN.wall, "one", 100);
        (Era::of_boot(1, now.wall, boot, 100 + seconds).behind(&first, now), now)
    }

    fn invite() -> Invite {
        Invite::new(Verifier::Spoken(Spoken::new(7, 99)), Duration::from_secs(600), BEGUN)
    }

    #[test]
    fn an_invite_is_as_old_as_before_and_as_used_and_a_machine_that_was_started_anew_takes_it_back() {
        let mut invite = invite();
        assert!(invite.guess());
        let (same, now) = shift(400, "one");
        let mut again = invite.kept().restored(&same).unwrap();
        assert_eq!((again.guesses, again.left(now)), (invite.guesses, Duration::from_secs(200)));
        assert!(again.is_open(now));
        let late = Now { wall: BEGUN.wall + 600, steady: BEGIN + Duration::from_secs(1) };
        assert!(!again.is_open(late));
        again.state = State::Consumed;
        assert_eq!(again.kept().restored(&same).unwrap().redeem(false, now), Err(Code::PairUsed));

        let (other, now) = shift(400, "two");
        let mut revoked = invite.kept().restored(&other).unwrap();
        assert!(!revoked.is_open(now));
        assert_eq!(revoked.redeem(false, now), Err(Code::PairBurned));
    }

    #[test]
    fn a_code_that_lets_nobody_in_any_more_is_not_on_disk() {
        let text = Spoken::new(7, 99).text().clone();
        let holds = |invite: &Invite| {
            bytes::encode(&invite.kept()).windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(holds(&invite()));
        let (mut used, mut revoked, mut guessed) = (invite(), invite(), invite());
        used.redeem(false, BEGUN).unwrap();
        revoked.revoke();
        while guessed.guess() {}
        for spent in [used, revoked, guessed] {
            assert!(!holds(&spent), "{spent:?}");
            let (same, now) = shift(1, "one");
            assert!(!spent.kept().restored(&same).unwrap().is_open(now));
        }
    }
}
