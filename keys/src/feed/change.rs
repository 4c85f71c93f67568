//! One thing that has changed.

use ciborium::Value;

use super::Gates;
use crate::{
    cbor::{self, FieldError},
    id::{DomainName, ProjectId, Serial, TenantId, TunnelId, TunnelKind, TunnelName},
    usage::Standing,
};

/// Label of the changes in a frame, which errors name.
pub(super) const CHANGES: i64 = 6;

/// A change that relays must know. Revocations carry the second until which they must be remembered: when the last
/// certificate is over that they can concern.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few live at a time, and each for a moment")]
pub enum Change {
    /// A key and all its children are revoked.
    RevokeTree {
        /// The parent.
        serial: Serial,
        /// Unix second.
        until: u64,
    },
    /// One key is revoked.
    Revoke {
        /// The key.
        serial: Serial,
        /// Unix second.
        until: u64,
    },
    /// A project is deleted, with all keys that are for it alone.
    RevokeProject {
        /// The project.
        project: ProjectId,
        /// Unix second.
        until: u64,
    },
    /// Every key that was issued earlier is revoked, whoever knows of it. Relays are not meant: they prove their right
    /// to their coordinator by other means.
    RevokeBefore {
        /// Unix second; what was issued in it stands.
        at: u64,
        /// Unix second.
        until: u64,
    },
    /// A name belongs to a project.
    Name {
        /// The name.
        name: TunnelName,
        /// Its owner.
        project: ProjectId,
        /// What its tunnel carries: what served it last, here or at another relay. `None` where the coordinator does not say.
        kind: Option<TunnelKind>,
    },
    /// A name belongs to nobody.
    NameFreed {
        /// The name.
        name: TunnelName,
    },
    /// A name belongs to nobody, and for now this tenant alone may take it: it was the last to have it.
    NameKept {
        /// The name.
        name: TunnelName,
        /// Who may have it back.
        tenant: TenantId,
    },
    /// There is a new trust bundle, which the reader has already checked and taken.
    Trust {
        /// Its signed bytes.
        bundle: Vec<u8>,
    },
    /// A tunnel has these gates from here on, in place of those before.
    Gates {
        /// The tunnel, which need not be live.
        tunnel: TunnelId,
        /// All of its gates.
        gates: Gates,
    },
    /// A tunnel is to end where it was registered by a relay that knew less than this epoch. Its node may register it
    /// again.
    Close {
        /// The tunnel.
        tunnel: TunnelId,
        /// The epoch in which it was closed.
        epoch: u64,
    },
    /// A key stands so by its budget. The amount is not in here: relays are leased parts of it.
    Budget {
        /// The key.
        serial: Serial,
        /// How it stands.
        standing: Standing,
    },
    /// A domain that its tenant has shown to be theirs leads to a tunnel, in place of wherever it led before.
    Domain {
        /// The domain.
        domain: DomainName,
        /// The tunnel's name, which belongs to a project of the tenant for as long as the domain leads there.
        name: TunnelName,
    },
    /// A domain leads nowhere.
    DomainGone {
        /// The domain.
        domain: DomainName,
    },
}

impl Change {
    pub(super) fn write(&self) -> Value {
        let serial = |serial: &Serial| Value::from(serial.as_bytes().as_slice());
        Value::Array(match self {
            Self::RevokeTree { serial: parent, until } => vec![1.into(), serial(parent), (*until).into()],
            Self::Revoke { serial: key, until } => vec![2.into(), serial(key), (*until).into()],
            Self::RevokeProject { project, until } => {
                vec![3.into(), project.as_str().into(), (*until).into()]
            }
            Self::Name { name, project, kind } => {
                let kind = kind.map(|kind| Value::from(kind.as_str()));
                [4.into(), name.as_str().into(), project.as_str().into()].into_iter().chain(kind).collect()
            }
            Self::NameFreed { name } => vec![5.into(), name.as_str().into()],
            Self::Trust { bundle } => vec![6.into(), bundle.as_slice().into()],
            Self::Gates { tunnel, gates } => {
                vec![7.into(), tunnel.as_bytes().as_slice().into(), gates.write()]
            }
            Self::Close { tunnel, epoch } => {
                vec![8.into(), tunnel.as_bytes().as_slice().into(), (*epoch).into()]
            }
            Self::Budget { serial: key, standing } => {
                let standing: u64 = match standing {
                    Standing::Free => 0,
                    Standing::Limited => 1,
                    Standing::Frozen => 2,
                };
                vec![9.into(), serial(key), standing.into()]
            }
            Self::RevokeBefore { at, until } => vec![10.into(), (*at).into(), (*until).into()],
            Self::Domain { domain, name } => vec![11.into(), domain.as_str().into(), name.as_str().into()],
            Self::DomainGone { domain } => vec![12.into(), domain.as_str().into()],
            Self::NameKept { name, tenant } => vec![13.into(), name.as_str().into(), tenant.as_str().into()],
        })
    }

    /// A change of a kind that this version does not know may take rights away, so that it is refused.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let parts = value.as_array()?;
        let bytes = |value: &Value| value.as_bytes()?.as_slice().try_into().ok();
        let serial = |value: &Value| bytes(value).map(Serial::from_bytes);
        let tunnel = |value: &Value| bytes(value).map(TunnelId::from_bytes);
        Some(match (number(parts.first()?)?, &parts[1..]) {
            (1, [key, until]) => Self::RevokeTree { serial: serial(key)?, until: number(until)? },
            (2, [key, until]) => Self::Revoke { serial: serial(key)?, until: number(until)? },
            (3, [project, until]) => {
                Self::RevokeProject { project: cbor::text(project)?, until: number(until)? }
            }
            (4, [name, project]) => {
                Self::Name { name: cbor::text(name)?, project: cbor::text(project)?, kind: None }
            }
            (4, [name, project, kind]) => Self::Name {
                name: cbor::text(name)?,
                project: cbor::text(project)?,
                kind: Some(cbor::text(kind)?),
            },
            (5, [name]) => Self::NameFreed { name: cbor::text(name)? },
            (6, [bundle]) => Self::Trust { bundle: bundle.as_bytes()?.clone() },
            (7, [id, gates]) => Self::Gates { tunnel: tunnel(id)?, gates: Gates::read(gates)? },
            (8, [id, epoch]) => Self::Close { tunnel: tunnel(id)?, epoch: number(epoch)? },
            (9, [key, standing]) => {
                let standings = [Standing::Free, Standing::Limited, Standing::Frozen];
                let standing = *standings.get(usize::try_from(number(standing)?).ok()?)?;
                Self::Budget { serial: serial(key)?, standing }
            }
            (10, [at, until]) => Self::RevokeBefore { at: number(at)?, until: number(until)? },
            (11, [domain, name]) => Self::Domain { domain: cbor::text(domain)?, name: cbor::text(name)? },
            (12, [domain]) => Self::DomainGone { domain: cbor::text(domain)? },
            (13, [name, tenant]) => Self::NameKept { name: cbor::text(name)?, tenant: cbor::text(tenant)? },
            _ => return None,
        })
    }
}

pub(super) fn write_all(changes: &[Change]) -> Value {
    Value::Array(changes.iter().map(Change::write).collect())
}

pub(super) fn read_all(changes: &[Value]) -> Result<Vec<Change>, FieldError> {
    changes.iter().map(|change| Change::read(change).ok_or(FieldError::Value(CHANGES))).collect()
}

pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_integer()?.try_into().ok()
}
