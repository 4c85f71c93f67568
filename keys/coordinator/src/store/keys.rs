//! Credentials: how they are kept, found and added.

use mytunnel_keys::id::{NamePattern, ProjectId, PublicKey, Scopes, Serial, TenantId};
use mytunnel_keys::usage::Month;

use super::filter::Text;
use super::sql::{Reading, Row, ToValue as _, Value, Writing, params};
use super::{Maker, Store, StoreError, column};
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
    /// When whoever signed the device in had proved who they are.
    pub(crate) proven_at: Option<u64>,
}

/// A credential in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: KeyRow,
    /// Micro-cents that it has cost in the month, with its children.
    pub(crate) spent: u64,
    /// Micro-cents that all devices of its account have cost, where they have one budget together.
    pub(crate) shared: Option<u64>,
    /// Who made it, if it is a master: the address of the account, unless that was deleted, and the device.
    pub(crate) maker: Option<Maker>,
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
                    k.revoked_at, k.cascaded_at, p.cascaded_at, j.deleted_at, b.cents, a.role, p.account, k.proven_at",
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
                               issued_at, not_after, max_tunnels, max_staleness, bound, replaces, proven_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
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
                new.proven_at,
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
        let mut found = Vec::new();
        for text in listing(filter) {
            found.extend(self.all(text.sql(), text.params(), |row| {
                Ok(Listed { key: key(row)?, spent: row.get(24)?, shared: row.get(28)?, maker: maker(row)? })
            })?);
        }
        let order = |row: &Listed| (row.key.issued_at, *row.key.serial.as_bytes());
        found.sort_by_key(order);
        if matches!(filter.kin, Kin::Children(_)) {
            found.reverse();
        }
        found.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
        Ok(found)
    }
}

/// Texts that find what a filter asks for, each with an index of its own: a page of each, of which the first is the page
/// of all.
pub(super) fn listing(filter: &KeyFilter) -> Vec<Text> {
    let found_by = |which, serial: Serial| narrowed(filter, which, &[serial.as_bytes().to_value()]);
    match (filter.kin, filter.only, filter.family) {
        (_, Some(only), _) => vec![found_by(" AND k.serial = ?", only)],
        (Kin::Children(parent), None, _) => vec![found_by(" AND k.parent = ?", parent)],
        (Kin::Roots, None, Some(family)) => {
            vec![found_by(" AND k.parent IS NULL AND k.serial = ?", family)]
        }
        (Kin::Roots, None, None) => vec![narrowed(filter, " AND k.parent IS NULL", &[])],
        (Kin::Any, None, Some(family)) => {
            vec![found_by(" AND k.serial = ?", family), found_by(" AND k.parent = ?", family)]
        }
        (Kin::Any, None, None) => vec![narrowed(filter, "", &[])],
    }
}

fn narrowed(filter: &KeyFilter, which: &str, of: &[Value]) -> Text {
    let newest_first = matches!(filter.kin, Kin::Children(_));
    let text =
        Text::new(START, params![filter.month.number(), filter.month.number(), filter.tenant.as_str()])
            .and(which, of)
            .and_if(" AND k.project = ?", filter.project.as_ref().map(|project| project.as_str().to_value()));
    let text = match &filter.family {
        // Only where it is another than what the rows are found by.
        Some(family) if filter.only.is_some() || newest_first => {
            text.and(" AND (k.serial = ? OR k.parent = ?)", params![family.as_bytes(), family.as_bytes()])
        }
        Some(_) | None => text,
    };
    let text = if filter.ended_after == 0 {
        text
    } else {
        let after = filter.ended_after;
        text.and(" AND coalesce(k.not_after, ?) >= ?", params![after, after])
            .and(" AND coalesce(k.revoked_at, p.cascaded_at, j.deleted_at, ?) >= ?", params![after, after])
    };
    let (way, order) = if newest_first {
        (" AND (k.issued_at, k.serial) < (?, ?)", " ORDER BY k.issued_at DESC, k.serial DESC LIMIT ?")
    } else {
        (" AND (k.issued_at, k.serial) > (?, ?)", " ORDER BY k.issued_at, k.serial LIMIT ?")
    };
    let text = match filter.after {
        Some((at, serial)) => text.and(way, params![at, serial.as_bytes()]),
        None => text,
    };
    text.and(order, params![filter.limit])
}

const START: &str = select_key!(
    ", coalesce(s.spent, 0), w.serial IS NOT NULL, o.email, w.device,
     CASE WHEN g.cents IS NOT NULL THEN coalesce(z.spent, 0) END",
    "LEFT JOIN spend s ON s.serial = k.serial AND s.month = ?
     LEFT JOIN makers w ON w.serial = k.serial
     LEFT JOIN accounts o ON o.id = w.account AND o.deleted_at IS NULL
     LEFT JOIN account_budgets g ON g.account = k.account
     LEFT JOIN account_spend z ON z.account = k.account AND z.month = ?
     WHERE k.tenant = ? AND k.kind <> 'relay'"
);

fn maker(row: &Row<'_>) -> Result<Option<Maker>, StoreError> {
    let known: bool = row.get(25)?;
    let maker = || Ok(Maker { account: row.get(26)?, device: column::maybe_serial(row, 27)? });
    known.then(maker).transpose()
}

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
        proven_at: row.get(23)?,
    })
}
