//! What the two ends tell each other inside an established session.

use mytunnel_keys::error::Code;
use serde::{Deserialize, Serialize};

use crate::{
    bytes,
    card::Card,
    content::{Introduced, MemberId, SessionId, Why},
    sas::{Commitment, Nonce},
    signed::{Hash, Signed},
};

/// Whether members compare words before anything is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Nothing is said, told or shown before both have.
    Required,
    /// They can; whether they have is shown.
    Ask,
    /// They do not.
    Off,
}

impl Verify {
    /// What holds where one side wants this and the other that.
    pub(crate) const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Required, _) | (_, Self::Required) => Self::Required,
            (Self::Ask, _) | (_, Self::Ask) => Self::Ask,
            (Self::Off, Self::Off) => Self::Off,
        }
    }
}

/// What a guest that was let in learns first: nothing yet of the session itself.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The session.
    pub session: SessionId,
    /// Its number there.
    pub member: MemberId,
    /// Its name there.
    pub name: String,
    /// Whether words have to be compared.
    pub verify: Verify,
    /// See [`crate::sas`].
    pub commitment: Commitment,
    /// Under which it comes back.
    #[serde(with = "bytes")]
    pub seat: [u8; 8],
    /// With which it comes back.
    #[serde(with = "bytes")]
    pub resume: [u8; 32],
    /// The host keeps the session on its disk, also over a restart.
    #[serde(default)]
    pub kept: bool,
    /// The host, signed for this handshake.
    pub host: Card,
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Welcome").field("session", &self.session).finish_non_exhaustive()
    }
}

/// From the host to a guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToGuest {
    /// The first of a new member.
    Welcome(Box<Welcome>),
    /// The first of one that came back: how much of what it said has arrived.
    Resumed { taken: u64 },
    /// The first and only one of who has the secret and may not come in.
    No { code: Code },
    /// The host's part of the words.
    Reveal { nonce: Nonce },
    /// The session, from behind this entry on.
    Admitted { goal: String, members: Vec<Introduced>, number: u64, head: Hash },
    /// The next of the record; without what it says where that is for others.
    Entry { seal: Signed, envelope: Option<Signed> },
    /// The record goes on behind this entry: what is between was not kept.
    Skip { skip: Signed },
    /// What the guest said up to here has its place.
    Taken { number: u64 },
    /// Who is there.
    Presence { member: MemberId, online: bool },
    /// Still there.
    Beat,
    /// The end of the session for this guest.
    Bye { why: Why },
}

/// From a guest to the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToHost {
    /// The guest's part of the words.
    Nonce { nonce: Nonce },
    /// What it has of the record, after coming back; nothing if it does not know the session yet.
    Resume { number: Option<u64> },
    /// Its person has compared the words.
    Verified,
    /// Something said.
    Say { envelope: Signed },
    /// It has the record up to here.
    Have { number: u64 },
    /// Still there.
    Beat,
    /// It leaves for good.
    Bye,
}

impl ToGuest {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes::decode(bytes)
    }

    /// The place of an entry.
    pub(crate) const fn seal(&self) -> Option<&Signed> {
        if let Self::Entry { seal, .. } = self { Some(seal) } else { None }
    }
}

impl ToHost {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let nonce = Nonce::from_bytes([3; 16]);
        let bytes = ToHost::Nonce { nonce }.to_bytes();
        assert!(matches!(ToHost::parse(&bytes), Some(ToHost::Nonce { nonce: read }) if read == nonce));
        assert!(ToHost::parse(&[bytes.as_slice(), &[0]].concat()).is_none());
        assert!(matches!(ToGuest::parse(&ToGuest::Beat.to_bytes()), Some(ToGuest::Beat)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_message_is_more_than_refused(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (ToHost::parse(&noise), ToGuest::parse(&noise));
        }
    }
}
