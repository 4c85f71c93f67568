//! Sessions: how they begin, how they are kept alive, how they end. Tokens are known by their hashes only.

use std::net::IpAddr;
use std::sync::Arc;

use super::second_factor::CodeError;
use super::sql::{Reading, Row, Writing, params};
use super::{Account, Store, StoreError, column};
use crate::accounts::{TypedCode, Vault};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, First, Person, Proven, Rotation};

/// Access tokens of one session that are good at a time: one for each tab that refreshed in the same moment.
const MAX_ACCESS_TOKENS: u64 = 8;
/// Challenges of one account that wait for an answer; one more takes the place of the oldest.
const MAX_CHALLENGES: u64 = 10;

/// From where somebody signs in, as they see it later in the list of their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) address: Option<IpAddr>,
    pub(crate) agent: String,
}

/// A session to be.
#[derive(Debug, Clone)]
pub(crate) struct NewSession {
    pub(crate) id: String,
    pub(crate) tokens: Tokens,
    pub(crate) visit: Visit,
}

/// The hashes of a pair of tokens, and when the first of them ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    pub(crate) access: [u8; 32],
    pub(crate) access_until: u64,
    pub(crate) refresh: [u8; 32],
}

/// What became of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// A session has begun.
    Session,
    /// The account has a second factor, which is due.
    Challenge,
    /// There is no such account any more.
    Gone,
}

/// Why a challenge was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChallengeError {
    /// There is none: never made, answered before, or too old.
    Unknown,
    /// Its account did not prove the second factor.
    Code(Account, CodeError),
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) created_at: u64,
    pub(crate) last_used_at: u64,
    pub(crate) address: Option<String>,
    pub(crate) agent: String,
}

impl Store {
    /// Lets somebody in whose identity was proven once: into a session, or to the second factor if there is one. Both
    /// are decided here, in one transaction, so that no way of signing in can miss the second factor.
    pub(crate) async fn enter(
        &self,
        account: Account,
        first: First,
        session: NewSession,
        challenge: [u8; 32],
        now: u64,
    ) -> Result<Entrance, StoreError> {
        self.engine
            .write(move |writing| {
                writing.sweep_sessions(now)?;
                match writing.account_and_factor(&account.id)? {
                    None => Ok(Entrance::Gone),
                    Some((_, factor)) if factor.is_on() => {
                        writing.add_challenge(&account.id, first, challenge, now)?;
                        Ok(Entrance::Challenge)
                    }
                    Some((account, _)) => {
                        writing.begin_session(&account, Proven { first, second: None }, session, now)?;
                        Ok(Entrance::Session)
                    }
                }
            })
            .await
    }

    /// Answers a challenge: it and the code are used up, and a session begins.
    pub(crate) async fn answer_challenge(
        &self,
        vault: Arc<Vault>,
        challenge: [u8; 32],
        code: Option<TypedCode>,
        session: NewSession,
        now: u64,
    ) -> Result<Result<Account, ChallengeError>, StoreError> {
        self.engine
            .write(move |writing| {
                writing.sweep_sessions(now)?;
                let Some((id, first)) = writing.challenge(&challenge, now)? else {
                    return Ok(Err(ChallengeError::Unknown));
                };
                let Some(account) = writing.account_by_id(&id)? else {
                    return Ok(Err(ChallengeError::Unknown));
                };
                let second = match writing.spend_code(&vault, &id, code.as_ref(), now)? {
                    Ok(second) => second,
                    Err(error) => return Ok(Err(ChallengeError::Code(account, error))),
                };
                writing.change("DELETE FROM challenges WHERE hash = $1", params![challenge])?;
                writing.begin_session(&account, Proven { first, second: Some(second) }, session, now)?;
                Ok(Ok(account))
            })
            .await
    }

    /// Whose access token that is, if it has not ended.
    pub(crate) async fn session(&self, access: [u8; 32], now: u64) -> Result<Option<Person>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.first(
                    "SELECT a.id, a.tenant, a.email, a.role, s.id, s.auth_time, s.proven
                     FROM access_tokens t JOIN sessions s ON s.id = t.session JOIN accounts a ON a.id = s.account
                     WHERE t.hash = $1 AND t.expires_at > $2 AND s.expires_at > $2",
                    params![access, now],
                    person,
                )
            })
            .await
    }

    /// Exchanges a refresh token for a new pair; none if there is no such token.
    pub(crate) async fn refresh(
        &self,
        spent: [u8; 32],
        next: Tokens,
        from: Option<IpAddr>,
        now: u64,
    ) -> Result<Option<Rotation>, StoreError> {
        self.engine.write(move |writing| writing.refresh(&spent, next, from, now)).await
    }

    /// Sessions of an account, the last used first.
    pub(crate) async fn sessions(&self, account: String, now: u64) -> Result<Vec<SessionRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT id, created_at, last_used_at, address, agent FROM sessions
                     WHERE account = $1 AND expires_at > $2 AND last_used_at > $3
                     ORDER BY last_used_at DESC, id",
                    params![account, now, now.saturating_sub(authority::SESSION_IDLE)],
                    |row| {
                        Ok(SessionRow {
                            id: row.get(0)?,
                            created_at: row.get(1)?,
                            last_used_at: row.get(2)?,
                            address: row.get(3)?,
                            agent: row.get(4)?,
                        })
                    },
                )
            })
            .await
    }

    /// Ends one session of an account; says whether there was one.
    pub(crate) async fn end_session(
        &self,
        account: String,
        session: String,
        actor: Party,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.engine
            .write(move |writing| {
                let Some(account) = writing.account_by_id(&account)? else { return Ok(false) };
                let ended = writing.change(
                    "DELETE FROM sessions WHERE id = $1 AND account = $2",
                    params![session, account.id],
                )?;
                if ended > 0 {
                    writing.audit(&of_session(&account, Act::SessionEnd, actor, String::new(), now))?;
                }
                Ok(ended > 0)
            })
            .await
    }

    /// Ends the session that either token belongs to; one that has ended stays so.
    pub(crate) async fn log_out(
        &self,
        access: Option<[u8; 32]>,
        refresh: Option<[u8; 32]>,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                let mut found = Vec::new();
                if let Some(hash) = access {
                    let sql = "SELECT session FROM access_tokens WHERE hash = $1";
                    found.extend(writing.first(sql, params![hash], column::only::<String>)?);
                }
                if let Some(hash) = refresh {
                    let sql = "SELECT session FROM refresh_tokens WHERE hash = $1";
                    found.extend(writing.first(sql, params![hash], column::only::<String>)?);
                }
                for session in found {
                    // Both tokens may be of one session.
                    let Some(account) = writing.account_of_session(&session)? else { continue };
                    writing.change("DELETE FROM sessions WHERE id = $1", params![session])?;
                    let actor = Party::Account(account.email.clone());
                    writing.audit(&of_session(&account, Act::Logout, actor, String::new(), now))?;
                }
                Ok(())
            })
            .await
    }
}

impl Writing<'_> {
    fn sweep_sessions(&self, now: u64) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM sessions WHERE expires_at <= $1",
            "DELETE FROM access_tokens WHERE expires_at <= $1",
            "DELETE FROM challenges WHERE expires_at <= $1",
        ] {
            self.change(sql, params![now])?;
        }
        Ok(())
    }

    fn add_challenge(
        &self,
        account: &str,
        first: First,
        challenge: [u8; 32],
        now: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "DELETE FROM challenges WHERE account = $1 AND hash NOT IN
                 (SELECT hash FROM challenges WHERE account = $1 ORDER BY expires_at DESC, hash LIMIT $2)",
            params![account, MAX_CHALLENGES - 1],
        )?;
        self.change(
            "INSERT INTO challenges (hash, account, first, expires_at) VALUES ($1, $2, $3, $4)",
            params![challenge, account, first.to_string(), now + authority::CHALLENGE_LIFE],
        )?;
        Ok(())
    }

    /// The only way into a session: who calls it has looked at the second factor.
    fn begin_session(
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
                                   address, agent)
             VALUES ($1, $2, $3, $4, $3, $3, $5, 0, $6, $7)",
            params![
                session.id,
                account.id,
                now,
                proven.to_string(),
                now + authority::SESSION_LIFE,
                session.visit.address.map(|address| address.to_string()),
                session.visit.agent,
            ],
        )?;
        self.add_access(&session.id, &session.tokens)?;
        self.add_refresh(&session.id, &session.tokens, now)?;
        self.change("UPDATE accounts SET last_login_at = $1 WHERE id = $2", params![now, account.id])?;
        let actor = Party::Account(account.email.clone());
        self.audit(&of_session(account, Act::Login, actor, proven.to_string(), now))
    }

    fn add_access(&self, session: &str, tokens: &Tokens) -> Result<(), StoreError> {
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

    fn add_refresh(&self, session: &str, tokens: &Tokens, now: u64) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO refresh_tokens (hash, session, expires_at) VALUES ($1, $2, $3)",
            params![tokens.refresh, session, now + authority::SESSION_IDLE],
        )?;
        Ok(())
    }

    fn refresh(
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
    pub(super) fn end_other_sessions(&self, account: &str, but: Option<&str>) -> Result<usize, StoreError> {
        self.change("DELETE FROM challenges WHERE account = $1", params![account])?;
        self.change(
            "DELETE FROM sessions WHERE account = $1 AND id <> $2",
            params![account, but.unwrap_or_default()],
        )
    }
}

impl Reading<'_> {
    fn challenge(&self, hash: &[u8; 32], now: u64) -> Result<Option<(String, First)>, StoreError> {
        self.first(
            "SELECT account, first FROM challenges WHERE hash = $1 AND expires_at > $2",
            params![hash, now],
            |row| Ok((row.get(0)?, column::parsed(row, 1)?)),
        )
    }

    fn account_of_session(&self, session: &str) -> Result<Option<Account>, StoreError> {
        let id: Option<String> =
            self.first("SELECT account FROM sessions WHERE id = $1", params![session], column::only)?;
        match id {
            Some(id) => self.account_by_id(&id),
            None => Ok(None),
        }
    }
}

/// A row about a session, or about what guards sessions.
pub(super) fn of_session(account: &Account, act: Act, actor: Party, detail: String, now: u64) -> Entry {
    Entry {
        at: now,
        tenant: Some(account.tenant.clone()),
        actor,
        act,
        subject: Party::Account(account.email.clone()),
        project: None,
        detail,
    }
}

fn person(row: &Row<'_>) -> Result<Person, StoreError> {
    Ok(Person {
        id: row.get(0)?,
        tenant: column::parsed(row, 1)?,
        email: row.get(2)?,
        role: column::parsed(row, 3)?,
        session: row.get(4)?,
        auth_time: row.get(5)?,
        proven: column::parsed(row, 6)?,
    })
}
