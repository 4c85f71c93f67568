//! Sessions that are there: kept alive, shown, ended.

use std::net::IpAddr;

use mytunnel_keys::api;
use mytunnel_keys::error::Code;
use zeroize::Zeroizing;

use super::{SignedIn, access_hash, refresh_hash};
use crate::authority::{self, Caller, Refusal, Rotation};
use crate::http::ApiError;
use crate::shared::Shared;

/// What came of a refresh token.
#[derive(Debug)]
pub(crate) enum Renewed {
    /// A new pair; the old refresh token is spent.
    Pair(SignedIn),
    /// An access token: another tab has just got the pair, and shares the cookie.
    Access(Zeroizing<String>),
}

impl Shared {
    /// Keeps a session alive.
    pub(crate) async fn refresh(&self, token: &str, from: Option<IpAddr>) -> Result<Renewed, ApiError> {
        let now = self.clock.now();
        let (next, hashes) = SignedIn::fresh(now + self.limits.session.as_secs())?;
        let refused = |message| Err(ApiError::refused(Code::InvalidKey, message));
        match self.store.refresh(refresh_hash(token), hashes, from, now).await? {
            Some(Rotation::Next) => Ok(Renewed::Pair(next)),
            Some(Rotation::Raced) => Ok(Renewed::Access(next.access)),
            Some(Rotation::Reused) => refused(
                "this session was ended: its refresh token was used twice, so that somebody may have stolen it; sign in again",
            ),
            Some(Rotation::Over) | None => refused("this session has ended; sign in again"),
        }
    }

    /// Ends the session of either token.
    pub(crate) async fn log_out(&self, access: Option<&str>, refresh: Option<&str>) -> Result<(), ApiError> {
        let now = self.clock.now();
        Ok(self.store.log_out(access.map(access_hash), refresh.map(refresh_hash), now).await?)
    }

    /// The caller's own sessions.
    pub(crate) async fn sessions(&self, caller: &Caller) -> Result<api::Sessions, ApiError> {
        let account = authority::own_account(caller)?.to_owned();
        let current = current(caller);
        let rows = self.store.sessions(account, self.clock.now()).await?;
        let sessions = rows.into_iter().map(|row| api::SessionRow {
            current: current == Some(row.id.as_str()),
            id: row.id,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            address: row.address,
            agent: row.agent,
        });
        Ok(api::Sessions { sessions: sessions.collect() })
    }

    /// Ends one of the caller's own sessions.
    pub(crate) async fn end_session(&self, caller: &Caller, id: String) -> Result<(), ApiError> {
        let account = authority::own_account(caller)?.to_owned();
        let ended = self.store.end_session(account, id, caller.party(), self.clock.now()).await?;
        if ended { Ok(()) } else { Err(Refusal::not_found("session").into()) }
    }

    /// What the caller's account is.
    pub(crate) async fn me(&self, caller: &Caller) -> Result<api::Me, ApiError> {
        let account = authority::own_account(caller)?.to_owned();
        let standing = self.store.standing(account).await?.ok_or_else(|| Refusal::not_found("account"))?;
        Ok(api::Me {
            id: standing.account.id,
            email: standing.account.email,
            role: standing.account.role.name().to_owned(),
            tenant: standing.account.tenant,
            plan: standing.plan,
            mfa_enabled: standing.second_factor,
            recovery_codes_left: standing.recovery_codes,
        })
    }
}

fn current(caller: &Caller) -> Option<&str> {
    match caller {
        Caller::Account(person) => Some(&person.session),
        Caller::Key(_) => None,
    }
}
