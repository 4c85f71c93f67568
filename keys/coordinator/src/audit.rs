//! The audit log: append-only, each row bound to all before it.
//!
//! A row's hash is SHA-256 over a domain string, the hash of the row before it and the row's own fields, each
//! with its length. Whoever keeps an earlier head (relays get it with every heartbeat) notices any later edit.
//! A row never holds a secret: acts name keys by their nonce.

mod log;

use std::fmt;
use std::net::IpAddr;

use mytunnel_keys::id::{DomainName, ProjectId, Serial, TenantId};
use sha2::{Digest as _, Sha256};

pub(crate) use self::log::{AuditQuery, Verdict};
use crate::store::KeyKind;

const DOMAIN: &[u8] = b"mytunnel audit 1\0";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    OwnerSetup,
    Login,
    LoginRefused,
    Logout,
    SessionEnd,
    SessionReuse,
    MfaEnable,
    MfaDisable,
    MfaCodes,
    MfaRefused,
    IdentityLink,
    IdentityUnlink,
    PasswordChange,
    PasswordAsk,
    PasswordReset,
    InvitationCreate,
    InvitationDelete,
    AccountCreate,
    AccountRole,
    AccountDelete,
    DeviceAdd,
    ProjectCreate,
    ProjectDelete,
    KeyMint,
    TicketCreate,
    TicketUse,
    TicketDelete,
    TicketRefused,
    KeyBudget,
    BudgetRefused,
    MintRefused,
    KeyRevoke,
    RevokeRefused,
    RequestRefused,
    RelayToken,
    RelayJoin,
    JoinRefused,
    RelayRenew,
    TunnelUp,
    TunnelRefused,
    TunnelClose,
    GateSet,
    GateDrop,
    GateSessionsEnd,
    GateRefused,
    UsageRefused,
    RefusalsMore,
    DomainAdd,
    DomainVerify,
    DomainLose,
    DomainRemove,
    PlanSet,
    EraBegin,
}

impl Act {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OwnerSetup => "owner.setup",
            Self::Login => "login",
            Self::LoginRefused => "login.refused",
            Self::Logout => "logout",
            Self::SessionEnd => "session.end",
            Self::SessionReuse => "session.reuse",
            Self::MfaEnable => "mfa.enable",
            Self::MfaDisable => "mfa.disable",
            Self::MfaCodes => "mfa.codes",
            Self::MfaRefused => "mfa.refused",
            Self::IdentityLink => "identity.link",
            Self::IdentityUnlink => "identity.unlink",
            Self::PasswordAsk => "password.ask",
            Self::PasswordChange => "password.change",
            Self::PasswordReset => "password.reset",
            Self::InvitationCreate => "invitation.create",
            Self::InvitationDelete => "invitation.delete",
            Self::AccountCreate => "account.create",
            Self::AccountRole => "account.role",
            Self::AccountDelete => "account.delete",
            Self::DeviceAdd => "device.add",
            Self::ProjectCreate => "project.create",
            Self::ProjectDelete => "project.delete",
            Self::KeyMint => "key.mint",
            Self::TicketCreate => "ticket.create",
            Self::TicketUse => "ticket.use",
            Self::TicketDelete => "ticket.delete",
            Self::TicketRefused => "ticket.refused",
            Self::KeyBudget => "key.budget",
            Self::BudgetRefused => "budget.refused",
            Self::MintRefused => "mint.refused",
            Self::KeyRevoke => "key.revoke",
            Self::RevokeRefused => "revoke.refused",
            Self::RequestRefused => "request.refused",
            Self::RelayToken => "relay.token",
            Self::RelayJoin => "relay.join",
            Self::JoinRefused => "join.refused",
            Self::RelayRenew => "relay.renew",
            Self::TunnelUp => "tunnel.up",
            Self::TunnelRefused => "tunnel.refused",
            Self::TunnelClose => "tunnel.close",
            Self::GateSet => "gate.set",
            Self::GateDrop => "gate.drop",
            Self::GateSessionsEnd => "gate.sessions.end",
            Self::GateRefused => "gate.refused",
            Self::UsageRefused => "usage.refused",
            Self::RefusalsMore => "refusals.more",
            Self::DomainAdd => "domain.add",
            Self::DomainVerify => "domain.verify",
            Self::DomainLose => "domain.lose",
            Self::DomainRemove => "domain.remove",
            Self::PlanSet => "plan.set",
            Self::EraBegin => "era.begin",
        }
    }
}

/// Who did it, or whom it was done to. The text is `kind:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Party {
    Account(String),
    Key(KeyKind, Serial),
    Project(ProjectId),
    Tunnel(String),
    Ticket(String),
    Domain(DomainName),
    Address(Option<IpAddr>),
    /// The coordinator itself, or the person at its machine.
    System,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(email) => write!(f, "account:{email}"),
            Self::Key(kind, serial) => write!(f, "{}:{}", kind.name(), serial.nonce()),
            Self::Project(id) => write!(f, "project:{id}"),
            Self::Tunnel(name) => write!(f, "tunnel:{name}"),
            Self::Ticket(id) => write!(f, "ticket:{id}"),
            Self::Domain(domain) => write!(f, "domain:{domain}"),
            Self::Address(Some(address)) => write!(f, "address:{address}"),
            Self::Address(None) => f.write_str("address:unknown"),
            Self::System => f.write_str("system:coordinator"),
        }
    }
}

/// A row to be.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) actor: Party,
    pub(crate) act: Act,
    pub(crate) subject: Party,
    pub(crate) project: Option<ProjectId>,
    /// A few words more; empty in most rows.
    pub(crate) detail: String,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) tenant: Option<String>,
    pub(crate) actor: String,
    pub(crate) act: String,
    pub(crate) subject: String,
    pub(crate) project: Option<String>,
    pub(crate) detail: String,
    pub(crate) hash: [u8; 32],
}

impl Row {
    /// The row that follows `previous`, with its hash.
    pub(crate) fn after(seq: u64, previous: &[u8; 32], entry: &Entry) -> Self {
        let mut row = Self {
            seq,
            at: entry.at,
            tenant: entry.tenant.as_ref().map(ToString::to_string),
            actor: entry.actor.to_string(),
            act: entry.act.name().to_owned(),
            subject: entry.subject.to_string(),
            project: entry.project.as_ref().map(ToString::to_string),
            detail: entry.detail.clone(),
            hash: [0; 32],
        };
        row.hash = row.expected(previous);
        row
    }

    fn expected(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(previous);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        let texts = [
            self.tenant.as_deref(),
            Some(&self.actor),
            Some(&self.act),
            Some(&self.subject),
            self.project.as_deref(),
            Some(&self.detail),
        ];
        for text in texts {
            // A missing field and an empty one hash differently; so do "ab","c" and "a","bc".
            hash.update([u8::from(text.is_some())]);
            let text = text.unwrap_or_default();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }
}

/// Follows the chain row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) seq: u64,
    pub(crate) hash: [u8; 32],
}

impl Chain {
    /// Before the first row.
    pub(crate) const START: Self = Self { seq: 0, hash: [0; 32] };

    /// Checks the next row and steps over it; `false` if the row is not what was once written there.
    pub(crate) fn accept(&mut self, row: &Row) -> bool {
        let fits = row.seq == self.seq + 1 && row.hash == row.expected(&self.hash);
        if fits {
            *self = Self { seq: row.seq, hash: row.hash };
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(detail: &str) -> Entry {
        Entry {
            at: 1_800_000_000,
            tenant: "ten_a".parse().ok(),
            actor: Party::Account("a@b.example".to_owned()),
            act: Act::ProjectCreate,
            subject: Party::Key(KeyKind::Master, Serial::from_bytes([7; 16])),
            project: "proj_a".parse().ok(),
            detail: detail.to_owned(),
        }
    }

    fn rows() -> Vec<Row> {
        let mut previous = Chain::START.hash;
        let rows = ["", "one", "two", "three"].iter().zip(1..).map(|(detail, seq)| {
            let row = Row::after(seq, &previous, &entry(detail));
            previous = row.hash;
            row
        });
        rows.collect()
    }

    fn first_bad(rows: &[Row]) -> Option<u64> {
        let mut chain = Chain::START;
        rows.iter().find(|row| !chain.accept(row)).map(|row| row.seq)
    }

    #[test]
    fn an_untouched_chain_holds() {
        assert_eq!(first_bad(&rows()), None);
    }

    #[test]
    fn any_edited_field_breaks_it_at_that_row() {
        let edits: [fn(&mut Row); 9] = [
            |row| row.seq = 9,
            |row| row.at += 1,
            |row| row.tenant = None,
            |row| row.actor = "account:x@b.example".to_owned(),
            |row| row.act = "login".to_owned(),
            |row| row.subject.push('0'),
            |row| row.project = Some("proj_b".to_owned()),
            |row| row.detail.clear(),
            |row| row.hash[31] ^= 1,
        ];
        for edit in edits {
            let mut rows = rows();
            edit(&mut rows[1]);
            let at = rows[1].seq;
            assert_eq!(first_bad(&rows), Some(at));
        }
    }

    #[test]
    fn a_row_taken_out_or_swapped_breaks_it() {
        let mut short = rows();
        short.remove(1);
        assert_eq!(first_bad(&short), Some(3));
        let mut swapped = rows();
        swapped.swap(1, 2);
        assert_eq!(first_bad(&swapped), Some(3));
    }

    #[test]
    fn text_cannot_move_between_fields() {
        let mut one = entry("");
        one.actor = Party::Account("ab".to_owned());
        let mut moved = Row::after(1, &[0; 32], &one);
        moved.actor.push_str("login");
        moved.act = String::new();
        assert_ne!(moved.expected(&[0; 32]), moved.hash);
    }

    #[test]
    fn parties_name_keys_by_their_nonce() {
        let party = Party::Key(KeyKind::Child, Serial::from_bytes([0xab; 16]));
        assert_eq!(party.to_string(), "child:abababababababab");
        assert_eq!(Party::Address(None).to_string(), "address:unknown");
    }
}
