//! What is wrong with a text that should be a token, said so that its owner can mend it.

use thiserror::Error;

use super::TokenKind;
use crate::{certificate::VerifyError, error::Code};

/// Why a text is not the token that is needed. Messages never repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No text at all.
    #[error("there is no token: the text is empty")]
    Empty,
    /// Longer than any token.
    #[error("{0} characters are too many for a token")]
    TooLong(usize),
    /// Something else was given.
    #[error("this is {0}, not a token: a token begins with mtk_")]
    Foreign(&'static str),
    /// `mtk_` and then no kind that this version knows.
    #[error(
        "no such kind of token: it should begin with mtk_master_, mtk_child_, mtk_user_, mtk_relay_ or mtk_ticket_"
    )]
    UnknownKind,
    /// Too short to be whole.
    #[error("the token is cut off: copy all of it")]
    Truncated,
    /// A character that base58 does not have.
    #[error("the token has a character that does not belong there (character {0})")]
    Character(usize),
    /// The last six characters do not fit the text before them.
    #[error("the token's checksum is wrong: it was cut off or mistyped, copy all of it again")]
    Checksum,
    /// Made by a later version.
    #[error("the token has format {0}, which this version does not know: update mytunnel")]
    Version(u8),
    /// The checksum is right, and the content is not a token's.
    #[error("the token's content is damaged")]
    Payload,
    /// The certificate in it is malformed.
    #[error("the token's certificate is damaged")]
    Certificate(#[from] VerifyError),
    /// The certificate is for another kind of key, or for another key.
    #[error("the token's certificate does not belong to its key")]
    Mismatch,
    /// A token of another kind.
    #[error("this is {}, but {} is needed", .found.described(), .expected.described())]
    WrongKind {
        /// The kind that is needed.
        expected: TokenKind,
        /// The kind that was given.
        found: TokenKind,
    },
}

impl TokenError {
    /// What to tell the user.
    pub const fn code(&self) -> Code {
        match self {
            Self::WrongKind { expected: TokenKind::Child | TokenKind::User, found: TokenKind::Master } => {
                Code::MasterCannotAct
            }
            Self::Empty
            | Self::TooLong(_)
            | Self::Foreign(_)
            | Self::UnknownKind
            | Self::Truncated
            | Self::Character(_)
            | Self::Checksum
            | Self::Version(_)
            | Self::Payload
            | Self::Certificate(_)
            | Self::Mismatch
            | Self::WrongKind { .. } => Code::InvalidKey,
        }
    }
}
