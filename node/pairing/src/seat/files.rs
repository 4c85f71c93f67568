//! How a guest and its host ask each other for files, on streams of their own.

use libp2p::PeerId;
use mytunnel_keys::id::PublicKey;

use super::Seat;
use crate::{
    clock::Now,
    hello::{Hello, SeatId},
    invite::Verifier,
    secret::{self, Psk},
};

impl Seat {
    /// How the host is asked for a file, or asks.
    pub(crate) fn for_files(&self) -> (Hello, Psk) {
        (Hello::Files { seat: self.seat }, secret::of_files(&self.resume, self.seat))
    }

    /// What who says this hello has to prove; nothing where nobody can.
    pub(crate) fn verifier(&self, hello: Hello) -> Option<Verifier> {
        let (ours, psk) = self.for_files();
        (hello == ours && self.closed.is_none()).then_some(Verifier::Psk(psk))
    }

    /// Whether it is the host that asks for a file.
    pub(crate) fn is_asked_for_files(&self, seat: SeatId, peer: &PeerId, key: &PublicKey) -> bool {
        self.seat == seat && self.host == *peer && self.host_key == *key && !self.waits()
    }

    /// Something goes on in the session that is no entry of its record.
    pub(crate) fn touch(&mut self, now: Now) {
        self.active_at = now.steady;
    }
}
