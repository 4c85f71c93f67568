//! Sign-ins at other providers: those under way, the identities that came of them, and codes for terminals.

use mytunnel_sign_in::{Flow, Identity};
use zeroize::Zeroizing;

use super::sessions::of_session;
use super::sql::{Reading, Writing, params};
use super::{Account, Store, StoreError, column};
use crate::audit::{Act, Party};
use crate::authority::{self, Newcomer, NoEntry, NoLink, Refusal};

/// A sign-in that begins.
#[derive(Debug)]
pub(crate) struct NewSignIn {
    pub(crate) state: [u8; 32],
    pub(crate) cookie: [u8; 32],
    pub(crate) provider: String,
    pub(crate) flow: Flow,
    pub(crate) purpose: Purpose,
}

/// What a sign-in is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session in the browser.
    Browser,
    /// A session in the terminal that can open this challenge.
    Terminal([u8; 32]),
    /// One more way into the account of this session.
    Link(String),
    /// The account that the invitation with this hash is for.
    Invitation([u8; 32]),
    /// Another session of the account of this one, by a proof of this moment.
    Again(String),
}

/// An identity to be linked.
#[derive(Debug)]
pub(crate) struct NewLink {
    pub(crate) id: String,
    /// Where it was proven.
    pub(crate) provider: String,
}

/// A sign-in that was begun here.
#[derive(Debug)]
pub(crate) struct OpenSignIn {
    pub(crate) cookie: [u8; 32],
    pub(crate) provider: String,
    pub(crate) nonce: Zeroizing<String>,
    pub(crate) verifier: Zeroizing<String>,
    pub(crate) purpose: Purpose,
}

/// An identity that is linked to an account, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityRow {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) email: Option<String>,
    pub(crate) linked_at: u64,
    pub(crate) last_used_at: Option<u64>,
}

impl Store {
    /// Remembers a sign-in until the browser comes back.
    pub(crate) async fn begin_sign_in(&self, new: NewSignIn, now: u64) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM sign_ins WHERE expires_at <= $1", params![now])?;
                let open: u64 = writing.one("SELECT count(*) FROM sign_ins", params![], column::only)?;
                writing.change(
                    "DELETE FROM sign_ins WHERE state IN
                         (SELECT state FROM sign_ins ORDER BY expires_at, state LIMIT $1)",
                    params![(open + 1).saturating_sub(authority::MAX_SIGN_INS)],
                )?;
                let again = matches!(new.purpose, Purpose::Again(_));
                let (session, challenge, invitation) = match new.purpose {
                    Purpose::Browser => (None, None, None),
                    Purpose::Terminal(challenge) => (None, Some(challenge.to_vec()), None),
                    Purpose::Link(session) | Purpose::Again(session) => (Some(session), None, None),
                    Purpose::Invitation(code) => (None, None, Some(code.to_vec())),
                };
                writing.change(
                    "INSERT INTO sign_ins (state, cookie, provider, nonce, verifier, session, challenge, invitation,
                                           expires_at, again)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                    params![
                        new.state,
                        new.cookie,
                        new.provider,
                        new.flow.nonce.as_str(),
                        new.flow.verifier.as_str(),
                        session,
                        challenge,
                        invitation,
                        now + authority::SIGN_IN_LIFE,
                        again,
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Takes a sign-in out: whoever comes with that state a second time finds none.
    pub(crate) async fn take_sign_in(
        &self,
        state: [u8; 32],
        now: u64,
    ) -> Result<Option<OpenSignIn>, StoreError> {
        if !self.knows("SELECT EXISTS (SELECT 1 FROM sign_ins WHERE state = $1)", state).await? {
            return Ok(None);
        }
        self.engine
            .write(move |writing| {
                let found = writing.first(
                    "DELETE FROM sign_ins WHERE state = $1
                     RETURNING cookie, provider, nonce, verifier, session, challenge, invitation, expires_at, again",
                    params![state],
                    |row| {
                        let of_session = if row.get(8)? { Purpose::Again } else { Purpose::Link };
                        let session = row.get::<Option<String>>(4)?.map(of_session);
                        let terminal = row.get::<Option<[u8; 32]>>(5)?.map(Purpose::Terminal);
                        let invitation = row.get::<Option<[u8; 32]>>(6)?.map(Purpose::Invitation);
                        let purpose = session.or(terminal).or(invitation).unwrap_or(Purpose::Browser);
                        let open = OpenSignIn {
                            cookie: row.get(0)?,
                            provider: row.get(1)?,
                            nonce: Zeroizing::new(row.get(2)?),
                            verifier: Zeroizing::new(row.get(3)?),
                            purpose,
                        };
                        Ok((open, row.get::<u64>(7)?))
                    },
                )?;
                Ok(found.filter(|(_, end)| now < *end).map(|(open, _)| open))
            })
            .await
    }

    /// The account that an identity enters.
    pub(crate) async fn enter_by_identity(
        &self,
        identity: Identity,
        now: u64,
    ) -> Result<Result<Account, NoEntry>, StoreError> {
        self.engine
            .write(move |writing| {
                let linked = match writing.linked_to(&identity)? {
                    Some(id) => writing.account_by_id(&id)?,
                    None => None,
                };
                let has_account = match &identity.verified_email {
                    Some(email) => writing.one(
                        "SELECT EXISTS (SELECT 1 FROM accounts WHERE email = $1)",
                        params![email],
                        column::only,
                    )?,
                    None => false,
                };
                let newcomer = Newcomer {
                    linked: linked.is_some(),
                    verified: identity.verified_email.is_some(),
                    has_account,
                };
                match (authority::may_enter(newcomer), linked) {
                    (Err(refused), _) => Ok(Err(refused)),
                    (Ok(()), None) => Ok(Err(NoEntry::NoAccount)),
                    (Ok(()), Some(account)) => {
                        writing.change(
                            "UPDATE identities SET last_used_at = $1, email = $2 WHERE issuer = $3 AND subject = $4",
                            params![now, identity.shown_email, identity.issuer, identity.subject],
                        )?;
                        Ok(Ok(account))
                    }
                }
            })
            .await
    }

    /// Makes an identity a way into the account of a session.
    pub(crate) async fn link_identity(
        &self,
        link: NewLink,
        session: String,
        identity: Identity,
        now: u64,
    ) -> Result<Result<(), NoLink>, StoreError> {
        self.engine
            .write(move |writing| {
                let Some(account) = writing.account_of_standing_session(&session, now)? else {
                    return Ok(Err(NoLink::SessionOver));
                };
                let owner = writing.linked_to(&identity)?;
                let count = writing.identities_of(&account.id)?;
                if let Err(refused) = authority::may_link(&account.id, owner.as_deref(), count) {
                    return Ok(Err(refused));
                }
                if owner.is_some() {
                    return Ok(Ok(()));
                }
                writing.add_identity(&account, link, &identity, now)?;
                Ok(Ok(()))
            })
            .await
    }

    /// The account of a session that stands.
    pub(crate) async fn account_of_session(
        &self,
        session: String,
        now: u64,
    ) -> Result<Option<Account>, StoreError> {
        self.engine.read(move |reading| reading.account_of_standing_session(&session, now)).await
    }

    /// The identities of an account, the oldest first.
    pub(crate) async fn identities(&self, account: String) -> Result<Vec<IdentityRow>, StoreError> {
        self.engine
            .read(move |reading| {
                reading.all(
                    "SELECT id, provider, email, linked_at, last_used_at FROM identities
                     WHERE account = $1 ORDER BY linked_at, id",
                    params![account],
                    |row| {
                        Ok(IdentityRow {
                            id: row.get(0)?,
                            provider: row.get(1)?,
                            email: row.get(2)?,
                            linked_at: row.get(3)?,
                            last_used_at: row.get(4)?,
                        })
                    },
                )
            })
            .await
    }

    /// Takes an identity from its account.
    pub(crate) async fn unlink_identity(
        &self,
        account: String,
        id: String,
        now: u64,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.engine
            .write(move |writing| {
                let account = writing.account_by_id(&account)?;
                let provider: Option<String> = match &account {
                    Some(account) => writing.first(
                        "SELECT provider FROM identities WHERE id = $1 AND account = $2",
                        params![id, account.id],
                        column::only,
                    )?,
                    None => None,
                };
                let (Some(account), Some(provider)) = (account, provider) else {
                    return Ok(Err(Refusal::not_found("identity")));
                };
                let count = writing.identities_of(&account.id)?;
                if let Err(refused) = authority::may_unlink(!account.password.is_empty(), count) {
                    return Ok(Err(refused));
                }
                writing.change("DELETE FROM identities WHERE id = $1", params![id])?;
                let actor = Party::Account(account.email.clone());
                writing.audit(&of_session(&account, Act::IdentityUnlink, actor, provider, now))?;
                Ok(Ok(()))
            })
            .await
    }

    /// Keeps a code for the terminal; it takes the place of an earlier one of that account.
    pub(crate) async fn add_sign_in_code(
        &self,
        hash: [u8; 32],
        challenge: [u8; 32],
        account: String,
        proven_at: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        self.engine
            .write(move |writing| {
                writing.change("DELETE FROM sign_in_codes WHERE expires_at <= $1", params![now])?;
                writing.change("DELETE FROM sign_in_codes WHERE account = $1", params![account])?;
                writing.change(
                    "INSERT INTO sign_in_codes (hash, challenge, account, expires_at, proven_at)
                     VALUES ($1, $2, $3, $4, $5)",
                    params![hash, challenge, account, now + authority::CODE_LIFE, proven_at],
                )?;
                Ok(())
            })
            .await
    }

    /// Uses a code up; the account, if the terminal is the one that it is for, and when its person had proved who they are.
    pub(crate) async fn take_sign_in_code(
        &self,
        hash: [u8; 32],
        challenge: [u8; 32],
        now: u64,
    ) -> Result<Option<(Account, u64)>, StoreError> {
        if !self.knows("SELECT EXISTS (SELECT 1 FROM sign_in_codes WHERE hash = $1)", hash).await? {
            return Ok(None);
        }
        self.engine
            .write(move |writing| {
                let found = writing.first(
                    "DELETE FROM sign_in_codes WHERE hash = $1 RETURNING account, challenge, expires_at, proven_at",
                    params![hash],
                    |row| Ok((row.get::<String>(0)?, row.get::<[u8; 32]>(1)?, row.get::<u64>(2)?, row.get(3)?)),
                )?;
                match found {
                    Some((account, of, end, proven_at)) if of == challenge && now < end => {
                        Ok(writing.account_by_id(&account)?.map(|account| (account, proven_at)))
                    }
                    Some(_) | None => Ok(None),
                }
            })
            .await
    }
}

impl Reading<'_> {
    pub(super) fn linked_to(&self, identity: &Identity) -> Result<Option<String>, StoreError> {
        self.first(
            "SELECT account FROM identities WHERE issuer = $1 AND subject = $2",
            params![identity.issuer, identity.subject],
            column::only,
        )
    }

    fn account_of_standing_session(&self, session: &str, now: u64) -> Result<Option<Account>, StoreError> {
        let account: Option<String> = self.first(
            "SELECT account FROM sessions WHERE id = $1 AND expires_at > $2",
            params![session, now],
            column::only,
        )?;
        match account {
            Some(id) => self.account_by_id(&id),
            None => Ok(None),
        }
    }

    fn identities_of(&self, account: &str) -> Result<u64, StoreError> {
        self.one("SELECT count(*) FROM identities WHERE account = $1", params![account], column::only)
    }
}

impl Writing<'_> {
    pub(super) fn add_identity(
        &self,
        account: &Account,
        link: NewLink,
        identity: &Identity,
        now: u64,
    ) -> Result<(), StoreError> {
        self.change(
            "INSERT INTO identities (id, account, provider, issuer, subject, email, linked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            params![
                link.id,
                account.id,
                link.provider,
                identity.issuer,
                identity.subject,
                identity.shown_email,
                now
            ],
        )?;
        let actor = Party::Account(account.email.clone());
        self.audit(&of_session(account, Act::IdentityLink, actor, link.provider, now))
    }
}
