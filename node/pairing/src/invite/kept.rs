//! An invite as it is on disk: as in memory, what a guest with the link can prove, and never the link.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Invite, State, Verifier};
use crate::{bytes, era::Shift, limits, secret::Psk, spoken::Spoken};

#[derive(Serialize, Deserialize)]
pub(crate) struct KeptInvite {
    verifier: KeptVerifier,
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
        let verifier = match &self.verifier {
            Verifier::Psk(psk) => KeptVerifier::Psk(**psk),
            Verifier::Spoken(code) => KeptVerifier::Spoken(code.text().to_string()),
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
            KeptVerifier::Psk(psk) => Verifier::Psk(Psk::new(psk)),
            KeptVerifier::Spoken(text) => Verifier::Spoken(Spoken::parse(&Zeroizing::new(text))?),
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
    use crate::{clock::Now, era::Era};

    #[test]
    fn an_invite_is_as_old_as_before_and_as_used_and_a_machine_that_was_started_anew_takes_it_back() {
        let begun = Now { wall: 1_800_000_000, steady: crate::era::BEGIN };
        let era = |wall: u64| Era::of_machine(0, wall);
        let (first, now) = (era(begun.wall), Now { wall: begun.wall + 400, steady: crate::era::BEGIN });
        let spoken = Spoken::new(7, 99);
        let mut invite = Invite::new(Verifier::Spoken(spoken), Duration::from_secs(600), begun);
        assert!(invite.guess());
        let shift = era(now.wall).behind(&first, now);
        let mut again = invite.kept().restored(&shift).unwrap();
        assert_eq!((again.guesses, again.is_open(now)), (invite.guesses, shift.is_same_boot));
        let late = Now { wall: begun.wall + 600, steady: crate::era::BEGIN + Duration::from_secs(1) };
        assert!(!again.is_open(late));
        again.state = State::Consumed;
        assert_eq!(again.kept().restored(&shift).unwrap().redeem(false, now), Err(Code::PairUsed));

        let mut elsewhere = shift;
        elsewhere.is_same_boot = false;
        let mut revoked = invite.kept().restored(&elsewhere).unwrap();
        assert_eq!(revoked.redeem(false, now), Err(Code::PairBurned));
    }
}
