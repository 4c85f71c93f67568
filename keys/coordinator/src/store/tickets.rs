//! Tickets for private shares: made, listed, withdrawn, and used once.

use std::net::IpAddr;

use mytunnel_keys::id::{ProjectId, PublicKey, Serial, TenantId, TunnelName};

use super::sql::{Reading, Row, Writing, params};
use super::{KeyKind, KeyRow, Store, StoreError, column};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, MintFacts, Redemption, Refusal, TICKETS_REMEMBERED};

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

    /// Whether a guest would be let in, and the ticket if there is one: strangers and late guests do not keep the writer
    /// busy.
    pub(crate) async fn may_redeem(
        &self,
        guest: Guest,
        now: u64,
    ) -> Result<(Option<TicketRow>, Result<(), Refusal>), StoreError> {
        self.engine
            .read(move |reading| {
                let Some((row, parent)) = reading.ticket(&guest.digest)? else {
                    return Ok((None, Err(authority::no_such_ticket())));
                };
                let there = reading.key_of(&guest.subject)?;
                let decided = authority::may_redeem(&row, &parent, there, now).map(drop);
                Ok((Some(row), decided))
            })
            .await
    }

    /// Tickets of a tenant that are open or remembered.
    pub(crate) async fn tickets(&self, tenant: TenantId, now: u64) -> Result<Vec<TicketRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    select_ticket!("WHERE tenant = $1 AND expires_at > $2 ORDER BY created_at, id"),
                    params![tenant.as_str(), now.saturating_sub(TICKETS_REMEMBERED)],
                    ticket,
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
}

impl Writing<'_> {
    fn issue_ticket(
        &self,
        new: NewTicket,
        room: usize,
        now: u64,
    ) -> Result<Result<TicketRow, Refusal>, StoreError> {
        let over = now.saturating_sub(TICKETS_REMEMBERED);
        self.change("DELETE FROM tickets WHERE expires_at <= $1", params![over])?;
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
        let kept = self.one(
            "SELECT count(*) FROM tickets WHERE tenant = $1",
            params![parent.tenant.as_str()],
            column::only,
        )?;
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
        let there = self.key_of(&guest.subject)?;
        let key = match authority::may_redeem(&row, &parent, there, now) {
            Ok(Redemption::Again(key)) => *key,
            Ok(Redemption::First) => match self.let_in(&row, &parent, guest, room, now)? {
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
        room: usize,
        now: u64,
    ) -> Result<Result<KeyRow, Refusal>, StoreError> {
        let project = self.project(&row.project)?;
        let facts = MintFacts { parent, project: project.as_ref(), replaced: None, room };
        let request = authority::for_guest(Some(row.project.clone()), &row.name, row.ttl);
        let grant = match authority::may_mint(&facts, &request, now) {
            Ok(grant) => grant,
            Err(refusal) => return Ok(Err(authority::not_let_in(refusal))),
        };
        let used = self.change(
            "UPDATE tickets SET used_by = $1 WHERE id = $2 AND used_by IS NULL",
            params![guest.serial.as_bytes(), row.id],
        )?;
        if used == 0 {
            return Ok(Err(authority::ticket_used()));
        }
        let child = authority::child(parent, guest.subject, &request, grant, guest.serial, now);
        let key = authority::guest(child, &row.id);
        self.add_key(&key)?;
        let subject = Party::Key(KeyKind::Child, key.serial);
        let actor = Party::Ticket(row.id.clone());
        let detail = Party::Address(guest.address).to_string();
        self.audit(&Entry { detail, ..ticket_entry(row, actor, Act::TicketUse, subject, now) })?;
        Ok(Ok(key))
    }

    /// What people call whoever holds a key: by the account's address, or the name of the device or project.
    fn known_as(&self, key: &KeyRow) -> Result<String, StoreError> {
        let account = match &key.account {
            Some(id) => self.account_by_id(id)?,
            None => None,
        };
        Ok(account.map_or_else(|| key.label.clone(), |account| account.email))
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
