//! What the two ends of a file's stream say: one asks for pieces, the other has them.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::tree::{Digest, HASH, Leaf};
use crate::bytes;

/// Hashes in one message.
const LEAVES: usize = 8 * 1024;

/// From who wants a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ToSource {
    /// The first: which file, by the number of its offer and by its hash.
    Ask {
        /// The number of the offer in the record.
        offer: u64,
        /// BLAKE3 of the file.
        root: Digest,
    },
    /// So many pieces from this one on, in their order.
    Want {
        /// The first.
        first: u32,
        /// How many.
        count: NonZeroU32,
    },
}

/// From who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ToTaker {
    /// What the next of the pieces hash to. Together they come first.
    Leaves {
        /// One behind the other.
        #[serde(with = "bytes")]
        hashes: Vec<u8>,
    },
    /// The next piece that is wanted.
    Piece {
        /// Its number.
        number: u32,
        /// Its content.
        #[serde(with = "bytes")]
        content: Vec<u8>,
    },
    /// There is no more, and why.
    No {
        /// The reason.
        why: No,
    },
}

/// Why somebody does not get a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum No {
    /// There is no such offer, for this member.
    Unknown,
    /// It is offered no more: its program was started anew, or many others were offered since.
    Gone,
    /// The file is not what was offered any more.
    Changed,
    /// The file cannot be read any more.
    Unreadable,
    /// Too many files are on their way.
    Busy,
    /// The host does not reach who has it.
    Away,
}

impl ToSource {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes::decode(bytes)
    }
}

impl ToTaker {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        bytes::encode(self)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes::decode(bytes)
    }

    /// The messages that hold these hashes.
    pub(crate) fn leaves(leaves: &[Leaf]) -> impl Iterator<Item = Self> {
        leaves.chunks(LEAVES).map(|leaves| Self::Leaves { hashes: leaves.concat() })
    }
}

/// The hashes in such a message; nothing where they are none, or more than `room`.
pub(crate) fn leaves_in(hashes: &[u8], room: usize) -> Option<impl Iterator<Item = Leaf> + '_> {
    let (leaves, rest) = hashes.as_chunks::<HASH>();
    let fits = rest.is_empty() && (1..=room).contains(&leaves.len());
    fits.then(|| leaves.iter().copied())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::tree::PIECE, *};
    use crate::limits;

    #[test]
    fn messages_are_read_as_they_were_written_and_fit_into_the_frames() {
        let asks = [
            ToSource::Ask { offer: u64::MAX, root: Digest([7; 32]) },
            ToSource::Want { first: u32::MAX, count: NonZeroU32::MIN },
        ];
        for ask in asks {
            assert_eq!(ToSource::parse(&ask.to_bytes()), Some(ask.clone()));
            assert!(ToSource::parse(&[ask.to_bytes(), vec![0]].concat()).is_none());
        }
        let piece = ToTaker::Piece { number: u32::MAX, content: vec![0xa5; PIECE] };
        let leaves = vec![[9; 32]; 2 * LEAVES + 1];
        let messages: Vec<ToTaker> = ToTaker::leaves(&leaves).collect();
        assert_eq!(messages.len(), 3);
        let mut read = Vec::new();
        for message in messages.iter().chain([&piece]) {
            let bytes = message.to_bytes();
            assert!(bytes.len() <= limits::MESSAGE, "{}", bytes.len());
            assert_eq!(ToTaker::parse(&bytes).as_ref(), Some(message));
            if let ToTaker::Leaves { hashes } = message {
                read.extend(leaves_in(hashes, leaves.len() - read.len()).unwrap());
            }
        }
        assert_eq!(read, leaves);
        assert!(leaves_in(&[0; 33], 9).is_none() && leaves_in(&[], 9).is_none());
        assert!(leaves_in(&[0; 64], 1).is_none() && leaves_in(&[0; 64], 2).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_message_is_more_than_refused(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (ToSource::parse(&noise), ToTaker::parse(&noise));
        }
    }
}
