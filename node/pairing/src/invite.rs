//! The states of an invite. Single use is decided here, in one transition, when the guest has proved the secret and
//! before anything is answered.

mod kept;

use std::time::Duration;

use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};

pub(crate) use self::kept::KeptInvite;
use crate::{clock::Now, limits, secret::Psk, spoken::Spoken};

/// What a guest has to prove that it knows.
#[derive(Clone)]
pub(crate) enum Verifier {
    /// The secret of a link or of a seat.
    Psk(Psk),
    /// A spoken code.
    Spoken(Spoken),
}

/// One invite as its host keeps it: never the link, only what a guest with the link can prove.
pub(crate) struct Invite {
    /// Nothing where it was forgotten since nobody comes in with it any more.
    verifier: Option<Verifier>,
    guesses: u8,
    state: State,
    wall_end: u64,
    end: Duration,
}

/// Where an invite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Nobody has used it.
    Open,
    /// Its guest is in, and waits for a person's word.
    Reserved,
    /// Used.
    Consumed,
    /// Taken back by the host.
    Revoked,
    /// Its guest was not who should have come.
    Burned,
}

impl Invite {
    /// Lives for `ttl` from now, by both clocks: setting back the one of the wall gains nothing.
    pub(crate) fn new(verifier: Verifier, ttl: Duration, now: Now) -> Self {
        let ttl = ttl.clamp(limits::TTL_MIN, limits::TTL_MAX);
        Self {
            verifier: Some(verifier),
            guesses: limits::GUESSES,
            state: State::Open,
            wall_end: now.wall + ttl.as_secs(),
            end: now.steady + ttl,
        }
    }

    /// What a guest has to prove, where anybody can.
    pub(crate) const fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    /// Grants one of the guesses at a spoken code; the last wrong one leaves none.
    pub(crate) fn guess(&mut self) -> bool {
        let granted = self.guesses > 0;
        self.guesses = self.guesses.saturating_sub(1);
        granted
    }

    pub(crate) const fn state(&self) -> State {
        if matches!(self.state, State::Open) && self.guesses == 0 { State::Burned } else { self.state }
    }

    /// What is left of its life.
    pub(crate) fn left(&self, now: Now) -> Duration {
        let wall = Duration::from_secs(self.wall_end.saturating_sub(now.wall));
        self.end.saturating_sub(now.steady).min(wall)
    }

    /// Whether somebody could come in with it.
    pub(crate) fn is_open(&self, now: Now) -> bool {
        self.state() == State::Open && !self.left(now).is_zero()
    }

    /// Takes the one use. `Reserved` where a person has to look first, `Consumed` where not.
    pub(crate) fn redeem(&mut self, needs_person: bool, now: Now) -> Result<(), Code> {
        match self.state {
            State::Open if self.left(now).is_zero() => Err(Code::PairExpired),
            State::Open => {
                self.state = if needs_person { State::Reserved } else { State::Consumed };
                Ok(())
            }
            State::Reserved | State::Consumed => Err(Code::PairUsed),
            State::Revoked | State::Burned => Err(Code::PairBurned),
        }
    }

    /// A person has said yes to its guest.
    pub(crate) fn approve(&mut self) {
        if self.state == State::Reserved {
            self.state = State::Consumed;
        }
    }

    /// A person has said no to its guest. It never opens again.
    pub(crate) fn burn(&mut self) {
        if self.state == State::Reserved {
            self.state = State::Burned;
        }
    }

    /// The host takes it back; says whether it was still of use.
    pub(crate) fn revoke(&mut self) -> bool {
        let open = self.state == State::Open;
        if open {
            self.state = State::Revoked;
        }
        open
    }
}

impl std::fmt::Debug for Invite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invite").field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Now {
        Now { wall: 1_800_000_000 + seconds, steady: Duration::from_secs(100 + seconds) }
    }

    fn invite() -> Invite {
        Invite::new(Verifier::Psk(Psk::default()), TTL, at(0))
    }

    #[test]
    fn an_invite_is_used_once() {
        let mut invite = invite();
        assert_eq!(invite.redeem(false, at(599)), Ok(()));
        assert_eq!(invite.redeem(false, at(599)), Err(Code::PairUsed));
        assert_eq!(invite.redeem(false, at(9_999)), Err(Code::PairUsed));
    }

    #[test]
    fn it_ends_by_whichever_clock_comes_first() {
        assert_eq!(invite().redeem(false, at(600)), Err(Code::PairExpired));
        let set_back = Now { wall: 0, ..at(600) };
        assert_eq!(invite().redeem(false, set_back), Err(Code::PairExpired));
        let asleep = Now { steady: at(1).steady, ..at(600) };
        assert_eq!(invite().redeem(false, asleep), Err(Code::PairExpired));
        assert_eq!(invite().left(Now { wall: 0, ..at(0) }), TTL);
    }

    #[test]
    fn a_life_is_neither_shorter_nor_longer_than_the_bounds() {
        let left = |ttl| Invite::new(Verifier::Psk(Psk::default()), ttl, at(0)).left(at(0));
        assert_eq!(left(Duration::ZERO), limits::TTL_MIN);
        assert_eq!(left(Duration::MAX / 4), limits::TTL_MAX);
    }

    #[test]
    fn a_denied_guest_burns_it_and_an_approved_one_uses_it() {
        let mut denied = invite();
        denied.redeem(true, at(1)).unwrap();
        assert_eq!(denied.redeem(true, at(1)), Err(Code::PairUsed));
        denied.burn();
        assert_eq!(denied.redeem(true, at(1)), Err(Code::PairBurned));
        denied.approve();
        assert_eq!(denied.state(), State::Burned);

        let mut approved = invite();
        approved.redeem(true, at(1)).unwrap();
        approved.approve();
        approved.burn();
        assert_eq!(approved.state(), State::Consumed);
    }

    #[test]
    fn a_code_has_three_guesses_of_which_the_last_may_be_right() {
        let mut invite = invite();
        assert!(invite.guess() && invite.guess());
        assert_eq!(invite.state(), State::Open);
        assert!(invite.guess());
        assert_eq!(invite.state(), State::Burned);
        assert!(!invite.is_open(at(1)) && !invite.guess());
        // The third was right.
        assert_eq!(invite.redeem(false, at(1)), Ok(()));
        assert_eq!(invite.state(), State::Consumed);
    }

    #[test]
    fn what_was_taken_back_lets_nobody_in() {
        let mut invite = invite();
        assert!(invite.revoke());
        assert!(!invite.revoke());
        assert_eq!(invite.redeem(false, at(1)), Err(Code::PairBurned));
    }
}
