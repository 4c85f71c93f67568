//! Identifiers: one type for each meaning, checked where the text or the bytes enter, so that nothing behind that edge
//! has to check again.
//!
//! Every type has one text form (`Display`, `FromStr`, JSON). In CBOR the identifiers that are bytes stay bytes.

mod key;
mod name;
mod opaque;
mod scope;
pub(crate) mod text;

use thiserror::Error;

pub(crate) use self::text::{bytes_serde, text_serde};
pub use self::{
    key::{Kid, PublicKey, ReadyKey, SignatureError},
    name::{Cluster, DomainName, NameError, NamePattern, TunnelName},
    opaque::{ProjectId, Serial, TenantId, TunnelId},
    scope::{Scope, Scopes, TunnelKind},
};

/// Why a text or bytes are not the identifier that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// Too short or too long.
    #[error("the {what} has the wrong length")]
    Length {
        /// Which identifier.
        what: &'static str,
    },
    /// A character outside the alphabet.
    #[error("the {what} has a character that does not belong there")]
    Character {
        /// Which identifier.
        what: &'static str,
    },
    /// It does not begin as it must.
    #[error("the {what} does not begin with \"{prefix}\"")]
    Prefix {
        /// Which identifier.
        what: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
    /// Not one of the known words.
    #[error("no such {what}")]
    Unknown {
        /// Which identifier.
        what: &'static str,
    },
    /// A word stands twice in a list.
    #[error("the same {what} is given twice")]
    Twice {
        /// Which identifier.
        what: &'static str,
    },
    /// Not the canonical encoding of a point of the curve.
    #[error("the public key is not a point of the curve")]
    NotAPoint,
    /// A point of small order: a signature of it proves nothing.
    #[error("the public key is weak")]
    Weak,
    /// A peer id that does not contain an Ed25519 key.
    #[error("the peer id is not that of an Ed25519 key")]
    PeerId,
}
