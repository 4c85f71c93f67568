//! Secrets derived from secrets, each for one purpose.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    hello::SeatId,
    link::{InviteId, InviteSecret},
};

/// What the handshake proves: known to exactly the two who are meant.
pub(crate) type Psk = Zeroizing<[u8; 32]>;

/// With what a member comes back to its seat.
#[derive(Clone)]
pub(crate) struct ResumeSecret(Zeroizing<[u8; 32]>);

impl ResumeSecret {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For the welcome alone.
    pub(crate) fn expose(&self) -> [u8; 32] {
        *self.0
    }
}

impl std::fmt::Debug for ResumeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeSecret(…)")
    }
}

/// Of a link. The host keeps this alone, which does not give the link back.
pub(crate) fn of_link(secret: &InviteSecret, invite: InviteId) -> Psk {
    derive(secret.expose(), "mytunnel pair link 1", invite.as_bytes())
}

/// Of a spoken code, for one run of SPAKE2: its key and both messages.
pub(crate) fn of_code(key: &[u8], asked: &[u8], answer: &[u8]) -> Psk {
    derive(key, "mytunnel pair code 1", &hash_of("mytunnel pair code run 1", &[asked, answer]))
}

/// Of a seat that was given before, for one attempt to come back to it.
pub(crate) fn of_seat(resume: &ResumeSecret, seat: SeatId, attempt: u32) -> Psk {
    derive(
        resume.0.as_slice(),
        "mytunnel pair resume 1",
        &[seat.0.as_slice(), &attempt.to_be_bytes()].concat(),
    )
}

/// Of a seat, for a stream of a file. Either end of the seat may open one; who did is in the handshake.
pub(crate) fn of_files(resume: &ResumeSecret, seat: SeatId) -> Psk {
    derive(resume.0.as_slice(), "mytunnel pair files 1", seat.0.as_slice())
}

fn derive(secret: &[u8], label: &str, context: &[u8]) -> Psk {
    let mut psk = Zeroizing::new([0; 32]);
    let info = [label.as_bytes(), &[0], context].concat();
    Hkdf::<Sha256>::new(None, secret)
        .expand(&info, psk.as_mut_slice())
        .expect("32 bytes are within HKDF's bound");
    psk
}

/// SHA-256 over the parts, each behind its length, so that no two lists hash alike.
pub(crate) fn hash_of(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
