//! The steps of the transactions on sessions.

use std::net::IpAddr;

use super::{NewSession, Tokens, of_session};
use crate::audit::{Act, Party};
use crate::authority::{self, First, Proven, Rotation};
use crate::store::sql::{Reading, Writing, params};
use crate::store::{Account, StoreError, column};

/// Access tokens of one session that are good at a time: one for each tab that refreshed in the same moment.
const MAX_ACCESS_TOKENS: u64 = 8;
/// Challenges of one account that wait for an answer; one more takes the place of the oldest.
const MAX_CHALLENGES: u64 = 10;

impl Writing<'_> {
    pub(super) fn sweep_sessions(&self, now: u64) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM sessions WHERE expires_at <= $1",
            "DELETE FROM access_tokens WHERE expires_at <= $1",
            "DELETE FROM challenges WHERE expires_at <= $1",
        ] {
            self.change(sql, params![now])?;
        }
        Ok(())
    }

    pub(super) fn add_challenge(
        &self,
        account: &str,
        first: First,
        challenge: [u8; 32],
        replaces: Option<String>,
        now: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "DELETE FROM challenges WHERE account = $1 AND hash NOT IN
                 (SELECT hash FROM challenges WHERE account = $1 ORDER BY expires_at DESC, hash LIMIT $2)",
            params![account, MAX_CHALLENGES - 1],
        )?;
        self.change(
            "INSERT INTO challenges (hash, account, first, expires_at, replaces) VALUES ($1, $2, $3, $4, $5)",
            params![challenge, account, first.to_string(), now + authority::CHALLENGE_LIFE, replaces],
        )?;
        Ok(())
    }

    /// The only way into a session: who calls it has looked at the second factor.
    pub(super) fn begin_session(
        &self,
        account: &Account,
        proven: Proven,
        session: NewSession,
        now: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "DELETE FROM sessions WHERE account = $1 AND id NOT IN
                 (SELECT id FROM sessions WHERE account = $1 ORDER BY last_used_at DESC, id LIMIT $2)",
            params![account.id, authority::MAX_SESSIONS - 1],
        )?;
        self.change(
            "INSERT INTO sessions (id, account, auth_time, proven, created_at, last_used_at, expires_at, rotations,
                                   address, agent, replaces)
             VALUES ($1, $2, $3, $4, $5, $5, $6, 0, $7, $8, $9)",
            params![
                session.id,
                account.id,
                session.proven_at,
                proven.to_string(),
                now,
                now + authority::SESSION_LIFE,
                session.visit.address.map(|address| address.to_string()),
                session.visit.agent,
                session.replaces,
            ],
        )?;
        self.add_access(&session.id, &session.tokens)?;
        self.add_refresh(&session.id, &session.tokens, now)?;
        self.change("UPDATE accounts SET last_login_at = $1 WHERE id = $2", params![now, account.id])?;
        let actor = Party::Account(account.email.clone());
        self.audit(&of_session(account, Act::Login, actor, proven.to_string(), now))
    }

    /// Ends the session whose place this one takes.
    fn replace(&self, session: &str, now: u64) -> Result<(), StoreError> {
        let before: Option<Option<String>> =
            self.first("SELECT replaces FROM sessions WHERE id = $1", params![session], column::only)?;
        let account = self.account_of_session(session)?;
        let (Some(before), Some(account)) = (before.flatten(), account) else { return Ok(()) };
        let actor = Party::Account(account.email.clone());
        self.end_session(&account, &before, actor, now).map(drop)
    }

    /// Ends one session of an account; says whether there was one.
    pub(super) fn end_session(
        &self,
        account: &Account,
        session: &str,
        actor: Party,
        now: u64,
    ) -> Result<bool, StoreError> {
        let ended =
            self.change("DELETE FROM sessions WHERE id = $1 AND account = $2", params![session, account.id])?;
        if ended > 0 {
            self.audit(&of_session(account, Act::SessionEnd, actor, String::new(), now))?;
        }
        Ok(ended > 0)
    }

    pub(super) fn add_access(&self, session: &str, tokens: &Tokens) -> Result<(), StoreError> {
        self.change(
            "DELETE FROM access_tokens WHERE session = $1 AND hash NOT IN
                 (SELECT hash FROM access_tokens WHERE session = $1 ORDER BY expires_at DESC, hash LIMIT $2)",
            params![session, MAX_ACCESS_TOKENS - 1],
        )?;
        self.change(
            "INSERT INTO access_tokens (hash, session, expires_at) VALUES ($1, $2, $3)",
            params![tokens.access, session, tokens.access_until],
        )?;
        Ok(())
    }

    pub(super) fn add_refresh(&self, session: &str, tokens: &Tokens, now: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO refresh_tokens (hash, session, expires_at) VALUES ($1, $2, $3)",
            params![tokens.refresh, session, now + authority::SESSION_IDLE],
        )?;
        Ok(())
    }

    pub(super) fn refresh(
        &self,
        spent: &[u8; 32],
        next: Tokens,
        from: Option<IpAddr>,
        now: u64,
    ) -> Result<Option<Rotation>, StoreError> {
        let found = self.first(
            "SELECT t.session, t.spent_at, t.expires_at, s.expires_at, s.rotations
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session WHERE t.hash = $1",
            params![spent],
            |row| {
                let end = row.get::<u64>(2)?.min(row.get(3)?);
                Ok((row.get::<String>(0)?, row.get::<Option<u64>>(1)?, end, row.get::<u64>(4)?))
            },
        )?;
        let Some((session, spent_at, end, rotations)) = found else { return Ok(None) };
        let rotation = authority::rotation(spent_at, end, rotations, now);
        match rotation {
            Rotation::Next => {
                self.change("UPDATE refresh_tokens SET spent_at = $1 WHERE hash = $2", params![now, spent])?;
                self.change(
                    "UPDATE sessions SET last_used_at = $1, rotations = rotations + 1 WHERE id = $2",
                    params![now, session],
                )?;
                self.add_access(&session, &next)?;
                self.add_refresh(&session, &next, now)?;
                if rotations == 0 {
                    self.replace(&session, now)?;
                }
            }
            Rotation::Raced => self.add_access(&session, &next)?,
            Rotation::Reused => {
                if let Some(account) = self.account_of_session(&session)? {
                    let actor = Party::Address(from);
                    self.audit(&of_session(&account, Act::SessionReuse, actor, String::new(), now))?;
                }
                self.change("DELETE FROM sessions WHERE id = $1", params![session])?;
            }
            Rotation::Over => drop(self.change("DELETE FROM sessions WHERE id = $1", params![session])?),
        }
        Ok(Some(rotation))
    }

    /// Ends every session of an account but one.
    pub(in crate::store) fn end_other_sessions(
        &self,
        account: &str,
        but: Option<&str>,
    ) -> Result<usize, StoreError> {
        self.change("DELETE FROM challenges WHERE account = $1", params![account])?;
        self.change(
            "DELETE FROM sessions WHERE account = $1 AND id <> $2",
            params![account, but.unwrap_or_default()],
        )
    }
}

impl Reading<'_> {
    /// The account that is half signed in, by what it did that, and the session whose place the new one takes.
    pub(super) fn challenge(
        &self,
        hash: &[u8; 32],
        now: u64,
    ) -> Result<Option<(String, First, Option<String>)>, StoreError> {
        self.first(
            "SELECT account, first, replaces FROM challenges WHERE hash = $1 AND expires_at > $2",
            params![hash, now],
            |row| Ok((row.get(0)?, column::parsed(row, 1)?, row.get(2)?)),
        )
    }

    pub(super) fn account_of_session(&self, session: &str) -> Result<Option<Account>, StoreError> {
        let id: Option<String> =
            self.first("SELECT account FROM sessions WHERE id = $1", params![session], column::only)?;
        match id {
            Some(id) => self.account_by_id(&id),
            None => Ok(None),
        }
    }
}
