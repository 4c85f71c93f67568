//! The first message of a stream: how the guest means to prove that it may come in.

use crate::{link::InviteId, spoken};

/// What a guest names before the handshake; nothing secret, and nothing that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hello {
    /// It was handed the link of this invite.
    Link(InviteId),
    /// It was told the code with this number.
    Code {
        /// The number.
        number: u16,
        /// Its message of SPAKE2.
        message: [u8; spoken::MESSAGE],
    },
    /// It had this seat before, and comes back; the number grows with each attempt.
    Resume {
        /// Which seat.
        seat: SeatId,
        /// Higher than in every attempt before.
        attempt: u32,
    },
    /// It wants a file, or passes on that somebody does: one of the two ends of this seat.
    Files {
        /// Which seat.
        seat: SeatId,
    },
}

/// Under which name a member comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeatId(pub [u8; 8]);

const LINK: u8 = 0;
const CODE: u8 = 1;
const RESUME: u8 = 2;
const FILES: u8 = 3;

impl Hello {
    /// The message.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Link(invite) => [&[LINK], invite.as_bytes().as_slice()].concat(),
            Self::Code { number, message } => [&[CODE], number.to_be_bytes().as_slice(), &message].concat(),
            Self::Resume { seat, attempt } => [&[RESUME], seat.0.as_slice(), &attempt.to_be_bytes()].concat(),
            Self::Files { seat } => [&[FILES], seat.0.as_slice()].concat(),
        }
    }

    /// Reads a message; nothing if it is none of this version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&mode, rest) = bytes.split_first()?;
        if mode == CODE {
            let (number, message) = rest.split_first_chunk::<2>()?;
            let message = message.try_into().ok()?;
            return Some(Self::Code { number: u16::from_be_bytes(*number), message });
        }
        let (id, rest) = rest.split_first_chunk::<8>()?;
        match (mode, rest) {
            (LINK, []) => Some(Self::Link(InviteId::from_bytes(*id))),
            (FILES, []) => Some(Self::Files { seat: SeatId(*id) }),
            (RESUME, rest) => {
                let attempt = u32::from_be_bytes(rest.try_into().ok()?);
                Some(Self::Resume { seat: SeatId(*id), attempt })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_was_written_and_nothing_else_is_read() {
        for hello in [
            Hello::Link(InviteId::from_bytes([7; 8])),
            Hello::Code { number: 7, message: [9; spoken::MESSAGE] },
            Hello::Resume { seat: SeatId([8; 8]), attempt: 3 },
            Hello::Files { seat: SeatId([8; 8]) },
        ] {
            let bytes = hello.to_bytes();
            assert_eq!(Hello::parse(&bytes), Some(hello));
            assert_eq!(Hello::parse(&bytes[..bytes.len() - 1]), None);
            assert_eq!(Hello::parse(&[bytes.as_slice(), &[0]].concat()), None);
        }
        assert_eq!(Hello::parse(&[9; 9]), None);
        assert_eq!(Hello::parse(&[]), None);
    }
}
