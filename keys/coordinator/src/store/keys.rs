//! Credentials: how they are kept, found and added.

use mytunnel_keys::id::{NamePattern, ProjectId, PublicKey, Scopes, Serial, TenantId};
use mytunnel_keys::usage::Month;

use super::sql::{Reading, Row, Writing, params};
use super::{Store, StoreError, column};
use crate::authority::Role;

/// What kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum KeyKind {
    /// A person's key on one device.
    User,
    /// The master key of a project.
    Master,
    /// A child of either.
    Child,
    /// A relay.
    Relay,
}

impl KeyKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Master => "master",
            Self::Child => "child",
            Self::Relay => "relay",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::User, Self::Master, Self::Child, Self::Relay].into_iter().find(|kind| kind.name() == name)
    }
}

/// A credential with what its parent and its project say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) serial: Serial,
    pub(crate) kind: KeyKind,
    pub(crate) subject: PublicKey,
    /// A relay's is the tenant that operates the coordinator.
    pub(crate) tenant: TenantId,
    /// None for a relay, and for a device that may act in every project of its tenant.
    pub(crate) project: Option<ProjectId>,
    /// Account of a device.
    pub(crate) account: Option<String>,
    pub(crate) parent: Option<Serial>,
    pub(crate) label: String,
    pub(crate) hosts: Vec<NamePattern>,
    pub(crate) scopes: Scopes,
    pub(crate) issued_at: u64,
    /// None for a master key.
    pub(crate) not_after: Option<u64>,
    pub(crate) max_tunnels: u16,
    pub(crate) max_staleness: u32,
    pub(crate) bound: bool,
    /// The child whose tunnels it may take over.
    pub(crate) replaces: Option<Serial>,
    pub(crate) revoked_at: Option<u64>,
    /// When its children were revoked with it.
    pub(crate) cascaded_at: Option<u64>,
    pub(crate) parent_cascaded_at: Option<u64>,
    pub(crate) project_deleted_at: Option<u64>,
    /// Cents that it may cost in a month.
    pub(crate) budget_cents: Option<u64>,
    /// What the account of a device is.
    pub(crate) role: Option<Role>,
    /// Account of the device that minted it.
    pub(crate) parent_account: Option<String>,
}

/// A credential in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: KeyRow,
    /// Micro-cents that it has cost in the month, with its children.
    pub(crate) spent: u64,
}

/// Which credentials to list, by where they come from; and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kin {
    /// All of them, the oldest first.
    Any,
    /// Those that no other key minted, the oldest first.
    Roots,
    /// Those that this key minted, the newest first.
    Children(Serial),
}

/// Which credentials to list.
#[derive(Debug, Clone)]
pub(crate) struct KeyFilter {
    pub(crate) tenant: TenantId,
    pub(crate) project: Option<ProjectId>,
    /// This key and its children only.
    pub(crate) family: Option<Serial>,
    pub(crate) kin: Kin,
    /// This key only.
    pub(crate) only: Option<Serial>,
    /// Leave out what ended before this time.
    pub(crate) ended_after: u64,
    /// Continue behind this key: when it was made, and its serial.
    pub(crate) after: Option<(u64, Serial)>,
    pub(crate) limit: u64,
    /// The month whose spend is told.
    pub(crate) month: Month,
}

/// The columns of a [`KeyRow`]; `k` is the key, `p` its parent, `j` its project, `b` its budget. `more` are columns behind
/// them.
macro_rules! select_key {
    ($rest:literal) => {
        select_key!("", $rest)
    };
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT k.serial, k.kind, k.subject, k.tenant, k.project, k.account, k.parent, k.label, k.hosts,
                    k.scopes, k.issued_at, k.not_after, k.max_tunnels, k.max_staleness, k.bound, k.replaces,
                    k.revoked_at, k.cascaded_at, p.cascaded_at, j.deleted_at, b.cents, a.role, p.account",
            $more,
            " FROM keys k LEFT JOIN keys p ON p.serial = k.parent LEFT JOIN projects j ON j.id = k.project
             LEFT JOIN budgets b ON b.serial = k.serial LEFT JOIN accounts a ON a.id = k.account ",
            $rest
        )
    };
}

impl Reading<'_> {
    pub(super) fn key(&self, serial: &Serial) -> Result<Option<KeyRow>, StoreError> {
        self.first(select_key!("WHERE k.serial = $1"), params![serial.as_bytes()], key)
    }

    pub(super) fn key_of(&self, subject: &PublicKey) -> Result<Option<KeyRow>, StoreError> {
        self.first(select_key!("WHERE k.subject = $1"), params![subject.as_bytes()], key)
    }
}

impl Writing<'_> {
    pub(super) fn add_key(&self, new: &KeyRow) -> Result<(), StoreError> {
        let hosts: Vec<&str> = new.hosts.iter().map(NamePattern::as_str).collect();
        self.change(
            "INSERT INTO keys (serial, nonce, kind, subject, tenant, project, account, parent, label, hosts, scopes,
                               issued_at, not_after, max_tunnels, max_staleness, bound, replaces)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
            params![
                new.serial.as_bytes(),
                new.serial.nonce(),
                new.kind.name(),
                new.subject.as_bytes(),
                new.tenant.as_str(),
                new.project.as_ref().map(ProjectId::as_str),
                new.account,
                new.parent.as_ref().map(Serial::as_bytes),
                new.label,
                hosts.join(" "),
                new.scopes.to_string(),
                new.issued_at,
                new.not_after,
                new.max_tunnels,
                new.max_staleness,
                new.bound,
                new.replaces.as_ref().map(Serial::as_bytes),
            ],
        )?;
        Ok(())
    }
}

impl Store {
    /// The credential with that serial.
    pub(crate) async fn key(&self, serial: Serial) -> Result<Option<KeyRow>, StoreError> {
        self.engine.read(move |reading| reading.key(&serial)).await
    }

    /// The credential of that key.
    pub(crate) async fn key_of(&self, subject: PublicKey) -> Result<Option<KeyRow>, StoreError> {
        self.engine.read(move |reading| reading.key_of(&subject)).await
    }

    /// The credential with that nonce.
    pub(crate) async fn key_by_nonce(&self, nonce: String) -> Result<Option<KeyRow>, StoreError> {
        self.engine
            .read(move |reading| reading.first(select_key!("WHERE k.nonce = $1"), params![nonce], key))
            .await
    }

    /// Credentials in the order in which they were made.
    pub(crate) async fn keys(&self, filter: KeyFilter) -> Result<Vec<Listed>, StoreError> {
        self.engine.read(move |reading| reading.keys(&filter)).await
    }
}

impl Reading<'_> {
    fn keys(&self, filter: &KeyFilter) -> Result<Vec<Listed>, StoreError> {
        // All texts take the same parameters.
        let (text, family, start) = match filter.kin {
            Kin::Any => (ANY, filter.family, 0),
            Kin::Roots => (ROOTS, filter.family, 0),
            Kin::Children(parent) => (CHILDREN, Some(parent), i64::MAX as u64),
        };
        let (after, after_serial) =
            filter.after.map_or((start, [0; 16]), |(at, serial)| (at, *serial.as_bytes()));
        self.all(
            text,
            params![
                filter.month.number(),
                filter.tenant.as_str(),
                after,
                after_serial,
                filter.project.as_ref().map(ProjectId::as_str),
                family.as_ref().map(Serial::as_bytes),
                filter.only.as_ref().map(Serial::as_bytes),
                filter.ended_after,
                filter.limit,
            ],
            |row| Ok(Listed { key: key(row)?, spent: row.get(23)? }),
        )
    }
}

const ANY: &str = select_key!(
    ", coalesce(s.spent, 0)",
    "LEFT JOIN spend s ON s.serial = k.serial AND s.month = $1
     WHERE k.tenant = $2 AND k.kind <> 'relay' AND (k.issued_at, k.serial) > ($3, $4)
       AND ($5 IS NULL OR k.project = $5)
       AND ($6 IS NULL OR k.serial = $6 OR k.parent = $6)
       AND ($7 IS NULL OR k.serial = $7)
       AND coalesce(k.not_after, $8) >= $8
       AND coalesce(k.revoked_at, p.cascaded_at, j.deleted_at, $8) >= $8
     ORDER BY k.issued_at, k.serial LIMIT $9"
);

const ROOTS: &str = select_key!(
    ", coalesce(s.spent, 0)",
    "LEFT JOIN spend s ON s.serial = k.serial AND s.month = $1
     WHERE k.parent IS NULL AND k.tenant = $2 AND k.kind <> 'relay' AND (k.issued_at, k.serial) > ($3, $4)
       AND ($5 IS NULL OR k.project = $5)
       AND ($6 IS NULL OR k.serial = $6)
       AND ($7 IS NULL OR k.serial = $7)
       AND coalesce(k.not_after, $8) >= $8
       AND coalesce(k.revoked_at, p.cascaded_at, j.deleted_at, $8) >= $8
     ORDER BY k.issued_at, k.serial LIMIT $9"
);

const CHILDREN: &str = select_key!(
    ", coalesce(s.spent, 0)",
    "LEFT JOIN spend s ON s.serial = k.serial AND s.month = $1
     WHERE k.tenant = $2 AND (k.issued_at, k.serial) < ($3, $4)
       AND ($5 IS NULL OR k.project = $5)
       AND k.parent = $6
       AND ($7 IS NULL OR k.serial = $7)
       AND coalesce(k.not_after, $8) >= $8
       AND coalesce(k.revoked_at, p.cascaded_at, j.deleted_at, $8) >= $8
     ORDER BY k.issued_at DESC, k.serial DESC LIMIT $9"
);

fn key(row: &Row<'_>) -> Result<KeyRow, StoreError> {
    let kind: String = row.get(1)?;
    Ok(KeyRow {
        serial: column::serial(row, 0)?,
        kind: KeyKind::of(&kind).ok_or(StoreError::Malformed("kind of a key"))?,
        subject: column::public_key(row, 2)?,
        tenant: column::parsed(row, 3)?,
        project: column::maybe_parsed(row, 4)?,
        account: row.get(5)?,
        parent: column::maybe_serial(row, 6)?,
        label: row.get(7)?,
        hosts: column::words(row, 8)?,
        scopes: column::parsed(row, 9)?,
        issued_at: row.get(10)?,
        not_after: row.get(11)?,
        max_tunnels: row.get(12)?,
        max_staleness: row.get(13)?,
        bound: row.get(14)?,
        replaces: column::maybe_serial(row, 15)?,
        revoked_at: row.get(16)?,
        cascaded_at: row.get(17)?,
        parent_cascaded_at: row.get(18)?,
        project_deleted_at: row.get(19)?,
        budget_cents: row.get(20)?,
        role: column::maybe_parsed(row, 21)?,
        parent_account: row.get(22)?,
    })
}
