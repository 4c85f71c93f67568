//! Tickets for private shares: made, listed, withdrawn, and used once.

use std::collections::{BTreeMap, btree_map};
use std::net::IpAddr;

use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId, TunnelName};

use super::feed::STEP;
use super::sql::{Reading, Row, Writing, params};
use super::{KeyKind, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{
    self, Caller, Grant, KeptTickets, MintFacts, MintRequest, Redemption, Refusal, TICKETS_REMEMBERED,
};

/// A ticket to be made.
#[derive(Debug)]
pub(crate) struct NewTicket {
    pub(crate) id: String,
    /// Of its secret.
    pub(crate) digest: [u8; 32],
    pub(crate) parent: Serial,
    pub(crate) project: Option<ProjectId>,
    pub(crate) name: TunnelName,
    /// Seconds in which it has to be used.
    pub(crate) within: u64,
    /// Seconds that the guest's key lives.
    pub(crate) ttl: u64,
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TicketRow {
    pub(crate) id: String,
    pub(crate) tenant: TenantId,
    pub(crate) parent: Serial,
    pub(crate) project: ProjectId,
    pub(crate) name: TunnelName,
    pub(crate) ttl: u64,
    pub(crate) created_at: u64,
    pub(crate) expires_at: u64,
    /// The guest's key.
    pub(crate) used_by: Option<Serial>,
}

/// A guest who comes with a ticket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    pub(crate) digest: [u8; 32],
    pub(crate) subject: PublicKey,
    /// Of the key that they get.
    pub(crate) serial: Serial,
    pub(crate) address: Option<IpAddr>,
}

/// What a guest gets.
#[derive(Debug)]
pub(crate) struct LetIn {
    pub(crate) key: KeyRow,
    pub(crate) name: TunnelName,
    /// Whose ticket it was, as people call them.
    pub(crate) from: String,
}

/// What a look at a ticket has shown.
#[derive(Debug)]
pub(crate) struct Looked {
    /// The ticket, if there is one.
    pub(crate) ticket: Option<TicketRow>,
    /// What the guest who has used it already gets once more; none where a key is to be made.
    pub(crate) decided: Result<Option<LetIn>, Refusal>,
}

/// What a ticket leads to.
enum Way {
    First(Grant),
    Again(Box<KeyRow>),
}

/// The columns of a [`TicketRow`].
macro_rules! select_ticket {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant, parent, project, name, ttl, created_at, expires_at, used_by FROM tickets ",
            $rest
        )
    };
}

impl Store {
    /// Makes a ticket, if its parent could make the guest's key at this moment.
    pub(crate) async fn issue_ticket(
        &self,
        new: NewTicket,
        room: usize,
        now: u64,
    ) -> Result<Result<TicketRow, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.issue_ticket(new, room, now)).await
    }

    /// Whether a guest would be let in. Strangers, late guests, those whose ticket is void and those who come again do not keep
    /// the writer busy.
    pub(crate) async fn look_at_ticket(
        &self,
        guest: Guest,
        room: usize,
        now: u64,
    ) -> Result<Looked, StoreError> {
        self.engine
            .read(move |reading| {
                let Some((row, parent)) = reading.ticket(&guest.digest)? else {
                    return Ok(Looked { ticket: None, decided: Err(authority::no_such_ticket()) });
                };
                let decided = match reading.way(&row, &parent, &guest, room, now)? {
                    Ok(Way::First(_)) => Ok(None),
                    Ok(Way::Again(key)) => {
                        let from = reading.known_as(&parent)?;
                        Ok(Some(LetIn { key: *key, name: row.name.clone(), from }))
                    }
                    Err(refusal) => Err(refusal),
                };
                Ok(Looked { ticket: Some(row), decided })
            })
            .await
    }

    /// Tickets of a tenant that are open or remembered, and whether each is void: not used, and whoever made it may let nobody in
    /// at this moment.
    pub(crate) async fn tickets(
        &self,
        tenant: TenantId,
        room: usize,
        now: u64,
    ) -> Result<Vec<(TicketRow, bool)>, StoreError> {
        self.engine
            .read(move |reading| {
                let rows = reading.all(
                    select_ticket!("WHERE tenant = $1 AND expires_at > $2 ORDER BY created_at, id"),
                    params![tenant.as_str(), now.saturating_sub(TICKETS_REMEMBERED)],
                    ticket,
                )?;
                let mut parents = BTreeMap::new();
                let mut told = Vec::with_capacity(rows.len());
                for row in rows {
                    let parent = match parents.entry(row.parent) {
                        btree_map::Entry::Occupied(known) => known.into_mut(),
                        btree_map::Entry::Vacant(place) => place.insert(reading.key(&row.parent)?),
                    };
                    let is_void = match parent {
                        Some(parent) if row.used_by.is_none() => {
                            reading.granted(&row, parent, room, now)?.is_err()
                        }
                        Some(_) => false,
                        None => true,
                    };
                    told.push((row, is_void));
                }
                Ok(told)
            })
            .await
    }

    /// Forgets tickets that nobody needs to be told of any more.
    pub(crate) async fn forget_tickets(&self, now: u64) -> Result<(), StoreError> {
        let over = now.saturating_sub(TICKETS_REMEMBERED);
        self.in_steps(move |writing| {
            writing.change(
                "DELETE FROM tickets WHERE id IN
                   (SELECT id FROM tickets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)",
                params![over, STEP],
            )
        })
        .await
    }

    /// Takes a ticket back that was not used.
    pub(crate) async fn withdraw_ticket(
        &self,
        caller: Caller,
        id: String,
        now: u64,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.engine.write(move |writing| writing.withdraw_ticket(&caller, &id, now)).await
    }

    /// Makes a guest's key and uses the ticket up, if its parent's state at this moment allows it.
    pub(crate) async fn redeem(
        &self,
        guest: Guest,
        room: usize,
        now: u64,
    ) -> Result<Result<LetIn, Refusal>, StoreError> {
        self.engine.write(move |writing| writing.redeem(&guest, room, now)).await
    }
}

impl Reading<'_> {
    /// The ticket of that secret, with the key that made it.
    fn ticket(&self, digest: &[u8; 32]) -> Result<Option<(TicketRow, KeyRow)>, StoreError> {
        let found = self.first(select_ticket!("WHERE digest = $1"), params![*digest], ticket)?;
        let Some(row) = found else { return Ok(None) };
        Ok(self.key(&row.parent)?.map(|parent| (row, parent)))
    }

    /// Where the ticket leads this guest, by what its parent may do at this moment.
    fn way(
        &self,
        row: &TicketRow,
        parent: &KeyRow,
        guest: &Guest,
        room: usize,
        now: u64,
    ) -> Result<Result<Way, Refusal>, StoreError> {
        let there = self.key_of(&guest.subject)?;
        match authority::may_redeem(row, parent, there, now) {
            Ok(Redemption::Again(key)) => Ok(Ok(Way::Again(key))),
            Ok(Redemption::First) => Ok(self.granted(row, parent, room, now)?.map(Way::First)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// What the guest's key may do, if its parent may make it at this moment.
    fn granted(
        &self,
        row: &TicketRow,
        parent: &KeyRow,
        room: usize,
        now: u64,
    ) -> Result<Result<Grant, Refusal>, StoreError> {
        let project = self.project(&row.project)?;
        let facts = MintFacts { parent, project: project.as_ref(), replaced: None, room };
        Ok(authority::may_mint(&facts, &request_of(row), now).map_err(authority::not_let_in))
    }

    /// What people call whoever holds a key: by the account's address, or the name of the device or project.
    fn known_as(&self, key: &KeyRow) -> Result<String, StoreError> {
        let account = match &key.account {
            Some(id) => self.account_by_id(id)?,
            None => None,
        };
        Ok(account.map_or_else(|| key.label.clone(), |account| account.email))
    }
}

impl Writing<'_> {
    fn issue_ticket(
        &self,
        new: NewTicket,
        room: usize,
        now: u64,
    ) -> Result<Result<TicketRow, Refusal>, StoreError> {
        let Some(parent) = self.key(&new.parent)? else { return Ok(Err(Refusal::unknown_key())) };
        let wanted = match &new.project {
            Some(project) => self.project(project)?,
            None => None,
        };
        let facts = MintFacts { parent: &parent, project: wanted.as_ref(), replaced: None, room };
        let request = authority::for_guest(new.project, &new.name, new.ttl);
        let project = match authority::may_mint(&facts, &request, now) {
            Ok(grant) => grant.project,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let over = now.saturating_sub(TICKETS_REMEMBERED);
        let kept = KeptTickets {
            of_tenant: self.one(
                "SELECT count(*) FROM tickets WHERE tenant = $1 AND expires_at > $2",
                params![parent.tenant.as_str(), over],
                column::only,
            )?,
            of_key: self.one(
                "SELECT count(*) FROM tickets WHERE tenant = $1 AND parent = $2 AND expires_at > $3",
                params![parent.tenant.as_str(), parent.serial.as_bytes(), over],
                column::only,
            )?,
        };
        let owner = self.owner_of(&new.name)?;
        if let Err(refusal) =
            authority::may_issue_ticket(&new.name, owner.as_ref(), &project, new.within, kept)
        {
            return Ok(Err(refusal));
        }
        let row = TicketRow {
            id: new.id,
            tenant: parent.tenant.clone(),
            parent: parent.serial,
            project,
            name: new.name,
            ttl: new.ttl,
            created_at: now,
            expires_at: now + new.within,
            used_by: None,
        };
        if !self.add_ticket(&row, &new.digest)? {
            return Ok(Err(authority::ticket_there()));
        }
        let actor = Party::Key(parent.kind, parent.serial);
        self.note_ticket(&row, actor, Act::TicketCreate, Party::Ticket(row.id.clone()), now)?;
        Ok(Ok(row))
    }

    /// False where there is one of that secret.
    fn add_ticket(&self, row: &TicketRow, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let added = self.change(
            "INSERT INTO tickets (id, digest, tenant, parent, project, name, ttl, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (digest) DO NOTHING",
            params![
                row.id,
                *digest,
                row.tenant.as_str(),
                row.parent.as_bytes(),
                row.project.as_str(),
                row.name.as_str(),
                row.ttl,
                row.created_at,
                row.expires_at,
            ],
        )?;
        Ok(added > 0)
    }

    fn withdraw_ticket(
        &self,
        caller: &Caller,
        id: &str,
        now: u64,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(row) = self.first(select_ticket!("WHERE id = $1"), params![id], ticket)? else {
            return Ok(Err(Refusal::not_found("ticket")));
        };
        let Some(parent) = self.key(&row.parent)? else { return Ok(Err(Refusal::not_found("ticket"))) };
        if let Err(refusal) = authority::may_withdraw_ticket(caller, &row, &parent) {
            return Ok(Err(refusal));
        }
        self.change("DELETE FROM tickets WHERE id = $1", params![id])?;
        self.note_ticket(&row, caller.party(), Act::TicketDelete, Party::Ticket(row.id.clone()), now)?;
        Ok(Ok(()))
    }

    fn redeem(&self, guest: &Guest, room: usize, now: u64) -> Result<Result<LetIn, Refusal>, StoreError> {
        let Some((row, parent)) = self.ticket(&guest.digest)? else {
            return Ok(Err(authority::no_such_ticket()));
        };
        let from = self.known_as(&parent)?;
        let key = match self.way(&row, &parent, guest, room, now)? {
            Ok(Way::Again(key)) => *key,
            Ok(Way::First(grant)) => match self.let_in(&row, &parent, guest, grant, now)? {
                Ok(key) => key,
                Err(refusal) => return Ok(Err(refusal)),
            },
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(LetIn { key, name: row.name, from }))
    }

    fn let_in(
        &self,
        row: &TicketRow,
        parent: &KeyRow,
        guest: &Guest,
        grant: Grant,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let used = self.change(
            "UPDATE tickets SET used_by = $1 WHERE id = $2 AND used_by IS NULL",
            params![guest.serial.as_bytes(), row.id],
        )?;
        if used == 0 {
            return Ok(Err(authority::ticket_used()));
        }
        let child = authority::child(parent, guest.subject, &request_of(row), grant, guest.serial, now);
        let key = authority::guest(child, &row.id);
        self.add_key(&key)?;
        let subject = Party::Key(KeyKind::Child, key.serial);
        let actor = Party::Ticket(row.id.clone());
        let detail = Party::Address(guest.address).to_string();
        self.audit(&Entry { detail, ..ticket_entry(row, actor, Act::TicketUse, subject, now) })?;
        Ok(Ok(key))
    }

    fn note_ticket(
        &self,
        row: &TicketRow,
        actor: Party,
        act: Act,
        subject: Party,
        now: u64,
    ) -> Result<(), StoreError> {
        self.audit(&ticket_entry(row, actor, act, subject, now))
    }
}

/// The guest's key, as it is asked for.
fn request_of(row: &TicketRow) -> MintRequest {
    authority::for_guest(Some(row.project.clone()), &row.name, row.ttl)
}

fn ticket_entry(row: &TicketRow, actor: Party, act: Act, subject: Party, now: u64) -> Entry {
    Entry {
        at: now,
        tenant: Some(row.tenant.clone()),
        actor,
        act,
        subject,
        project: Some(row.project.clone()),
        detail: row.name.to_string(),
    }
}

fn ticket(row: &Row<'_>) -> Result<TicketRow, StoreError> {
    Ok(TicketRow {
        id: row.get(0)?,
        tenant: column::parsed(row, 1)?,
        parent: column::serial(row, 2)?,
        project: column::parsed(row, 3)?,
        name: column::parsed(row, 4)?,
        ttl: row.get(5)?,
        created_at: row.get(6)?,
        expires_at: row.get(7)?,
        used_by: column::maybe_serial(row, 8)?,
    })
}
