//! Who may ask for files: members, by their seats, on streams of their own.

use libp2p::PeerId;
use mytunnel_keys::id::PublicKey;

use super::{Member, Room};
use crate::{
    clock::Now,
    content::MemberId,
    hello::{Hello, SeatId},
    secret::{self, Psk},
};

impl Room {
    /// Which member it is that asks for a file: one that knows the session, from its own machine, with its own key.
    pub(crate) fn asks_for_files(&self, seat: SeatId, peer: &PeerId, key: &PublicKey) -> Option<MemberId> {
        let is_it = |member: &Member| {
            member.seat == seat && member.peer == *peer && member.card.key == *key && member.is_entered()
        };
        self.present().find(|(_, member)| is_it(member)).map(|(id, _)| id)
    }

    /// Something goes on in the session that is no entry of its record.
    pub(crate) fn touch(&mut self, now: Now) {
        self.active_at = now.steady;
    }
}

impl Member {
    /// How its machine is asked for a file, or asks.
    pub(crate) fn for_files(&self) -> (Hello, Psk) {
        (Hello::Files { seat: self.seat }, secret::of_files(&self.resume, self.seat))
    }
}
