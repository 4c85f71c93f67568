//! What a certificate says.

use ciborium::Value;
use thiserror::Error;

use crate::{
    cbor::{self, FieldError, Reader, Writer},
    id::{Cluster, NamePattern, ProjectId, PublicKey, Scopes, Serial, TenantId, TunnelKind, TunnelName},
    trust::PRIVATE,
};

/// Most host patterns of a certificate.
const MAX_HOSTS: usize = 16;

const DAY: u64 = 24 * 60 * 60;

/// Whose key it is. A master key has no certificate, so that it cannot act even where a check is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A person on one device.
    UserDevice,
    /// A short-lived key of one project.
    Child,
    /// A relay.
    Relay,
    /// A guest of a pairing.
    PairGuest,
}

impl Kind {
    /// Seconds that a certificate of this kind may live. The verifier holds the issuer to it.
    pub const fn max_life(self) -> u64 {
        match self {
            Self::Child | Self::PairGuest => DAY,
            Self::UserDevice | Self::Relay => 400 * DAY,
        }
    }

    const fn number(self) -> u64 {
        match self {
            Self::UserDevice => 1,
            Self::Child => 2,
            Self::Relay => 3,
            Self::PairGuest => 4,
        }
    }

    const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::UserDevice),
            2 => Some(Self::Child),
            3 => Some(Self::Relay),
            4 => Some(Self::PairGuest),
            _ => None,
        }
    }
}

/// Properties of a certificate that are either there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The secret never leaves the machine that made it.
    pub const BOUND: Self = Self(1);

    const ALL: u8 = 1;

    /// Whether all of the other set are in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The cluster it is for (`aud`).
    pub cluster: Cluster,
    /// Its serial (`cti`).
    pub serial: Serial,
    /// Whose key it is.
    pub kind: Kind,
    /// The holder's key (`cnf`).
    pub subject: PublicKey,
    /// The tenant.
    pub tenant: TenantId,
    /// The project; none means every project of the tenant.
    pub project: Option<ProjectId>,
    /// Serial of the key that minted it.
    pub parent: Option<Serial>,
    /// Names it may use; empty means no name.
    pub hosts: Vec<NamePattern>,
    /// What it may do (`scope`).
    pub scopes: Scopes,
    /// Unix second of issue (`iat`).
    pub issued_at: u64,
    /// First second of validity (`nbf`).
    pub not_before: u64,
    /// Second at which validity ends (`exp`).
    pub not_after: u64,
    /// Tunnels it may have at one time.
    pub max_tunnels: u16,
    /// Budget that its use is charged to. The amount is not in here, because it changes.
    pub budget: Option<[u8; 8]>,
    /// Seconds that a relay may go without news of revocations and still take new tunnels of this holder.
    pub max_staleness: u32,
    /// Properties.
    pub flags: Flags,
    /// The one serial whose live tunnels it may take over: an older child of the same parent.
    pub replaces: Option<Serial>,
    /// Whose device it is: the same for all devices of a person, and of nobody else in the tenant.
    pub account: Option<[u8; 8]>,
}

/// Why claims cannot be those of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// It ends before it begins.
    #[error("it ends before it begins")]
    Order,
    /// Its life is longer than its kind may have.
    #[error("a life of {life} s is over the limit of {max} s")]
    TooLong {
        /// Seconds from issue to end.
        life: u64,
        /// The limit of the kind.
        max: u64,
    },
    /// A child without project or parent.
    #[error("a child key needs a project and a parent")]
    Orphan,
    /// Another than a child that replaces a key, or a child that replaces itself.
    #[error("only a child replaces a key, and another than itself")]
    Replaces,
    /// Too many host patterns.
    #[error("{0} host patterns are too many")]
    Hosts(usize),
    /// Too many bytes: fewer or shorter host patterns are the cure.
    #[error("a certificate of {0} bytes is too large")]
    TooLarge(usize),
}

impl Claims {
    /// Whether the holder may use this name.
    pub fn allows_name(&self, name: &TunnelName) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the holder may serve this kind of tunnel. A person need not have asked by name for what may be asked for.
    pub const fn allows_kind(&self, kind: TunnelKind) -> bool {
        let scopes =
            if matches!(self.kind, Kind::UserDevice) { self.scopes.with_asked() } else { self.scopes };
        scopes.contains(kind.scope())
    }

    /// The rules that hold without any context.
    ///
    /// # Errors
    /// When one of them is broken.
    pub fn check(&self) -> Result<(), ClaimsError> {
        if self.not_after <= self.not_before {
            return Err(ClaimsError::Order);
        }
        let life = self.not_after.saturating_sub(self.issued_at.min(self.not_before));
        let max = self.kind.max_life();
        if life > max {
            return Err(ClaimsError::TooLong { life, max });
        }
        if self.kind == Kind::Child && (self.project.is_none() || self.parent.is_none()) {
            return Err(ClaimsError::Orphan);
        }
        if self.replaces.is_some_and(|old| self.kind != Kind::Child || old == self.serial) {
            return Err(ClaimsError::Replaces);
        }
        if self.hosts.len() > MAX_HOSTS {
            return Err(ClaimsError::Hosts(self.hosts.len()));
        }
        Ok(())
    }

    pub(super) fn read(payload: &[u8]) -> Result<Self, FieldError> {
        let mut claims = Reader::new(cbor::decode(payload)?)?;
        let mut private = claims.map(PRIVATE)?;
        private.exactly(1, 1)?;
        let read = Self {
            cluster: claims.text(3)?,
            not_after: claims.uint(4)?,
            not_before: claims.uint(5)?,
            issued_at: claims.uint(6)?,
            serial: claims.bytes(7)?,
            subject: read_confirmation(claims.map(8)?)?,
            scopes: claims.optional_text(9)?.unwrap_or_default(),
            kind: Kind::from_number(private.uint(2)?).ok_or(FieldError::Value(2))?,
            tenant: private.text(3)?,
            project: private.optional_text(4)?,
            parent: private.optional_bytes(5)?,
            hosts: read_hosts(private.array(6)?)?,
            max_tunnels: private.uint(7)?,
            budget: private.optional_bytes(8)?,
            max_staleness: private.uint(9)?,
            flags: read_flags(&mut private)?,
            replaces: private.optional_bytes(11)?,
            account: private.optional_bytes(12)?,
        };
        private.finish()?;
        claims.finish()?;
        cbor::same(payload, &read.write())?;
        Ok(read)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let hosts = self.hosts.iter().map(|pattern| pattern.as_str().into()).collect();
        let private = Writer::new()
            .put(1, 1)
            .put(2, self.kind.number())
            .put(3, self.tenant.as_str())
            .put_some(4, self.project.as_ref().map(ProjectId::as_str))
            .put_some(5, self.parent.as_ref().map(|serial| serial.as_bytes().as_slice()))
            .put(6, Value::Array(hosts))
            .put(7, self.max_tunnels)
            .put_some(8, self.budget.as_ref().map(<[u8; 8]>::as_slice))
            .put(9, self.max_staleness)
            .put_some(10, (self.flags != Flags::NONE).then_some(self.flags.0))
            .put_some(11, self.replaces.as_ref().map(|serial| serial.as_bytes().as_slice()))
            .put_some(12, self.account.as_ref().map(<[u8; 8]>::as_slice));
        let claims = Writer::new()
            .put(3, self.cluster.as_str())
            .put(4, self.not_after)
            .put(5, self.not_before)
            .put(6, self.issued_at)
            .put(7, self.serial.as_bytes().as_slice())
            .put(8, write_confirmation(&self.subject))
            .put_some(9, (!self.scopes.is_empty()).then(|| self.scopes.to_string()))
            .put(PRIVATE, private.finish());
        cbor::encode(&claims.finish())
    }
}

/// `cnf` with a COSE_Key of type OKP on Ed25519.
fn write_confirmation(key: &PublicKey) -> Value {
    let key = Writer::new().put(1, 1).put(-1, 6).put(-2, key.as_bytes().as_slice());
    Writer::new().put(1, key.finish()).finish()
}

fn read_confirmation(mut confirmation: Reader) -> Result<PublicKey, FieldError> {
    let mut key = confirmation.map(1)?;
    key.exactly(1, 1)?;
    key.exactly(-1, 6)?;
    let subject = key.bytes(-2)?;
    key.finish()?;
    confirmation.finish()?;
    Ok(subject)
}

fn read_hosts(hosts: Vec<Value>) -> Result<Vec<NamePattern>, FieldError> {
    hosts.iter().map(|host| cbor::text(host).ok_or(FieldError::Value(6))).collect()
}

fn read_flags(private: &mut Reader) -> Result<Flags, FieldError> {
    let Some(value) = private.optional(10) else { return Ok(Flags::NONE) };
    let flags = value.as_integer().and_then(|flags| u8::try_from(flags).ok()).ok_or(FieldError::Value(10))?;
    if flags & !Flags::ALL == 0 { Ok(Flags(flags)) } else { Err(FieldError::Value(10)) }
}
