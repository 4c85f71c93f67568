//! Tickets for private shares: somebody without an account reaches one of them, once.

use std::net::IpAddr;

use mytunnel_keys::api;
use mytunnel_keys::id::Serial;
use mytunnel_keys::token::{Token, TokenError};
use zeroize::Zeroizing;

use crate::audit::{Act, Entry, Party};
use crate::authority::{self, Caller, Refusal};
use crate::delegation::minter;
use crate::http::ApiError;
use crate::random;
use crate::shared::Shared;
use crate::store::{Guest, LetIn, Looked, NewTicket, TicketRow};

impl Shared {
    /// Makes a ticket of the calling key.
    pub(crate) async fn issue_ticket(
        &self,
        caller: &Caller,
        asked: api::NewTicket,
    ) -> Result<api::Ticket, ApiError> {
        let parent = minter(caller)?.serial;
        let new = NewTicket {
            id: format!("tkt_{}", random::readable::<16>()?.to_ascii_lowercase()),
            digest: asked.digest,
            parent,
            project: asked.project,
            name: asked.name,
            within: asked.within,
            ttl: asked.ttl,
        };
        match self.store.issue_ticket(new, self.issuer.room(), self.clock.now()).await? {
            Ok(row) => Ok(shown(row, false)),
            Err(refusal) => {
                let party = caller.party();
                self.note_refused_act(caller, Act::MintRefused, party, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    /// Tickets of the keys that the caller may see.
    pub(crate) async fn tickets(&self, caller: &Caller) -> Result<api::Tickets, ApiError> {
        let reach = authority::reach_of_keys(caller)?;
        let rows = self.store.tickets(reach.tenant, self.issuer.room(), self.clock.now()).await?;
        let seen = rows.into_iter().filter(|(row, _)| {
            reach.project.as_ref().is_none_or(|own| *own == row.project)
                && reach.family.is_none_or(|own| own == row.parent)
        });
        Ok(api::Tickets { tickets: seen.map(|(row, is_void)| shown(row, is_void)).collect() })
    }

    /// Takes a ticket back.
    pub(crate) async fn withdraw_ticket(&self, caller: Caller, id: String) -> Result<(), ApiError> {
        Ok(self.store.withdraw_ticket(caller, id, self.clock.now()).await??)
    }

    /// Gives whoever shows a ticket the guest's key.
    pub(crate) async fn redeem(
        &self,
        asked: api::RedeemTicket,
        from: Option<IpAddr>,
    ) -> Result<api::TicketRedeemed, ApiError> {
        let text = Zeroizing::new(asked.ticket);
        let ticket = Token::parse(&text).and_then(Token::into_ticket).map_err(mistyped)?;
        let digest = ticket.secret.digest();
        let serial = Serial::from_bytes(random::bytes()?);
        let guest = Guest { digest, subject: asked.public_key, serial, address: from };
        let room = self.issuer.room();
        let Looked { ticket: row, decided } =
            self.store.look_at_ticket(guest, room, self.clock.now()).await?;
        let let_in = match decided {
            Ok(Some(again)) => {
                // Whoever has seen both the ticket and the guest's public key could have it signed without end.
                let counted = self.attempts().wrong_code(from, self.clock.now());
                counted.map_err(|wait| ApiError::TooMany(wait.0))?;
                Ok(again)
            }
            Ok(None) => self.store.redeem(guest, room, self.clock.now()).await?,
            Err(refusal) => Err(refusal),
        };
        match let_in {
            Ok(LetIn { key, name, from }) => Ok(api::TicketRedeemed { key: self.minted(key)?, name, from }),
            Err(refusal) => Err(self.refused_guest(row, from, refusal).await),
        }
    }

    /// What to say to a guest who is not let in: why, or to come back later.
    async fn refused_guest(
        &self,
        ticket: Option<TicketRow>,
        from: Option<IpAddr>,
        refusal: Refusal,
    ) -> ApiError {
        let now = self.clock.now();
        let counted = self.attempts().wrong_code(from, now);
        if let Err(wait) = counted {
            return ApiError::TooMany(wait.0);
        }
        let stranger = Party::Address(from);
        self.note_refusal(Entry {
            at: now,
            tenant: Some(ticket.as_ref().map_or(&self.home, |ticket| &ticket.tenant).clone()),
            actor: stranger.clone(),
            act: Act::TicketRefused,
            subject: ticket.as_ref().map_or(stranger, |ticket| Party::Ticket(ticket.id.clone())),
            project: ticket.map(|ticket| ticket.project),
            detail: refusal.code.name().to_owned(),
        })
        .await;
        refusal.into()
    }
}

fn mistyped(error: TokenError) -> ApiError {
    ApiError::refused(error.code(), error.to_string())
}

fn shown(row: TicketRow, is_void: bool) -> api::Ticket {
    api::Ticket {
        id: row.id,
        name: row.name,
        project: row.project,
        parent: row.parent.nonce(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        ttl: row.ttl,
        used_by: row.used_by.map(|guest| guest.nonce()),
        void: is_void,
    }
}
