//! Sessions: how they begin, how they are kept alive, how they end. Tokens are known by their hashes only.

mod steps;

use std::net::IpAddr;
use std::sync::Arc;

use super::second_factor::CodeError;
use super::sql::{Reading, Row, params};
use super::{Account, Store, StoreError, column};
use crate::accounts::{TypedCode, Vault};
use crate::audit::{Act, Entry, Party};
use crate::authority::{self, First, Person, Proven, Rotation};

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
    /// When the person proved who they are.
    pub(crate) proven_at: u64,
    /// The session of the same person whose place it takes: when it is first renewed, because only then the browser has its
    /// cookie. A window that renews the old one a moment before would lose both.
    pub(crate) replaces: Option<String>,
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
                        writing.add_challenge(&account.id, first, challenge, session.replaces, now)?;
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
        if !self.knows("SELECT EXISTS (SELECT 1 FROM challenges WHERE hash = $1)", challenge).await? {
            return Ok(Err(ChallengeError::Unknown));
        }
        self.engine
            .write(move |writing| {
                writing.sweep_sessions(now)?;
                let Some((id, first, replaces)) = writing.challenge(&challenge, now)? else {
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
                let session = NewSession { replaces, ..session };
                writing.begin_session(&account, Proven { first, second: Some(second) }, session, now)?;
                Ok(Ok(account))
            })
            .await
    }

    /// Is there a row of that hash? What strangers make up is looked for before it is changed: it costs a look, and no
    /// place among those who write.
    pub(super) async fn knows(&self, sql: &'static str, hash: [u8; 32]) -> Result<bool, StoreError> {
        self.engine.read(move |reading| reading.one(sql, params![hash], column::only)).await
    }

    /// Whose access token that is, if it has not ended.
    pub(crate) async fn session(&self, access: [u8; 32], now: u64) -> Result<Option<Person>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.first(
                    "SELECT a.id, a.tenant, a.email, a.role, s.id, s.auth_time, s.proven, s.created_at
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
        if !self.knows("SELECT EXISTS (SELECT 1 FROM refresh_tokens WHERE hash = $1)", spent).await? {
            return Ok(None);
        }
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
                writing.end_session(&account, &session, actor, now)
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
        let find = move |reading: &Reading<'_>| {
            let mut found: Vec<String> = Vec::new();
            for (hash, sql) in [
                (access, "SELECT session FROM access_tokens WHERE hash = $1"),
                (refresh, "SELECT session FROM refresh_tokens WHERE hash = $1"),
            ] {
                let Some(hash) = hash else { continue };
                found.extend(reading.first(sql, params![hash], column::only)?);
            }
            Ok::<_, StoreError>(found)
        };
        let found = self.engine.read(find).await?;
        if found.is_empty() {
            return Ok(());
        }
        self.engine
            .write(move |writing| {
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
        began_at: row.get(7)?,
    })
}
