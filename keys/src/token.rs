//! Credentials as text: `mtk_<kind>_`, base58, and six characters of checksum.
//!
//! A double click selects all of it, and a scanner for leaked secrets needs no more than a regular expression and a
//! CRC32: `mtk_(master|child|user|relay|ticket)_[1-9A-HJ-NP-Za-km-z]{60,900}[0-9A-Za-z]{6}`, where the last six characters are
//! the base62 CRC32 of all the text before them. Every token names its coordinator and the fingerprint of the cluster's
//! root key, so that a machine needs nothing but the token, and no trust on first use.
//!
//! A *bound* token has no secret: the seed stays in a file of the machine that made it, and the certificate's key names
//! the file. A *portable* token has the seed in it. A *ticket* is no key: its secret lets one machine get one, once.

mod error;
mod layout;
mod server;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use self::{
    error::TokenError,
    server::{AuthorityPin, ServerError, ServerUrl},
};
use crate::{
    Unverified,
    certificate::{self, Claims, Kind},
    id::{ProjectId, Serial},
    secret::{JoinSecret, Seed, TicketSecret},
    trust::RootFingerprint,
};

/// Longest text that is looked at.
pub const MAX_TOKEN: usize = 1024;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A project's master key: mints and revokes.
    Master,
    /// A short-lived key of one project.
    Child,
    /// A person's key on one device.
    User,
    /// Lets one relay join, once.
    Relay,
    /// Lets somebody without an account reach one private share, once.
    Ticket,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Master, Self::Child, Self::User, Self::Relay, Self::Ticket];

    /// The word between the underscores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Child => "child",
            Self::User => "user",
            Self::Relay => "relay",
            Self::Ticket => "ticket",
        }
    }

    /// With its article, for messages.
    const fn described(self) -> &'static str {
        match self {
            Self::Master => "a master key",
            Self::Child => "a child key",
            Self::User => "a user key",
            Self::Relay => "a relay's join token",
            Self::Ticket => "a ticket for a private share",
        }
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token of any kind.
#[derive(Clone, Debug)]
pub enum Token {
    /// A project's master key.
    Master(MasterToken),
    /// A child key.
    Child(ChildToken),
    /// A person's key on one device; the same parts as a child key.
    User(ChildToken),
    /// A relay's join token.
    Relay(RelayToken),
    /// A ticket for a private share.
    Ticket(TicketToken),
}

/// A project's master key. It has no certificate: it signs requests to the coordinator and nothing else.
#[derive(Clone)]
pub struct MasterToken {
    /// The secret.
    pub seed: Seed,
    /// Serial under which the coordinator knows the key.
    pub serial: Serial,
    /// The project.
    pub project: ProjectId,
    /// Root of the cluster.
    pub root: RootFingerprint,
    /// The coordinator.
    pub server: ServerUrl,
}

/// A key with a certificate: a child's, or a person's on one device.
#[derive(Clone)]
pub struct ChildToken {
    secret: Secret,
    certificate: Vec<u8>,
    claims: Unverified<Claims>,
    root: RootFingerprint,
    server: ServerUrl,
}

/// Where the seed of a [`ChildToken`] is.
#[derive(Clone, Debug)]
pub enum Secret {
    /// In the token.
    Portable(Seed),
    /// In a file of the machine that made it.
    Bound,
}

/// Lets one relay join a cluster, once.
#[derive(Clone)]
pub struct RelayToken {
    /// Goes to the coordinator, once.
    pub secret: JoinSecret,
    /// Root of the cluster.
    pub root: RootFingerprint,
    /// The coordinator.
    pub server: ServerUrl,
}

/// Lets somebody without an account reach one private share, once.
#[derive(Clone)]
pub struct TicketToken {
    /// Goes to the coordinator, once.
    pub secret: TicketSecret,
    /// Root of the cluster.
    pub root: RootFingerprint,
    /// The coordinator.
    pub server: ServerUrl,
}

impl Token {
    /// Reads a token; white space around it is passed over.
    ///
    /// # Errors
    /// When it is not a whole token of a known kind; the message says what is wrong, or what was pasted instead.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (kind, payload) = text::open(text)?;
        layout::read(kind, &payload)
    }

    /// The text. It is a secret, except that of a bound token.
    pub fn to_text(&self) -> Zeroizing<String> {
        text::seal(self.kind(), &layout::write(self))
    }

    /// What it is for.
    pub const fn kind(&self) -> TokenKind {
        match self {
            Self::Master(_) => TokenKind::Master,
            Self::Child(_) => TokenKind::Child,
            Self::User(_) => TokenKind::User,
            Self::Relay(_) => TokenKind::Relay,
            Self::Ticket(_) => TokenKind::Ticket,
        }
    }

    /// The coordinator.
    pub const fn server(&self) -> &ServerUrl {
        match self {
            Self::Master(token) => &token.server,
            Self::Child(token) | Self::User(token) => &token.server,
            Self::Relay(token) => &token.server,
            Self::Ticket(token) => &token.server,
        }
    }

    /// Root of the cluster.
    pub const fn root(&self) -> &RootFingerprint {
        match self {
            Self::Master(token) => &token.root,
            Self::Child(token) | Self::User(token) => &token.root,
            Self::Relay(token) => &token.root,
            Self::Ticket(token) => &token.root,
        }
    }

    /// Serial of the key; a join token and a ticket have none.
    pub const fn serial(&self) -> Option<Serial> {
        match self {
            Self::Master(token) => Some(token.serial),
            Self::Child(token) | Self::User(token) => Some(token.claims.peek().serial),
            Self::Relay(_) | Self::Ticket(_) => None,
        }
    }

    /// Requires a master key.
    ///
    /// # Errors
    /// When it is a token of another kind.
    pub fn into_master(self) -> Result<MasterToken, TokenError> {
        match self {
            Self::Master(token) => Ok(token),
            Self::Child(_) | Self::User(_) | Self::Relay(_) | Self::Ticket(_) => {
                Err(self.is_not(TokenKind::Master))
            }
        }
    }

    /// Requires a key that can serve tunnels: a child's or a user's.
    ///
    /// # Errors
    /// When it is a token of another kind; for a master key the code is `MASTER_CANNOT_ACT`.
    pub fn into_acting(self) -> Result<ChildToken, TokenError> {
        match self {
            Self::Child(token) | Self::User(token) => Ok(token),
            Self::Master(_) | Self::Relay(_) | Self::Ticket(_) => Err(self.is_not(TokenKind::Child)),
        }
    }

    /// Requires a relay's join token.
    ///
    /// # Errors
    /// When it is a token of another kind.
    pub fn into_relay(self) -> Result<RelayToken, TokenError> {
        match self {
            Self::Relay(token) => Ok(token),
            Self::Master(_) | Self::Child(_) | Self::User(_) | Self::Ticket(_) => {
                Err(self.is_not(TokenKind::Relay))
            }
        }
    }

    /// Requires a ticket.
    ///
    /// # Errors
    /// When it is a token of another kind.
    pub fn into_ticket(self) -> Result<TicketToken, TokenError> {
        match self {
            Self::Ticket(token) => Ok(token),
            Self::Master(_) | Self::Child(_) | Self::User(_) | Self::Relay(_) => {
                Err(self.is_not(TokenKind::Ticket))
            }
        }
    }

    const fn is_not(&self, expected: TokenKind) -> TokenError {
        TokenError::WrongKind { expected, found: self.kind() }
    }
}

impl ChildToken {
    /// Puts a token together.
    ///
    /// # Errors
    /// When the certificate is malformed, is not one of a child or a device, or is not for the seed.
    pub fn new(
        secret: Secret,
        certificate: Vec<u8>,
        root: RootFingerprint,
        server: ServerUrl,
    ) -> Result<Self, TokenError> {
        let claims = certificate::inspect(&certificate)?;
        if let Secret::Portable(seed) = &secret
            && seed.public() != claims.peek().subject
        {
            return Err(TokenError::Mismatch);
        }
        if !matches!(claims.peek().kind, Kind::Child | Kind::UserDevice) {
            return Err(TokenError::Mismatch);
        }
        Ok(Self { secret, certificate, claims, root, server })
    }

    /// The token of the kind that its certificate says.
    pub fn into_token(self) -> Token {
        if self.claims.peek().kind == Kind::UserDevice { Token::User(self) } else { Token::Child(self) }
    }

    /// Where the seed is.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What the certificate says; its signature has not been checked.
    pub const fn claims(&self) -> &Claims {
        self.claims.peek()
    }

    /// Root of the cluster.
    pub const fn root(&self) -> &RootFingerprint {
        &self.root
    }

    /// The coordinator.
    pub const fn server(&self) -> &ServerUrl {
        &self.server
    }
}

impl fmt::Debug for MasterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterToken")
            .field("serial", &self.serial)
            .field("project", &self.project)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChildToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildToken")
            .field("serial", &self.claims().serial)
            .field("secret", &self.secret)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RelayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayToken").field("server", &self.server).finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketToken").field("server", &self.server).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "issue")]
mod tests;
